/** Alerts in words, for e-mail and WhatsApp. */
import type { Happening } from "../payload.ts";
import { happeningsOf } from "../payload.ts";

export interface Words {
  /** One line. */
  readonly subject: string;
  /** One paragraph for each happening, the first ones of many. */
  readonly text: string;
}

const maxParagraphs = 50;
const maxSubject = 200;

/** Says what a message tells of. */
export function wordsOf(payload: Happening): Words {
  const happenings = happeningsOf(payload);
  const [first] = happenings;
  if (!first) throw new RangeError("a message tells of something");
  const paragraphs = happenings.slice(0, maxParagraphs).map(paragraph);
  if (happenings.length > maxParagraphs) paragraphs.push(`… and ${happenings.length - maxParagraphs} more`);
  return {
    subject: oneLine(happenings.length === 1 ? headline(first) : summary(happenings)).slice(0, maxSubject),
    text: `${paragraphs.join("\n\n")}\n`,
  };
}

const stateOf = ({ type }: Happening) => type.split(".")[1] ?? type;

/** `[critical] Freezer warm: firing at Store 12` */
function headline(happening: Happening): string {
  const { severity, rule_name, store_name } = happening.data;
  return `[${severity ?? "alert"}] ${rule_name ?? "Alert"}: ${stateOf(happening)}${store_name ? ` at ${store_name}` : ""}`;
}

/** `3 alerts: 2 firing, 1 resolved` */
function summary(happenings: readonly Happening[]): string {
  const byState = Map.groupBy(happenings, stateOf);
  const parts = [...byState].map(([state, some]) => `${some.length} ${state}`);
  return `${happenings.length} alerts: ${parts.join(", ")}`;
}

function paragraph(happening: Happening): string {
  const { message, metric_name, value } = happening.data;
  const measured = metric_name
    ? `${metric_name}${value === undefined || value === null ? "" : ` = ${value}`}`
    : "";
  return [headline(happening), message, measured, happening.timestamp].filter(Boolean).join("\n");
}

function oneLine(text: string): string {
  return text.replace(/\s+/g, " ").trim();
}
