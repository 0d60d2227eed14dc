import type { Context } from "../../context.ts";
import { withTenant } from "../../db/tenant.ts";
import { ErrorReason } from "../../gen/pulsewire/common/v1/error_reason_pb.js";
import { tenantSuspended } from "../../rpc/caller.ts";
import { failure } from "../../rpc/errors.ts";
import { getTenant } from "../tenants/store.ts";
import { getUser } from "../users/store.ts";
import { continueSession, type OpenedSession } from "./open.ts";
import { matches, nextRefreshToken, parseRefreshToken } from "./refresh-token.ts";
import { deleteSessions, lockSession, type SessionRow } from "./store.ts";

/** A session that goes on, with its user's word on the password. */
export interface RefreshedSession {
  readonly opened: OpenedSession;
  readonly mustChangePassword: boolean;
}

/**
 * Exchanges a refresh token for the next. A token that was used before shows that two have it, and which of them is the
 * thief cannot be told: the session ends for both. There is no time of grace, for it would be the thief's as well; a
 * retry after a lost answer is the request id's matter. `onKnown` hears of
 * the session that the token is, or was, one of. Throws INVALID_TOKEN and TENANT_SUSPENDED.
 */
export async function refreshSession(
  { db, config, standings, logger }: Pick<Context, "db" | "config" | "standings" | "logger">,
  text: string,
  onKnown: (session: Pick<SessionRow, "tenant_id" | "id">) => void,
): Promise<RefreshedSession> {
  const token = parseRefreshToken(text);
  if (!token) throw invalidRefreshToken();
  const { tenantId, sessionId } = token;
  const outcome = await withTenant(db, tenantId, async (trx) => {
    const session = await lockSession(trx, tenantId, sessionId);
    if (!session || session.expires_at.getTime() <= Date.now()) return "unknown";
    if (!matches(token.family, session.family_hash)) return "unknown";
    onKnown(session);
    if (!matches(token.own, session.refresh_hash)) {
      await deleteSessions(trx, tenantId, { sessionId });
      return "reused";
    }
    const user = await getUser(trx, tenantId, session.user_id);
    if (user?.state !== "ACTIVE") return "unknown";
    if ((await getTenant(trx, tenantId))?.state !== "ACTIVE") throw tenantSuspended();
    const opened = await continueSession(trx, session, nextRefreshToken(token), {
      ttlSeconds: config.auth.refreshTokenTtlSeconds,
    });
    return { opened, mustChangePassword: user.must_change_password };
  });
  if (outcome === "reused") {
    logger.warn({ tenantId, sessionId }, "a refresh token was used twice; its session has ended");
    await standings.changed({ tenantId, sessionId });
  }
  if (typeof outcome === "string") throw invalidRefreshToken();
  return outcome;
}

function invalidRefreshToken() {
  return failure(
    ErrorReason.INVALID_TOKEN,
    "the refresh token is unknown, expired or was used before, or its session has ended; log in again",
  );
}
