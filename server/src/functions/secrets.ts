/** What of a function must be read again and seen by nobody: sealed at rest, opened for the runtime only. */
import type { KeyRing } from "../keyring.ts";
import type { Template } from "./spec.ts";

type TemplateSecrets = Pick<Template, "secretEnv" | "registry">;

/** The sealed form for the database; null where there is nothing to hide. */
export async function sealSecrets(
  keyring: KeyRing,
  functionId: string,
  { secretEnv, registry }: TemplateSecrets,
): Promise<string | null> {
  if (Object.keys(secretEnv).length === 0 && !registry) return null;
  const login = registry && { username: registry.username, password: registry.password };
  return await keyring.seal(JSON.stringify({ secretEnv, registry: login }), purposeOf(functionId));
}

/** Reads what `sealSecrets` made. */
export async function openSecrets(
  keyring: KeyRing,
  functionId: string,
  sealed: string | null,
): Promise<TemplateSecrets> {
  if (sealed === null) return { secretEnv: {}, registry: undefined };
  const { text } = await keyring.open(sealed, purposeOf(functionId));
  return JSON.parse(text) as TemplateSecrets;
}

function purposeOf(functionId: string): string {
  return `function ${functionId}`;
}
