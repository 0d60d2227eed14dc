import type { JWTPayload } from "jose";
import type { Role } from "../../db/schema/auth.ts";
import type { ClaimMapping } from "../../gen/pulsewire/auth/v1/identity_provider_pb.js";
import { highestRole, storedRole } from "../roles.ts";

/** What a token says of its person, after the claim mapping. */
export interface Identity {
  /** The claim that the subject was read from. */
  readonly subjectClaim: string;
  readonly subject: string;
  /** In lower case; undefined unless the issuer has verified it. */
  readonly email: string | undefined;
  readonly displayName: string;
  /** The highest role that the mapping gives; undefined: none. */
  readonly role: Role | undefined;
}

const printable = /^[^\p{Cc}]{1,255}$/u;
const address = /^[^\s@\p{Cc}]{1,64}@[^\s@\p{Cc}]{1,189}$/u;

/** Reads the claims. Returns undefined for a token without a usable subject. */
export function readIdentity(payload: JWTPayload, mapping: ClaimMapping): Identity | undefined {
  const subjectClaim = mapping.subject || "sub";
  const subject = claim(payload, subjectClaim);
  if (typeof subject !== "string" || !printable.test(subject)) return undefined;
  const email = claim(payload, mapping.email || "email");
  const verified = claim(payload, mapping.emailVerified || "email_verified") === true;
  const name = claim(payload, mapping.displayName || "name");
  return {
    subjectClaim,
    subject,
    email: verified && typeof email === "string" && address.test(email) ? email.toLowerCase() : undefined,
    displayName: typeof name === "string" ? name.replace(/\p{Cc}/gu, "").slice(0, 200) : "",
    role: mapping.role ? mappedRole(claim(payload, mapping.role), mapping) : undefined,
  };
}

function mappedRole(value: unknown, mapping: ClaimMapping): Role | undefined {
  const values = Array.isArray(value) ? value : [value];
  const roles = values
    .filter((word): word is string => typeof word === "string" && Object.hasOwn(mapping.roles, word))
    .map((word) => storedRole(mapping.roles[word]))
    .filter((role) => role !== undefined && role !== "OWNER");
  return highestRole(roles);
}

/** A claim by its name; where there is none, the dots of the name lead into nested objects. */
function claim(payload: object, name: string): unknown {
  if (Object.hasOwn(payload, name)) return (payload as Record<string, unknown>)[name];
  let value: unknown = payload;
  for (const part of name.split(".")) {
    if (typeof value !== "object" || value === null || !Object.hasOwn(value, part)) return undefined;
    value = (value as Record<string, unknown>)[part];
  }
  return value;
}
