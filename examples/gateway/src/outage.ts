/** `--outage`: the gateway loses its network; its store goes offline, alerts, is acknowledged and recovers, with no gap in the history. */
import { setTimeout as sleep } from "node:timers/promises";
import {
  AlertState,
  createGateway,
  durationFromMs,
  type Gateway,
  type PulsewireClient,
  StoreState,
  timestampDate,
} from "@pulsewire/sdk";
import { Failure } from "./failure.ts";
import { layLine } from "./line.ts";
import { ensureStore, querySamples } from "./read-back.ts";
import { Machine } from "./readings.ts";
import type { Server } from "./server.ts";
import { count, table } from "./terminal.ts";

/** A reading every second: a store that is silent for three of them is offline. */
const readingIntervalMs = 1_000;
const silenceMs = 3_000;
/** The metric that is missed. Each reading has it. */
const metricName = "memory_usage";
const ruleName = "The demo's gateway is silent";
const lookIntervalMs = 200;
/** How long a step may take. */
const patienceMs = 30_000;

const print = (text: string) => process.stdout.write(text);

/** Shows an outage of so many seconds. Throws a {@link Failure} where a step does not come or a reading is missing. */
export async function showOutage(
  client: PulsewireClient,
  { endpoint, apiKey }: Server,
  store: string,
  seconds: number,
): Promise<void> {
  const storeId = await ensureStore(client, store, { expectedInterval: durationFromMs(readingIntervalMs) });
  const ruleId = await ensureRule(client, storeId);
  await using line = await layLine(endpoint);
  await using gateway = createGateway({
    endpoint: line.endpoint,
    apiKey,
    storeId,
    whenFull: "wait",
    retry: { maxDelayMs: 2_000 },
  });
  const started = Date.now();
  const tell = (text: string) =>
    print(`  ${((Date.now() - started) / 1_000).toFixed(1).padStart(6)} s  ${text}\n`);
  const readings = keepReading(gateway);
  const { metrics } = client;
  const status = () => metrics.getStoreStatus({ storeId });
  const untilState = (state: StoreState) =>
    until(`the store to be ${StoreState[state]}`, async () => {
      const now = await status();
      return now.state === state ? now : undefined;
    });
  const untilAlert = (state: AlertState) =>
    until(`the alert to be ${AlertState[state]}`, async () => {
      const { alerts } = await metrics.listAlerts({ ruleId, states: [state], pageSize: 1 });
      const [alert] = alerts;
      return alert?.firedAt && timestampDate(alert.firedAt).getTime() > started ? alert : undefined;
    });

  print(`A reading every second, and after a while no network for ${seconds} seconds:\n\n`);
  try {
    await untilState(StoreState.ONLINE);
    tell("the store is online");
    await sleep(2 * readingIntervalMs);
    await line.cut();
    const cutAt = Date.now();
    tell("the network is gone");
    tell(`the store is offline: ${(await untilState(StoreState.OFFLINE)).reason}`);
    const { id: alertId, message } = await untilAlert(AlertState.FIRING);
    tell(`an alert fires: ${message}`);
    await metrics.acknowledgeAlert({ alertId, note: "looking at the router" });
    await untilAlert(AlertState.ACKNOWLEDGED);
    tell("it is acknowledged: looking at the router");
    await sleep(cutAt + 1_000 * seconds - Date.now());
    const { pending } = gateway.counts.samples;
    await line.mend();
    tell(`the network is back; the gateway holds ${count(pending)} samples`);
    await untilAlert(AlertState.RESOLVED);
    tell("the alert is resolved");
    await untilState(StoreState.ONLINE);
    tell("the store is online again");
    const { transitions } = await metrics.getAlert({ alertId });
    print(`\nThe alert: ${transitions.map(({ to }) => AlertState[to].toLowerCase()).join(" → ")}\n`);
  } finally {
    await readings.stop();
  }
  const series = await querySamples(client, storeId, started, Date.now() + 1);
  print(
    `${historyReport(readings.times, series.find(({ name }) => name === metricName)?.timestampsMs ?? [])}\n`,
  );
}

/** Reads this machine and sends it until it is stopped. */
function keepReading(gateway: Gateway) {
  const machine = new Machine();
  const times: number[] = [];
  const ended = new AbortController();
  const run = async () => {
    for (let next = performance.now(); !ended.signal.aborted; next += readingIntervalMs) {
      const timestamp = Date.now();
      for (const { name, value, unit, labels = {} } of await machine.read())
        await gateway.metric(name, value, { unit, labels, timestamp });
      times.push(timestamp);
      // Its end is no error.
      await sleep(Math.max(0, next + readingIntervalMs - performance.now()), undefined, ended).catch(
        () => {},
      );
    }
    await gateway.flush();
  };
  const running = run();
  running.catch(() => {});
  return {
    /** When it was read. */
    times: times as readonly number[],
    async stop() {
      ended.abort();
      await running;
    },
  };
}

async function ensureRule({ metrics }: PulsewireClient, storeId: string): Promise<string> {
  const { rules } = await metrics.listAlertRules({ storeId, pageSize: 1_000 });
  const known = rules.find(({ spec }) => spec?.name === ruleName);
  if (known) return known.id;
  const { rule } = await metrics.createAlertRule({
    spec: {
      name: ruleName,
      storeId,
      metricName,
      condition: { case: "absence", value: { duration: durationFromMs(silenceMs) } },
      message: "{{store}} sends no readings",
    },
  });
  return rule?.id ?? "";
}

async function until<T>(what: string, look: () => Promise<T | undefined>): Promise<T> {
  for (const end = Date.now() + patienceMs; ; await sleep(lookIntervalMs)) {
    const found = await look();
    if (found !== undefined) return found;
    if (Date.now() > end) throw new Failure(`Waited ${patienceMs / 1_000} seconds for ${what}.`);
  }
}

/** Compares what was read with what is stored. */
function historyReport(read: readonly number[], stored: readonly number[]): string {
  const there = new Set(stored);
  const missing = read.filter((ms) => !there.has(ms));
  if (missing.length > 0) {
    const first = new Date(missing[0] as number).toISOString();
    throw new Failure(
      `${missing.length} of ${read.length} readings are not in the history, the first of ${first}.`,
    );
  }
  const longest = (times: readonly number[]) =>
    Math.max(0, ...times.slice(1).map((ms, index) => ms - (times[index] as number)));
  const rows = [
    ["read here", read.length, `${(longest(read) / 1_000).toFixed(2)} s`],
    ["in the history", stored.length, `${(longest(stored) / 1_000).toFixed(2)} s`],
  ];
  return `${table(["", "readings", "longest pause"], rows)}\nThe history has no gap: every reading is there, also those of the outage.`;
}
