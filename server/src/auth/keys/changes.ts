/** The bus channel that says which API keys have changed: `{ apiKeyId }`, after the commit. */
export const keysChannel = "keys";

/** What is told of a changed key. */
export function keyChange(apiKeyId: string): string {
  return JSON.stringify({ apiKeyId });
}

/** The key that has changed; undefined when the message is none of ours. */
export function readKeyChange(message: string): string | undefined {
  try {
    const { apiKeyId } = JSON.parse(message) as { apiKeyId?: unknown };
    return typeof apiKeyId === "string" ? apiKeyId : undefined;
  } catch {
    return undefined;
  }
}
