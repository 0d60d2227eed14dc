/**
 * The same value with the keys of every object in order, so that the same body always gives the same JSON. Objects are
 * only made anew where their keys are out of order.
 */
export function inOrder<T>(value: T): T {
  return ordered(value) as T;
}

function ordered(value: unknown): unknown {
  if (typeof value !== "object" || value === null) return value;
  if (Array.isArray(value)) return listInOrder(value);
  const fields = value as Record<string, unknown>;
  let last = "";
  let sorted = true;
  let changed: Map<string, unknown> | undefined;
  for (const key in fields) {
    if (key < last) sorted = false;
    last = key;
    const field = fields[key];
    if (typeof field !== "object" || field === null) continue;
    const again = ordered(field);
    if (again !== field) {
      changed ??= new Map();
      changed.set(key, again);
    }
  }
  if (sorted && !changed) return value;
  return Object.fromEntries(
    Object.keys(fields)
      .sort()
      .map((key) => [key, changed?.get(key) ?? fields[key]]),
  );
}

function listInOrder(list: readonly unknown[]): readonly unknown[] {
  const items = list.map(ordered);
  return items.every((item, index) => item === list[index]) ? list : items;
}
