import type { AuthConfig } from "../../config/auth.ts";
import type { TenantTransaction } from "../../db/tenant.ts";
import type { AuditFacts } from "../audit/log.ts";
import { newResourceId } from "../ids.ts";
import type { Tokens } from "../tokens.ts";
import type { UserRow } from "../users/store.ts";
import { formatRefreshToken, hashSecret, newRefreshToken, type RefreshToken } from "./refresh-token.ts";
import { deleteExpiredSessions, insertSession, rotateSession, type SessionRow } from "./store.ts";

/** A session as it is after a sign-in or a rotation, and the refresh token that goes with it. */
export interface OpenedSession {
  readonly session: Pick<SessionRow, "tenant_id" | "id" | "user_id" | "epoch">;
  readonly refreshToken: RefreshToken;
}

/** The fields of an answer that hand a pair of tokens out. */
export interface TokenPair {
  accessToken: string;
  tokenType: string;
  expiresIn: number;
  refreshToken: string;
  refreshExpiresIn: number;
}

/**
 * Opens a session and notes the sign-in; an invited user is ACTIVE from now on. Undefined when the user was disabled or
 * removed meanwhile.
 */
export async function openSession(
  trx: TenantTransaction,
  { tenant_id, id: user_id }: Pick<UserRow, "tenant_id" | "id">,
  options: { restricted: boolean; ttlSeconds: number },
): Promise<(OpenedSession & { readonly user: UserRow }) | undefined> {
  const user = await noteSignIn(trx, tenant_id, user_id);
  if (!user) return undefined;
  await deleteExpiredSessions(trx, tenant_id, user_id);
  const id = newResourceId();
  const refreshToken = newRefreshToken(tenant_id, id);
  const session = await insertSession(trx, {
    tenant_id,
    id,
    user_id,
    family_hash: hashSecret(refreshToken.family),
    refresh_hash: hashSecret(refreshToken.own),
    restricted: options.restricted,
    expires_at: inSeconds(options.ttlSeconds),
  });
  return { session, refreshToken, user };
}

/** Goes on with a session under a new refresh token. */
export async function continueSession(
  trx: TenantTransaction,
  session: SessionRow,
  refreshToken: RefreshToken,
  change: { ttlSeconds: number; epoch?: number; restricted?: boolean },
): Promise<OpenedSession> {
  const { ttlSeconds, ...rest } = change;
  await rotateSession(trx, session, {
    ...rest,
    family_hash: hashSecret(refreshToken.family),
    refresh_hash: hashSecret(refreshToken.own),
    expires_at: inSeconds(ttlSeconds),
  });
  return { session: { ...session, ...rest }, refreshToken };
}

/** Signs the access token and writes both as the contract hands them out. */
export async function tokenPair(
  tokens: Tokens,
  { refreshTokenTtlSeconds }: AuthConfig,
  { session, refreshToken }: OpenedSession,
): Promise<TokenPair> {
  return {
    accessToken: await tokens.issue(claimsOf(session)),
    tokenType: "Bearer",
    expiresIn: tokens.ttlSeconds,
    refreshToken: formatRefreshToken(refreshToken),
    refreshExpiresIn: refreshTokenTtlSeconds,
  };
}

/** What the audit log says of a sign-in. */
export function signInFacts({
  session,
  user,
}: Pick<OpenedSession, "session"> & { readonly user: UserRow }): AuditFacts {
  const { id, email } = user;
  return { user: { id, email }, sessionId: session.id, resourceId: session.id };
}

/** What an access token of the session says. */
export function claimsOf({ tenant_id, id, user_id, epoch }: OpenedSession["session"]) {
  return { tenantId: tenant_id, sessionId: id, userId: user_id, epoch };
}

/** Signing in is no change of the user: the etag stays. */
export async function noteSignIn(
  trx: TenantTransaction,
  tenantId: string,
  userId: string,
): Promise<UserRow | undefined> {
  return await trx
    .updateTable("users")
    .set({ last_login_at: new Date(), state: "ACTIVE" })
    .where("tenant_id", "=", tenantId)
    .where("id", "=", userId)
    .where("state", "<>", "DISABLED")
    .returningAll()
    .executeTakeFirst();
}

function inSeconds(seconds: number): Date {
  return new Date(Date.now() + seconds * 1_000);
}
