/** What a server does whether or not it is called, and what stands around every read. */
const background = [
  /^(begin|commit|rollback|start transaction)\b/i,
  /^select set_config\(/i,
  // The bus asks whether its connection still stands.
  /^select$/i,
  // The last uses of keys, in batches.
  /^update api_keys set last_used_at\b/i,
  // Noted usage, in batches.
  /^insert into (usage_increments|usage_active)\b/i,
  /\bsigning_keys\b/i,
  // What has expired is deleted.
  /^delete from\b/i,
];

/** The statements between two counts that are neither background nor the frame of a transaction. */
export function readsIn(
  before: ReadonlyMap<string, number>,
  after: ReadonlyMap<string, number>,
): { reads: number; texts: string[] } {
  let reads = 0;
  const texts: string[] = [];
  for (const [query, calls] of after) {
    const more = calls - (before.get(query) ?? 0);
    if (more === 0 || background.some((pattern) => pattern.test(query))) continue;
    reads += more;
    texts.push(`${more} × ${query.slice(0, 120)}`);
  }
  return { reads, texts };
}
