import type { CodePurpose } from "../../db/schema/auth.ts";
import type { Mail } from "../../mail/mailer.ts";

const subjects: Record<CodePurpose, string> = {
  LOGIN: "is your code to sign in to Pulsewire",
  PASSWORD_RECOVERY: "is your code to set a new Pulsewire password",
};

const uses: Record<CodePurpose, string> = {
  LOGIN: "Enter it to sign in. It is good for nothing else.",
  PASSWORD_RECOVERY: "Enter it to set a new password. It is good for nothing else.",
};

/** The message that brings a code. */
export function codeMail(to: string, purpose: CodePurpose, code: string, ttlMs: number): Mail {
  const minutes = Math.round(ttlMs / 60_000);
  const text = [
    `Your code: ${code}`,
    "",
    uses[purpose],
    `It works once, for ${minutes} minutes. Tell it to nobody, not even to somebody who says they work here.`,
    "",
    "You did not ask for a code? Then somebody has typed your address; you need do nothing.",
    "",
  ].join("\n");
  return { to, subject: `${code} ${subjects[purpose]}`, text };
}
