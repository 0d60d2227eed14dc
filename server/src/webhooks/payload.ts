/** Messages as receivers get them: `{ type, timestamp, data }`, of one happening or of several. */
import type { JsonObject } from "@bufbuild/protobuf";

/** One happening. */
export type Happening = { type: string; timestamp: string; data: JsonObject };

/** The type of a message that tells of happenings of several types. */
export const groupType = "alert.group";

/** The happenings that a message tells of. */
export function happeningsOf(payload: JsonObject): Happening[] {
  const { happenings } = payload.data as { happenings?: Happening[] };
  return Array.isArray(happenings) ? happenings : [payload as Happening];
}

/** The message that tells of these: of one by itself, of several in `data.happenings`, in order. */
export function messageOf(happenings: readonly [Happening, ...Happening[]]): Happening {
  const [first, ...others] = happenings;
  if (others.length === 0) return first;
  const last = others.at(-1) ?? first;
  const type = others.every((other) => other.type === first.type) ? first.type : groupType;
  return { type, timestamp: last.timestamp, data: { happenings: [first, ...others] } };
}
