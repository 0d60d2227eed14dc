import { Severity, type StoredEvent, StoredEventSchema } from "@pulsewire/sdk";
import type { Command } from "../command.ts";
import { following } from "../following.ts";
import { write } from "../io.ts";
import { plain, printJson, timeText, word } from "../output.ts";
import { parseWord, wordsOf } from "../values.ts";

export const tail: Command = {
  name: "tail",
  summary: "shows events as they are committed",
  details: "Goes on over restarts and cut lines, without gap and without repeat, until Ctrl-C.",
  options: {
    type: { type: "string", multiple: true, value: "TYPE", help: "only events of this type" },
    user: { type: "string", value: "ID", help: "only those of this user" },
    session: { type: "string", value: "ID", help: "only those of this session" },
    service: { type: "string", value: "NAME", help: "only those from this service" },
    severity: {
      type: "string",
      value: "WORD",
      values: wordsOf(Severity),
      help: "only those of this severity or worse",
    },
    backlog: {
      type: "string",
      short: "n",
      value: "COUNT",
      help: "first show this many of the latest; 10 unless given",
    },
    limit: { type: "string", value: "COUNT", help: "end after this many" },
    cursor: { type: "string", value: "CURSOR", help: "go on after this cursor of an earlier run" },
    "show-cursor": { type: "boolean", help: "at the end print the cursor to go on from, on standard error" },
  },
  examples: [
    "pulsewire tail --type order_paid",
    "pulsewire tail --json --severity error | jq .event.message",
  ],
  async run(call) {
    const { args, io, json } = call;
    const backlog = args.number("backlog", 0, 1000) ?? 10;
    const limit = args.number("limit", 1, Number.MAX_SAFE_INTEGER) ?? Number.POSITIVE_INFINITY;
    const severity = args.text("severity");
    const filter = {
      eventTypes: args.list("type"),
      userId: args.text("user") ?? "",
      sessionId: args.text("session") ?? "",
      sourceService: args.text("service") ?? "",
      minSeverity: severity ? parseWord("--severity", severity, Severity) : Severity.UNSPECIFIED,
    };
    const client = await call.open();
    let shown = 0;
    let cursor = args.text("cursor") ?? "";
    try {
      const request = { filter, cursor, backlog: cursor ? 0 : Math.min(backlog, limit) };
      for await (const message of following(io, client.ingestion.watchEvents, request)) {
        for (const event of message.events.slice(0, limit - shown)) {
          shown++;
          if (json) await printJson(io, StoredEventSchema, event);
          else await write(io.stdout, `${lineOf(event)}\n`);
        }
        cursor = message.cursor;
        if (shown >= limit) break;
      }
    } finally {
      if (args.flag("show-cursor")) await write(io.stderr, `${cursor}\n`);
    }
    return undefined;
  },
};

function lineOf({ event, receivedAt }: StoredEvent): string {
  if (!event) return "";
  const { severity, eventType, userId, title, message, payload } = event;
  const parts = [
    timeText(event.timestamp ?? receivedAt),
    word(Severity, severity).padEnd(8),
    eventType,
    userId && `user=${userId}`,
    title || message,
    payload && JSON.stringify(payload),
  ];
  return plain(parts.filter(Boolean).join("  "));
}
