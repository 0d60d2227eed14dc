import { type LogLine, LogLineSchema, LogStream } from "@pulsewire/sdk";
import type { Command } from "../command.ts";
import { exitCodes, Failure } from "../failure.ts";
import { following } from "../following.ts";
import { write } from "../io.ts";
import { plain, printJson, timeText } from "../output.ts";
import { parseMoment } from "../values.ts";

export const logs: Command = {
  name: "logs",
  operands: "[FUNCTION]",
  maxOperands: 1,
  summary: "shows the log of a function or an invocation",
  details: `With -f it goes on with new lines, over restarts of the server, the function and its containers, without gap and
without repeat, and ends with the invocation where one is named.`,
  options: {
    follow: { type: "boolean", short: "f", help: "go on with new lines" },
    tail: {
      type: "string",
      short: "n",
      value: "COUNT|all",
      help: "begin with this many lines; 100 unless given",
    },
    since: {
      type: "string",
      value: "TIME",
      help: "only lines since then, such as 15m or 2026-03-01T12:00:00Z",
    },
    invocation: { type: "string", value: "ID", help: "only lines of this invocation" },
    replica: { type: "string", value: "NAME", help: "only lines of this container" },
    stream: {
      type: "string",
      value: "stdout|stderr",
      values: ["stdout", "stderr"],
      help: "only lines of one stream",
    },
    timestamps: { type: "boolean", short: "t", help: "put the time and the container before each line" },
  },
  examples: ["pulsewire logs report -f", "pulsewire logs --invocation 0198f0c2-… --json"],
  async run(call) {
    const { args, io, json } = call;
    const name = args.operands[0] ?? "";
    const invocationId = args.text("invocation") ?? "";
    if (!name && !invocationId) throw new Failure("Name a function, or give --invocation.", exitCodes.usage);
    const since = args.text("since");
    const tail = args.text("tail") === "all" ? -1 : args.number("tail", 0, 100_000);
    const stream = args.choice("stream", ["stdout", "stderr"]);
    const request = {
      name,
      invocationId,
      follow: args.flag("follow"),
      replica: args.text("replica") ?? "",
      ...(tail !== undefined && { tail }),
      ...(since && { since: parseMoment("--since", since, -1) }),
      ...(stream && { stream: stream === "stdout" ? LogStream.STDOUT : LogStream.STDERR }),
    };
    const client = await call.open();
    for await (const { lines } of following(io, client.functions.streamLogs, request)) {
      for (const line of lines) {
        if (json) await printJson(io, LogLineSchema, line);
        else await write(io.stdout, `${textOf(line, args.flag("timestamps"))}${line.continues ? "" : "\n"}`);
      }
    }
    return undefined;
  },
};

function textOf({ text, time, replica }: LogLine, timestamps: boolean): string {
  return plain(timestamps ? `${timeText(time)} ${replica}  ${text}` : text);
}
