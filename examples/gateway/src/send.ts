import { setTimeout as sleep } from "node:timers/promises";
import type { Gateway } from "@pulsewire/sdk";
import type { LineReader } from "./line-to-event.ts";
import type { Line } from "./lines.ts";
import { Machine } from "./readings.ts";
import { count, ProgressBar } from "./terminal.ts";

/** Milliseconds between two readings. */
const readingIntervalMs = 200;

/** Milliseconds between two drawings of a bar. */
const drawIntervalMs = 80;

/** What was sent. */
export interface Sent {
  /** Event type of each event, by its id. */
  events: Map<string, string>;
  /** Milliseconds from the first line to the answer for the last. */
  tookMs: number;
}

/** Sends the lines and waits for the answers. */
export async function sendLines(
  gateway: Gateway,
  lines: AsyncIterable<Line> | Iterable<Line>,
  reader: LineReader,
): Promise<Sent> {
  const bar = new ProgressBar("Sending events  ");
  const events = new Map<string, string>();
  const settled = () => gateway.counts.events.queued - gateway.counts.events.pending;
  const draw = setInterval(() => bar.show(settled(), events.size, count(events.size)), drawIntervalMs);
  const start = performance.now();
  try {
    for await (const line of lines) {
      const event = reader.toEvent(line);
      events.set(event.eventId, event.eventType);
      await gateway.event(event);
    }
    await gateway.flush();
  } finally {
    clearInterval(draw);
  }
  const tookMs = performance.now() - start;
  const rate = count((events.size / tookMs) * 1000);
  bar.finish(`${count(events.size)} in ${(tookMs / 1000).toFixed(2)} s: ${rate} events/s`);
  return { events, tookMs };
}

/** Reads this machine for some seconds and sends what it reads. */
export async function sendReadings(gateway: Gateway, seconds: number, showing: () => boolean): Promise<void> {
  const bar = new ProgressBar("Reading machine ");
  const machine = new Machine();
  const start = performance.now();
  for (let next = start; ; next += readingIntervalMs) {
    const timestamp = Date.now();
    for (const { name, value, unit, labels = {} } of await machine.read()) {
      await gateway.metric(name, value, { unit, labels, timestamp });
    }
    const elapsed = (performance.now() - start) / 1000;
    if (showing()) bar.show(elapsed, seconds, `${elapsed.toFixed(1)} of ${seconds} s`);
    if (elapsed >= seconds) break;
    await sleep(Math.max(0, next + readingIntervalMs - performance.now()));
  }
  await gateway.flush();
  const { queued } = gateway.counts.samples;
  bar.finish(`${count(queued)} samples in ${seconds} s`);
}
