import { parseArgs } from "node:util";
import { Failure } from "./failure.ts";

/** What the demo was asked to do. */
export interface Options {
  /** The log or NDJSON file to send; none: one is looked for. */
  file: string | undefined;
  /** How long this machine is read, in seconds. */
  seconds: number;
  /** Most lines of the file that are sent. */
  lines: number;
  /** Show an outage of the network of so many seconds instead. */
  outage: number | undefined;
}

/** What `--help` prints. */
export const usage = `Sends this machine's readings and the lines of a log file to Pulsewire, and reads them back.

  npm run demo -- [file] [--seconds 5] [--lines 20000]

file       a log file, or NDJSON with one object a line; looked for on this machine where none is given
--seconds  how long CPU, memory, disk and network are read
--lines    how many lines are sent at most

  npm run demo -- --outage 60

shows instead what becomes of a gateway without network for so many seconds: it sends a reading every second, its store goes
offline, alerts, is acknowledged and recovers, and nothing is missing afterwards.

The server is the one that PULSEWIRE_ENDPOINT and PULSEWIRE_API_KEY name, or the one that \`npm start\` runs here;
where neither is there, one is started for the time of the demo.
`;

/** Reads the arguments; `undefined` where help is asked for. */
export function parseOptions(args: string[]): Options | undefined {
  let parsed: ReturnType<typeof parse>;
  try {
    parsed = parse(args);
  } catch (error) {
    throw new Failure(`${(error as Error).message} See --help.`);
  }
  const { values, positionals } = parsed;
  if (values.help) return undefined;
  if (positionals.length > 1) throw new Failure(`One file at a time, not ${positionals.length}. See --help.`);
  return {
    file: positionals[0],
    seconds: positive("--seconds", values.seconds, 3600),
    lines: Math.floor(positive("--lines", values.lines, 10_000_000)),
    outage: values.outage === undefined ? undefined : positive("--outage", values.outage, 3600),
  };
}

function parse(args: string[]) {
  return parseArgs({
    args,
    allowPositionals: true,
    options: {
      help: { type: "boolean", short: "h", default: false },
      seconds: { type: "string", default: "5" },
      lines: { type: "string", default: "20000" },
      outage: { type: "string" },
    },
  });
}

function positive(name: string, text: string, most: number): number {
  const value = Number(text);
  if (!(value >= 1 && value <= most)) throw new Failure(`${name} must be a number from 1 to ${most}.`);
  return value;
}
