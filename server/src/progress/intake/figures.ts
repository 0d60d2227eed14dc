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

export function createIntakeMonitor(): IntakeMonitor {
  const all: IntakeFigures[] = [];
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
