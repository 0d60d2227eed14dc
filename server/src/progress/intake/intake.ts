import { setTimeout as sleep } from "node:timers/promises";
import { LRUCache } from "lru-cache";
import { findTenantBySlug } from "../../auth/tenants/store.ts";
import type { Context } from "../../context.ts";
import { withLookup } from "../../db/tenant.ts";
import { tenantSlugOf } from "../clients.ts";
import { reportOf } from "../report.ts";
import { refusedReport } from "../reports.ts";
import type { IntakeFigures } from "./figures.ts";
import { readMessage, UncountableMessage } from "./message.ts";
import { setAside as keepAside } from "./set-aside.ts";
import { clientFilter } from "./settings.ts";

/** A message as it came. */
export interface IntakeMessage {
  /** Where it came from, for a person. */
  readonly position: string;
  /** The same whenever this message is delivered, and no other's: the update id of a report that has none. */
  readonly deliveryId: string;
  readonly payload: string;
}

/** Counts the messages of one connector. */
export interface Intake {
  /**
   * Resolves when the message is done with: counted, known, or put aside. What fails for want of something of ours is tried
   * again until it succeeds; only then, or when the signal is aborted, `true` or `false` is answered.
   */
  handle(message: IntakeMessage, signal: AbortSignal): Promise<boolean>;
}

const retryMinMs = 50;
const retryMaxMs = 5_000;
const tenantTtlMs = 60_000;
const maxTenants = 10_000;

export interface IntakeOptions {
  readonly figures: IntakeFigures;
  readonly clients: readonly string[];
  /** Takes a message that cannot be counted to where somebody finds it. Default: a table. */
  setAside?(message: IntakeMessage, reason: string): Promise<void>;
}

export function createIntake(
  { db, logger, progressReports }: Pick<Context, "db" | "logger" | "progressReports">,
  { figures, clients, setAside }: IntakeOptions,
): Intake {
  const { connector } = figures;
  const mayReport = clientFilter(clients);
  const tenants = new LRUCache<string, string>({ max: maxTenants, ttl: tenantTtlMs });

  const tenantOf = async (clientKrn: string): Promise<string> => {
    const tenantSlug = tenantSlugOf(clientKrn) ?? "";
    const known = tenants.get(tenantSlug);
    if (known) return known;
    const tenant = await withLookup(db, { tenantSlug }, (trx) => findTenantBySlug(trx, tenantSlug));
    if (!tenant) throw new UncountableMessage(`clientKrn: there is no tenant '${tenantSlug}'`);
    if (tenant.state !== "ACTIVE")
      throw new UncountableMessage(`clientKrn: the tenant '${tenantSlug}' is closed`);
    tenants.set(tenantSlug, tenant.id);
    return tenant.id;
  };

  const count = async ({ payload, deliveryId }: IntakeMessage): Promise<void> => {
    const request = readMessage(payload, mayReport);
    const tenantId = await tenantOf(request.clientKrn);
    const creator = { email: request.email.toLowerCase(), apiKeyId: null };
    const outcome = await progressReports.submit(
      tenantId,
      reportOf(request, creator, request.updateId || deliveryId),
    );
    if (outcome.result === "refused") {
      throw new UncountableMessage(refusedReport(outcome.refusal, request.updateId).rawMessage);
    }
    if (outcome.result === "duplicate") figures.duplicates++;
    else figures.counted++;
  };

  const putAside = async (message: IntakeMessage, reason: string): Promise<void> => {
    if (setAside) await setAside(message, reason);
    else await keepAside(db, { connector, reason, position: message.position, payload: message.payload });
    figures.setAside++;
    logger.warn({ connector, position: message.position, reason }, "a message of progress was put aside");
  };

  const attempt = async (message: IntakeMessage): Promise<void> => {
    try {
      await count(message);
    } catch (error) {
      if (!(error instanceof UncountableMessage)) throw error;
      await putAside(message, error.message);
    }
  };

  return {
    async handle(message, signal) {
      figures.received++;
      for (let pauseMs = retryMinMs; !signal.aborted; pauseMs = Math.min(2 * pauseMs, retryMaxMs)) {
        try {
          await attempt(message);
          return true;
        } catch (err) {
          figures.retries++;
          logger.warn({ err, connector, position: message.position }, "a message of progress is tried again");
          // Aborted: it is given out again after the next start.
          await sleep(pauseMs, undefined, { signal, ref: false }).catch(() => {});
        }
      }
      return false;
    },
  };
}
