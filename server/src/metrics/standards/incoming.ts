/** Samples as the open standards bring them, before they are ours. */

/** A run of samples of one series. */
export interface IncomingSeries {
  /** The store that the sender's own words name, such as its job; empty: none. */
  readonly store: string;
  readonly name: string;
  readonly labels: Record<string, string>;
  readonly kind: "gauge" | "counter";
  readonly unit: string;
  readonly timesMs: number[];
  readonly values: number[];
}

/** What was read of a request, and what of it has no form here. */
export interface Incoming {
  readonly series: IncomingSeries[];
  /** Samples that are refused, and why. */
  readonly refused: Refused[];
}

export interface Refused {
  readonly samples: number;
  readonly reason: string;
}

const labelForm = /^[a-zA-Z_][a-zA-Z0-9_]*$/;
const nameForm = /^[a-zA-Z_:][a-zA-Z0-9_.:/-]*$/;

/** The name of a label: what is no letter, digit or `_` becomes `_`, as Prometheus writes names of OpenTelemetry. */
export function labelName(name: string): string {
  if (labelForm.test(name)) return name;
  const spelled = name.replaceAll(/[^a-zA-Z0-9_]/g, "_");
  return /^[0-9]/.test(spelled) ? `key_${spelled}` : spelled;
}

/** The name of a metric, with `_` in place of what may not stand in one. */
export function metricName(name: string): string {
  if (nameForm.test(name)) return name;
  const spelled = name.replaceAll(/[^a-zA-Z0-9_.:/-]/g, "_");
  return /^[a-zA-Z_:]/.test(spelled) ? spelled : `_${spelled}`;
}
