import { hashPassword, temporaryPassword, temporaryPasswordTtlMs } from "../passwords.ts";

/** A temporary password: shown once, stored as a hash. */
export interface TemporaryPassword {
  readonly password: string;
  readonly expiresAt: Date;
  /** The user's columns that go with it. */
  readonly columns: {
    readonly password_hash: string;
    readonly must_change_password: true;
    readonly temporary_password_expires_at: Date;
  };
}

/** Makes one. Takes a hash's time, so not inside a transaction. */
export async function makeTemporaryPassword(): Promise<TemporaryPassword> {
  const password = temporaryPassword();
  const expiresAt = new Date(Date.now() + temporaryPasswordTtlMs);
  const password_hash = await hashPassword(password);
  return {
    password,
    expiresAt,
    columns: { password_hash, must_change_password: true, temporary_password_expires_at: expiresAt },
  };
}
