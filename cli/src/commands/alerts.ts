import { type Alert, AlertSchema, AlertSeverity, AlertState, pages } from "@pulsewire/sdk";
import type { Call, Command } from "../command.ts";
import { exitCodes } from "../failure.ts";
import { following } from "../following.ts";
import { write } from "../io.ts";
import { plain, printFacts, printJson, printList, timeText, word } from "../output.ts";
import { parseMoment, parseWord, wordsOf } from "../values.ts";

const list: Command = {
  name: "list",
  summary: "lists alerts that are not resolved, newest first",
  options: {
    state: {
      type: "string",
      multiple: true,
      value: "WORD",
      values: wordsOf(AlertState),
      help: "only those in this state, also resolved ones",
    },
    store: { type: "string", value: "ID", help: "only those of this store" },
    rule: { type: "string", value: "ID", help: "only those of this rule" },
    severity: {
      type: "string",
      value: "WORD",
      values: wordsOf(AlertSeverity),
      help: "only those of this severity or worse",
    },
  },
  async run(call) {
    const { args } = call;
    const severity = args.text("severity");
    const request = {
      pageSize: 1000,
      states: args.list("state").map((state) => parseWord("--state", state, AlertState)),
      storeId: args.text("store") ?? "",
      ruleId: args.text("rule") ?? "",
      ...(severity && { minSeverity: parseWord("--severity", severity, AlertSeverity) }),
    };
    const found = pages((await call.open()).metrics.listAlerts, request);
    await printList(call, AlertSchema, found, ({ alerts }) => alerts, {
      head: ["id", "state", "severity", "rule", "value", "since", "message"],
      row: rowOf,
      none: "There are no such alerts.",
    });
    return undefined;
  },
};

const watch: Command = {
  name: "watch",
  summary: "shows open alerts, then each change",
  details: "Goes on over restarts and cut lines, without a missed change, until Ctrl-C.",
  options: {
    store: { type: "string", value: "ID", help: "only those of this store" },
    limit: { type: "string", value: "COUNT", help: "end after this many changes" },
  },
  async run(call) {
    const { args, io, json } = call;
    const limit = args.number("limit", 1, Number.MAX_SAFE_INTEGER) ?? Number.POSITIVE_INFINITY;
    const client = await call.open();
    const request = { storeId: args.text("store") ?? "" };
    let shown = 0;
    for await (const { alerts } of following(io, client.metrics.watchAlerts, request)) {
      for (const alert of alerts.slice(0, limit - shown)) {
        shown++;
        if (json) await printJson(io, AlertSchema, alert);
        else await write(io.stdout, `${rowOf(alert).join("  ")}\n`);
      }
      if (shown >= limit) break;
    }
    return undefined;
  },
};

const get: Command = {
  name: "get",
  operands: "ID",
  maxOperands: 1,
  summary: "shows one alert",
  async run(call) {
    const { alert } = await (await call.open()).metrics.getAlert({ alertId: call.args.operand(0, "ID") });
    return show(call, alert);
  },
};

const ack: Command = {
  name: "ack",
  operands: "ID",
  maxOperands: 1,
  summary: "says that somebody is at an alert",
  options: {
    note: { type: "string", help: "what to tell the others" },
    until: {
      type: "string",
      value: "TIME",
      help: "when it fires again, such as 2h; unless given, not before it is resolved",
    },
  },
  async run(call) {
    const { args } = call;
    const until = args.text("until");
    const { alert } = await (await call.open()).metrics.acknowledgeAlert({
      alertId: args.operand(0, "ID"),
      note: args.text("note") ?? "",
      ...(until && { until: parseMoment("--until", until, 1) }),
    });
    return show(call, alert);
  },
};

export const alerts: Command = {
  name: "alerts",
  summary: "alerts: what is wrong now",
  fallback: "list",
  subcommands: [list, watch, get, ack],
};

function rowOf(alert: Alert): string[] {
  return [
    alert.id,
    word(AlertState, alert.state),
    word(AlertSeverity, alert.severity),
    plain(alert.ruleName),
    alert.value === undefined ? "-" : String(alert.value),
    timeText(alert.startedAt),
    plain(alert.message),
  ];
}

async function show({ io, json }: Call, alert: Alert | undefined): Promise<number | undefined> {
  if (!alert) return exitCodes.notFound;
  if (json) await printJson(io, AlertSchema, alert);
  else {
    await printFacts(io, {
      Id: alert.id,
      State: word(AlertState, alert.state),
      Severity: word(AlertSeverity, alert.severity),
      Rule: plain(alert.ruleName),
      Metric: plain(alert.metricName),
      Store: alert.storeId,
      Value: alert.value === undefined ? "" : String(alert.value),
      Message: plain(alert.message),
      Since: timeText(alert.startedAt),
      "Somebody at it": alert.acknowledgement
        ? `since ${timeText(alert.acknowledgement.at)} ${plain(alert.acknowledgement.note)}`
        : "",
    });
  }
  return undefined;
}
