/** The result of a run: its result file or, where that is empty, the last line of its standard output. */
import type { Kysely } from "kysely";
import type { Database } from "../../db/schema.ts";
import { withTenant } from "../../db/tenant.ts";
import { decodeLines } from "../logs/chunk.ts";
import { maxResultBytes, type Runtime, type Unit } from "../runtime/runtime.ts";

export interface RunResult {
  /** JSON. */
  readonly json: string | null;
  readonly truncated: boolean;
}

/** Chunks that are looked through for the last line of standard output. */
const maxChunks = 20;

/** To be called when the run's log has been read. */
export async function resultOf(db: Kysely<Database>, runtime: Runtime, unit: Unit): Promise<RunResult> {
  const file = await runtime.readResult(unit);
  if (file && file.bytes.length > 0) return asJson(textOf(file.bytes, file.truncated), file.truncated);
  const line = await lastLine(db, unit);
  return line === undefined ? { json: null, truncated: false } : asJson(line, false);
}

/** JSON as it is, anything else as a string; what was cut off is a string. */
function asJson(text: string, truncated: boolean): RunResult {
  // PostgreSQL's json takes no U+0000.
  const clean = text.replaceAll("\0", "\ufffd").toWellFormed();
  if (!truncated) {
    try {
      const value = JSON.parse(clean);
      return { json: JSON.stringify(value).replaceAll("\\u0000", "\\ufffd"), truncated };
    } catch {
      // No JSON.
    }
  }
  return { json: JSON.stringify(clean.trimEnd()), truncated };
}

function textOf(bytes: Buffer, truncated: boolean): string {
  const text = bytes.subarray(0, maxResultBytes).toString();
  // A character that was cut apart is left out.
  return truncated ? text.replace(/\ufffd$/, "") : text;
}

async function lastLine(db: Kysely<Database>, unit: Unit): Promise<string | undefined> {
  const { tenantId, functionId, invocationId = "", attempt } = unit;
  const chunks = await withTenant(db, tenantId, (trx) =>
    trx
      .selectFrom("log_chunks")
      .select("lines")
      .where("tenant_id", "=", tenantId)
      .where("function_id", "=", functionId)
      .where("invocation_id", "=", invocationId)
      .where("attempt", "=", attempt)
      .orderBy("last_line", "desc")
      .limit(maxChunks)
      .execute(),
  );
  for (const { lines } of chunks) {
    const found = decodeLines(lines).findLast(({ stream }) => stream === 1);
    if (found) return found.text;
  }
  return undefined;
}
