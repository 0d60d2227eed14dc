import {
  type durationFromMs,
  type PulsewireClient,
  type SeriesPoints,
  timestampFromMs,
} from "@pulsewire/sdk";
import { count, ProgressBar } from "./terminal.ts";

type Duration = ReturnType<typeof durationFromMs>;

/** Types that one filter can name. */
const mostTypes = 50;

/** Most events on a page. */
const pageSize = 1000;

/** Pages through the stored events and counts those that were sent, by type. */
export async function countStored(
  { ingestion }: PulsewireClient,
  events: Map<string, string>,
): Promise<Map<string, number>> {
  const bar = new ProgressBar("Reading back    ");
  const types = [...new Set(events.values())];
  const filter = { eventTypes: types.length <= mostTypes ? types : [] };
  const found = new Map<string, number>();
  const left = new Set(events.keys());
  let pageToken = "";
  do {
    const page = await ingestion.listEvents({ filter, pageSize, pageToken });
    for (const { event } of page.events) {
      if (!event || !left.delete(event.eventId)) continue;
      found.set(event.eventType, (found.get(event.eventType) ?? 0) + 1);
    }
    bar.show(events.size - left.size, events.size);
    pageToken = page.nextPageToken;
  } while (pageToken !== "" && left.size > 0);
  bar.finish(`${count(events.size - left.size)} of ${count(events.size)} events`);
  return found;
}

/** The samples of a store within a range of milliseconds since 1970, the end excluded. */
export async function querySamples(
  { metrics }: PulsewireClient,
  storeId: string,
  fromMs: number,
  untilMs: number,
): Promise<SeriesPoints[]> {
  const { series } = await metrics.querySamples({
    storeId,
    start: timestampFromMs(fromMs),
    end: timestampFromMs(untilMs),
    maxPoints: 100_000,
  });
  return series;
}

/** The store of that name, made where it is not there, from which a sample is expected so often. */
export async function ensureStore(
  { metrics }: PulsewireClient,
  name: string,
  more: { expectedInterval?: Duration } = {},
): Promise<string> {
  let pageToken = "";
  do {
    const { stores, nextPageToken } = await metrics.listStores({ nameContains: name, pageSize, pageToken });
    const store = stores.find((candidate) => candidate.name === name);
    if (store) return store.id;
    pageToken = nextPageToken;
  } while (pageToken !== "");
  const { store } = await metrics.createStore({
    name,
    description: "The machine that ran the demo.",
    ...more,
  });
  return store?.id ?? "";
}
