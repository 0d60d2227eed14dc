import type { SampleOptions } from "@pulsewire/sdk";
import { momentOf, numberOf, sortFields, textOf } from "./fields.ts";
import { RowError } from "./row.ts";

const known = new Set(["name", "value", "timestamp", "unit", "kind", "storeId", "labels"]);
const objects = new Set(["labels"]);

export interface SampleRow {
  readonly name: string;
  readonly value: number;
  readonly options: SampleOptions;
}

/** Makes a sample of a row; columns that are no fields of a sample become labels. Throws RowError. */
export function toSample(row: Readonly<Record<string, unknown>>): SampleRow {
  const { fields, others } = sortFields(row, known, objects);
  const name = textOf("name", fields.name);
  const value = numberOf("value", fields.value);
  if (!name || value === undefined) throw new RowError(`has no ${name ? "value" : "name"}`);
  const labels: Record<string, string> = {};
  for (const [label, text] of Object.entries({ ...others, ...(fields.labels as object | undefined) })) {
    labels[label] = textOf(`labels.${label}`, text) ?? "";
  }
  const unit = textOf("unit", fields.unit);
  const kind = textOf("kind", fields.kind)?.toLowerCase();
  if (kind !== undefined && kind !== "gauge" && kind !== "counter")
    throw new RowError(`kind is ${JSON.stringify(fields.kind)}, not gauge or counter`);
  const storeId = textOf("storeId", fields.storeId);
  const timestamp = momentOf("timestamp", fields.timestamp);
  return {
    name,
    value,
    options: {
      labels,
      ...(unit !== undefined && { unit }),
      ...(kind !== undefined && { kind }),
      ...(storeId !== undefined && { storeId }),
      ...(timestamp !== undefined && { timestamp }),
    },
  };
}
