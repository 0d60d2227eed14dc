import { Counter, Gauge, type Registry } from "prom-client";

/** What a connector has done since it began. */
export interface IntakeFigures {
  readonly connector: "kafka" | "sqs";
  /** Messages that came, those that came again included. */
  received: number;
  /** Reports that counted. */
  counted: number;
  /** Reports that had counted before. */
  duplicates: number;
  /** Messages that cannot be counted, put aside with the reason. */
  setAside: number;
  /** Attempts that failed for want of something of ours, and are made again. */
  retries: number;
  /** Failures of the connection to the broker or queue, and of committing what was done. */
  errors: number;
  /** Messages that wait; undefined: not known yet. */
  lag: number | undefined;
}

/** The figures of all connectors of this process. */
export interface IntakeMonitor {
  open(connector: IntakeFigures["connector"]): IntakeFigures;
  list(): readonly Readonly<IntakeFigures>[];
}

/** What became of messages, by the word of the label `result`. */
const results = {
  received: "received",
  counted: "counted",
  duplicate: "duplicates",
  set_aside: "setAside",
  retry: "retries",
} as const;

/** Registers the figures with Prometheus, too. */
export function createIntakeMonitor(registry: Registry): IntakeMonitor {
  const all: IntakeFigures[] = [];
  new Counter({
    name: "pulsewire_progress_intake_messages_total",
    help: "Messages of progress that this process took from Kafka and SQS, by what became of them",
    labelNames: ["connector", "result"],
    registers: [registry],
    collect() {
      this.reset();
      for (const figures of all) {
        const { connector } = figures;
        for (const [result, name] of Object.entries(results)) this.inc({ connector, result }, figures[name]);
      }
    },
  });
  new Counter({
    name: "pulsewire_progress_intake_errors_total",
    help: "Failures of the connection to the broker or queue, and of committing what was done",
    labelNames: ["connector"],
    registers: [registry],
    collect() {
      this.reset();
      for (const { connector, errors } of all) this.inc({ connector }, errors);
    },
  });
  new Gauge({
    name: "pulsewire_progress_intake_lag",
    help: "Messages of progress that wait in Kafka or SQS",
    labelNames: ["connector"],
    registers: [registry],
    collect() {
      this.reset();
      for (const { connector, lag } of all) if (lag !== undefined) this.set({ connector }, lag);
    },
  });
  return {
    open(connector) {
      const figures: IntakeFigures = {
        connector,
        received: 0,
        counted: 0,
        duplicates: 0,
        setAside: 0,
        retries: 0,
        errors: 0,
        lag: undefined,
      };
      all.push(figures);
      return figures;
    },
    list: () => all,
  };
}
