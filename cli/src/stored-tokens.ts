import { open, rm, stat } from "node:fs/promises";
import { setTimeout as sleep } from "node:timers/promises";
import { Code, type PulsewireClient, PulsewireError, type TokenSource } from "@pulsewire/sdk";
import { exitCodes, Failure } from "./failure.ts";
import { readStored, type Stored, type StoredSession, writeStored } from "./stored.ts";

/** A new token is asked for this long before the old one expires, in milliseconds. */
const marginMs = 30_000;
/** Who holds the lock for longer was killed, in milliseconds. */
const staleLockMs = 20_000;

/** What Login and RefreshToken answer. */
export function toSession(answer: {
  accessToken: string;
  refreshToken: string;
  expiresIn: number;
}): StoredSession {
  const { accessToken, refreshToken, expiresIn } = answer;
  return { accessToken, refreshToken, expiresAt: Date.now() + expiresIn * 1000 };
}

/**
 * The tokens of the stored session, refreshed when they expire and stored again. A refresh token can be used once, so
 * processes that run at the same time take turns.
 *
 * @param connect makes a client without credentials
 */
export function storedTokens(file: string, connect: () => PulsewireClient): TokenSource {
  const usable = (stored: Stored | undefined, refused: string | undefined) => {
    const session = stored?.session;
    if (session && session.accessToken !== refused && session.expiresAt - marginMs > Date.now())
      return session.accessToken;
    return undefined;
  };
  let renewing: Promise<string> | undefined;
  return async (refused) => {
    const token = usable(await readStored(file), refused);
    if (token) return token;
    renewing ??= locked(`${file}.lock`, async () => {
      const stored = await readStored(file);
      const renewed = usable(stored, refused);
      if (renewed) return renewed;
      if (!stored?.session) throw ended();
      const session = await refresh(stored.session, connect);
      await writeStored(file, { ...stored, session });
      return session.accessToken;
    }).finally(() => {
      renewing = undefined;
    });
    return renewing;
  };
}

async function refresh(
  { refreshToken }: StoredSession,
  connect: () => PulsewireClient,
): Promise<StoredSession> {
  const client = connect();
  try {
    return toSession(await client.auth.refreshToken({ refreshToken }));
  } catch (error) {
    throw error instanceof PulsewireError && error.code === Code.Unauthenticated ? ended() : error;
  } finally {
    client.close();
  }
}

function ended(): Failure {
  return new Failure("Your session has ended. Sign in again with: pulsewire login", exitCodes.credentials);
}

async function locked<T>(lock: string, fn: () => Promise<T>): Promise<T> {
  for (;;) {
    try {
      await (await open(lock, "wx", 0o600)).close();
      break;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "EEXIST") throw error;
    }
    const age = await stat(lock).then(
      ({ mtimeMs }) => Date.now() - mtimeMs,
      () => 0,
    );
    if (age > staleLockMs) await rm(lock, { force: true });
    else await sleep(50);
  }
  try {
    return await fn();
  } finally {
    await rm(lock, { force: true });
  }
}
