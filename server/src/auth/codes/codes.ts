import { randomBytes, randomInt, timingSafeEqual } from "node:crypto";
import type { Kysely } from "kysely";
import type { AuthConfig } from "../../config/auth.ts";
import type { CodePurpose } from "../../db/schema/auth.ts";
import type { Database } from "../../db/schema.ts";
import { ErrorReason } from "../../gen/pulsewire/common/v1/error_reason_pb.js";
import { failure } from "../../rpc/errors.ts";
import type { Mac } from "../mac.ts";
import { noteRequest, putCode, type StoredCode, takeAttempt } from "./store.ts";

const codeDigits = 6;

/** The codes that are sent by e-mail: 6 digits, good once, for minutes and a few attempts. */
export interface EmailCodes {
  /** Notes that a code is asked for. Throws RATE_LIMITED when that is too soon or too often. */
  pace(email: string): Promise<void>;
  /** Makes the code that replaces the one before. */
  issue(email: string, purpose: CodePurpose): Promise<{ code: string; expiresAt: Date }>;
  /** What `issue` does, with the same effort, for an address that gets no code: none is right. */
  pretend(email: string, purpose: CodePurpose): Promise<{ expiresAt: Date }>;
  /** Takes an attempt and says what is to be used up with `useCode`. Throws INVALID_CODE. */
  check(email: string, purpose: CodePurpose, code: string): Promise<StoredCode>;
}

export type CodeLimits = Pick<AuthConfig, "codeTtlMs" | "codeResendMs" | "codesPerHour" | "codeAttempts">;

/** Addresses are given in lower case. */
export function createEmailCodes(db: Kysely<Database>, mac: Mac, limits: CodeLimits): EmailCodes {
  const addressOf = (email: string) => mac("code-address", email);
  const hashOf = (email: string, purpose: CodePurpose, code: string) => mac("code", email, purpose, code);
  const put = (email: string, purpose: CodePurpose, codeHash: Buffer) =>
    putCode(db, { address: addressOf(email), purpose, codeHash }, limits.codeTtlMs);

  return {
    async pace(email) {
      const waitMs = await noteRequest(db, addressOf(email), {
        resendMs: limits.codeResendMs,
        perHour: limits.codesPerHour,
      });
      if (waitMs === 0) return;
      throw failure(
        ErrorReason.RATE_LIMITED,
        `another code for this address can be sent in ${Math.ceil(waitMs / 1_000)} s`,
        { metadata: { limit: "code_requests" }, retryAfterMs: waitMs },
      );
    },
    async issue(email, purpose) {
      const code = String(randomInt(10 ** codeDigits)).padStart(codeDigits, "0");
      return { code, expiresAt: await put(email, purpose, hashOf(email, purpose, code)) };
    },
    async pretend(email, purpose) {
      const nobodys = randomBytes(codeDigits).toString("hex");
      return { expiresAt: await put(email, purpose, hashOf(email, purpose, nobodys)) };
    },
    async check(email, purpose, code) {
      const address = addressOf(email);
      const given = hashOf(email, purpose, code);
      const stored = await takeAttempt(db, { address, purpose }, limits.codeAttempts);
      if (!stored || !timingSafeEqual(stored, given)) throw invalidCode();
      return { address, purpose, codeHash: stored };
    },
  };
}

/** The error of a code that is no good, whatever the reason. */
export function invalidCode() {
  return failure(
    ErrorReason.INVALID_CODE,
    "the code is wrong, used, expired or for something else, or this address cannot sign in; ask for a new code",
  );
}
