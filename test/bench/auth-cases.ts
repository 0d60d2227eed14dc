import { readFile, writeFile } from "node:fs/promises";
import path from "node:path";
import type { CheckOptions, CredentialList } from "./auth-calls.ts";
import type { AuthDatabase } from "./auth-database.ts";

const fewKeys = 1_000;
/** Tokens that are seen once, for one turn. It ends with them. */
const tokensInTurn = 4_000;

/** A kind of call. */
export interface Case {
  readonly title: string;
  /** `forgetful` trusts nothing that it has looked up before: to it every key and session is new. */
  readonly server: "usual" | "forgetful";
  readonly expected: CheckOptions["expected"];
  /** How often a call may read the database. */
  readonly reads: 0 | 1;
  /** What the calls of the next turn carry. */
  next(): Promise<CredentialList | undefined> | CredentialList | undefined;
  /** Told how many calls were made. */
  made?(calls: number): void;
}

/** What all other calls are compared with. */
export const withoutCredentials = (server: Case["server"]): Case => ({
  title: "no credentials",
  server,
  expected: "answer",
  reads: 0,
  next: () => undefined,
});

/** Every kind of call with credentials. */
export async function makeCases(
  { keysFile, sessions, issueTokens }: AuthDatabase,
  dataDir: string,
  keys: number,
): Promise<Case[]> {
  const usual = { server: "usual", expected: "answer", reads: 0 } as const;
  const keysFrom = (from: number, count: number): CredentialList => ({
    header: "x-api-key",
    file: keysFile,
    from,
    count,
    once: false,
  });
  /** Goes on where the last turn ended. */
  const inTurns = (): Pick<Case, "next" | "made"> => {
    let from = 0;
    return {
      next: () => keysFrom(from, keys),
      made(calls) {
        from = (from + calls) % keys;
      },
    };
  };
  const tokensOnce =
    (name: string, sessionAt: (index: number) => number) => async (): Promise<CredentialList> => {
      const of = Array.from(
        { length: tokensInTurn },
        (_, index) => sessions[sessionAt(index) % sessions.length],
      );
      return tokensFrom(await issueTokens(name, of as typeof sessions), tokensInTurn, true);
    };
  const misspelt = path.join(dataDir, "misspelt");
  await writeFile(misspelt, `${misspell((await readFile(keysFile, "latin1")).slice(0, 47))}\n`, {
    mode: 0o600,
  });
  const oneToken = await issueTokens("one", sessions.slice(0, 1));
  return [
    { ...usual, title: "API key, one", next: () => keysFrom(0, 1) },
    { ...usual, title: `API keys, ${fewKeys.toLocaleString("en-US")}`, next: () => keysFrom(0, fewKeys) },
    { ...usual, title: `API keys, ${keys.toLocaleString("en-US")}`, ...inTurns() },
    { ...usual, title: "API key, each first seen", server: "forgetful", reads: 1, ...inTurns() },
    {
      ...usual,
      title: "API key, misspelt: refused",
      expected: "refusal",
      next: () => ({ ...keysFrom(0, 1), file: misspelt }),
    },
    { ...usual, title: "token, one", next: () => tokensFrom(oneToken, 1, false) },
    { ...usual, title: "token, each first seen", next: tokensOnce("known-session", () => 0) },
    {
      ...usual,
      title: "token and session, each first seen",
      server: "forgetful",
      reads: 1,
      next: tokensOnce("new-session", (index) => index),
    },
  ];
}

const tokensFrom = (file: string, count: number, once: boolean): CredentialList => ({
  header: "authorization",
  file,
  from: 0,
  count,
  once,
});

/** Every key once: afterwards the server knows them all. */
export const firstPassOf = ({ keysFile }: AuthDatabase, keys: number): Case => ({
  title: "first pass",
  server: "usual",
  expected: "answer",
  reads: 1,
  next: () => ({ header: "x-api-key", file: keysFile, from: 0, count: keys, once: true }),
});

function misspell(secret: string): string {
  return `${secret.slice(0, 20)}${secret[20] === "A" ? "B" : "A"}${secret.slice(21)}`;
}
