import assert from "node:assert/strict";
import { Code, ConnectError, type ConnectRouter, type HandlerContext } from "@connectrpc/connect";
import { ErrorInfoSchema, RetryInfoSchema } from "../../sdk/src/gen/google/rpc/error_details_pb.js";
import {
  type Event,
  IngestionService,
  MetricsService,
  OutcomeStatus,
  type SeriesSamples,
} from "../../sdk/src/index.ts";
import { type ConnectServer, startConnectServer } from "./connect-server.ts";

/** What goes wrong with one call: before the work is done, or after it. */
export type Fault =
  | "unavailable"
  | "unavailable for 150 ms"
  | "bad key"
  | "hang"
  | "lose answer"
  | "retry odd items"
  | "quota";

/** A store of events and samples that fails as it is told. */
export class Sink implements AsyncDisposable {
  server: ConnectServer | undefined;
  readonly events = new Map<string, Event>();
  readonly series: SeriesSamples[] = [];
  readonly faults: Fault[] = [];
  /** Items of each call. */
  readonly calls: number[] = [];
  /** When each call came. */
  readonly times: number[] = [];
  #port = 0;

  async start(options: { http1?: boolean } = {}): Promise<string> {
    this.server = await startConnectServer({
      routes: (router) => this.#routes(router),
      port: this.#port,
      ...options,
    });
    this.#port = this.server.port;
    return this.server.url;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.server?.stop();
  }

  #routes(router: ConnectRouter): void {
    router.service(IngestionService, {
      ingestEvents: async ({ events, allowPartial, sentAt }, context) => {
        assert.ok(allowPartial && sentAt);
        this.calls.push(events.length);
        this.times.push(performance.now());
        const fault = await this.#before(context);
        const outcomes = events.map((event, index) => {
          const id = event.eventId;
          if (fault === "retry odd items" && index % 2 === 1) {
            return { id, status: OutcomeStatus.RETRY, retryDelay: { nanos: 20_000_000 } };
          }
          if (event.eventType === "broken") {
            return {
              id,
              status: OutcomeStatus.REJECTED,
              field: "event_type",
              code: "test",
              message: "broken",
            };
          }
          const known = this.events.get(id);
          if (!known) this.events.set(id, event);
          if (!known) return { id, status: OutcomeStatus.ACCEPTED };
          const same = JSON.stringify(known.payload) === JSON.stringify(event.payload);
          return { id, status: same ? OutcomeStatus.DUPLICATE : OutcomeStatus.CONFLICT };
        });
        await this.#after(fault, context);
        return { outcomes };
      },
    });
    router.service(MetricsService, {
      writeSamples: async ({ series }, context) => {
        this.calls.push(series.reduce((sum, { values }) => sum + values.length, 0));
        const fault = await this.#before(context);
        const failures = series.flatMap(({ name, values }, index) =>
          name === "broken"
            ? [
                {
                  index,
                  sampleCount: values.length,
                  outcome: { status: OutcomeStatus.REJECTED, code: "test" },
                },
              ]
            : [],
        );
        this.series.push(...series.filter(({ name }) => name !== "broken"));
        await this.#after(fault, context);
        return { failures };
      },
    });
  }

  async #before({ signal }: HandlerContext): Promise<Fault | undefined> {
    const fault = this.faults.shift();
    if (fault === "hang") {
      await new Promise((resolve) => signal.addEventListener("abort", resolve));
      throw failure(Code.Canceled, "");
    }
    if (fault === "bad key") throw failure(Code.Unauthenticated, "INVALID_API_KEY");
    if (fault === "quota") throw failure(Code.ResourceExhausted, "TENANT_LIMIT", 900);
    if (fault === "unavailable") throw failure(Code.Unavailable, "DRAINING");
    if (fault === "unavailable for 150 ms") throw failure(Code.Unavailable, "DRAINING", 150);
    return fault;
  }

  async #after(fault: Fault | undefined, { signal }: HandlerContext): Promise<void> {
    if (fault !== "lose answer") return;
    this.server?.cut();
    await new Promise((resolve) => signal.addEventListener("abort", resolve));
  }
}

function failure(code: Code, reason: string, delayMs?: number): ConnectError {
  return new ConnectError("fault", code, undefined, [
    { desc: ErrorInfoSchema, value: { domain: "pulsewire", reason } },
    ...(delayMs === undefined
      ? []
      : [{ desc: RetryInfoSchema, value: { retryDelay: { nanos: delayMs * 1e6 } } }]),
  ]);
}
