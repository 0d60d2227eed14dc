/**
 * Reads a Retry-After header (RFC 9110): whole seconds or an HTTP-date.
 *
 * @param value the header; `null` where there is none
 * @param now milliseconds since 1970 that a date is compared with; default: the clock
 * @returns milliseconds to wait, 0 for a date that has passed; `undefined` where the header is absent or not readable
 */
export function parseRetryAfter(value: string | null, now: number = Date.now()): number | undefined {
  const text = value?.trim() ?? "";
  if (/^\d+$/.test(text)) return Number(text) * 1000;
  // Date.parse reads far more than HTTP-dates; all three forms of those begin with the name of a day.
  if (!/^(mon|tue|wed|thu|fri|sat|sun)/i.test(text)) return undefined;
  const date = Date.parse(text);
  return Number.isNaN(date) ? undefined : Math.max(0, date - now);
}
