import { durationMs } from "@bufbuild/protobuf/wkt";
import type { AlertRuleSpec } from "../../gen/pulsewire/metrics/v1/alert_pb.js";
import { Comparison } from "../../gen/pulsewire/metrics/v1/alert_pb.js";

/** What the text of an alert can speak of. */
export interface TextFacts {
  readonly store: string;
  readonly metric: string;
  /** Undefined: there is none, as of absence. */
  readonly value: number | undefined;
  readonly labels: Readonly<Record<string, string>>;
}

const placeholder = /\{\{\s*(store|metric|value|labels\.[a-zA-Z_][a-zA-Z0-9_]*)\s*\}\}/g;
const maxLength = 4_000;

/** The rule's text, filled in; where it has none, one that says what is wrong. What is not known is left empty. */
export function alertText(spec: AlertRuleSpec, facts: TextFacts): string {
  const { store, metric, value, labels } = facts;
  const template = spec.message || defaultText(spec, labels);
  const text = template.replace(placeholder, (_, name: string) => {
    if (name === "store") return store;
    if (name === "metric") return metric;
    if (name === "value") return value === undefined ? "" : shown(value);
    return labels[name.slice("labels.".length)] ?? "";
  });
  return text.length > maxLength ? `${text.slice(0, maxLength - 1)}…` : text;
}

/** A value for people: six digits are enough. */
const shown = (value: number): string => String(Number(value.toPrecision(6)));

const signs: Partial<Record<Comparison, string>> = {
  [Comparison.GREATER]: "above",
  [Comparison.GREATER_OR_EQUAL]: "at or above",
  [Comparison.LESS]: "below",
  [Comparison.LESS_OR_EQUAL]: "at or below",
};

function defaultText({ condition }: AlertRuleSpec, labels: TextFacts["labels"]): string {
  const names = Object.keys(labels).sort();
  const series = names.length > 0 ? ` (${names.map((name) => `${name} {{labels.${name}}}`).join(", ")})` : "";
  const subject = `{{metric}}${series} of {{store}}`;
  switch (condition.case) {
    case "threshold":
      return `${subject} is {{value}}; the rule speaks of values ${signs[condition.value.comparison]} ${shown(condition.value.value)}`;
    case "rateOfChange":
      return `${subject} changes by {{value}} a second; the rule speaks of changes ${signs[condition.value.comparison]} ${shown(condition.value.valuePerSecond)}`;
    default: {
      const seconds = condition.value?.duration ? durationMs(condition.value.duration) / 1_000 : 0;
      return `${subject}: no sample for ${seconds} seconds`;
    }
  }
}
