import type { BenchEvent } from "./event.ts";

/** How a library is set up. */
export interface LibraryOptions {
  /** Where the sink speaks HTTP/1.1. */
  readonly url: string;
  /** Where the sink speaks gRPC in clear text. */
  readonly grpcUrl: string;
  readonly gzip: boolean;
  /** Where what is not delivered is kept; only ours can. */
  readonly spool?: string;
  /** Leave everything but the address as it is out of the box. */
  readonly defaults?: boolean;
  /** Events that must find room in the queue, whatever that takes. */
  readonly queue?: number;
  /** Close on SIGTERM; only ours can. */
  readonly onSignal?: boolean;
  readonly apiKey?: string;
}

/** A library as a program uses it. */
export interface Library {
  /** Returns a promise where the program is to wait before it adds more. */
  add(event: BenchEvent): Promise<void> | undefined | void;
  /** Waits until everything is delivered, as far as the library lets one wait. */
  flush(): Promise<void>;
  /** Ends it as its documentation says. */
  close(): Promise<void>;
  /** Drops it tells a program about without a logger, where it does. */
  dropped?(): number;
}

export const libraryNames = ["ours", "opentelemetry", "influxdb", "posthog", "segment"] as const;
export type LibraryName = (typeof libraryNames)[number];

/** Loads only the library asked for: what the others take must not count. */
export async function openLibrary(name: LibraryName, options: LibraryOptions): Promise<Library> {
  switch (name) {
    case "ours":
      return (await import("./ours.ts")).open(options);
    case "opentelemetry":
      return (await import("./opentelemetry.ts")).open(options);
    case "influxdb":
      return (await import("./influxdb.ts")).open(options);
    case "posthog":
      return (await import("./posthog.ts")).open(options);
    case "segment":
      return (await import("./segment.ts")).open(options);
  }
}
