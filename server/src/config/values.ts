/** Reads single settings: checks what is there and says what to set instead. */
import type { SettingName, Settings } from "./setting-names.ts";

export const megabyte = 1024 * 1024;
export const dayMs = 86_400_000;

/** A setting that cannot be used; the message names it and says what to set. */
export class ConfigError extends Error {
  override name = "ConfigError";
}

/** A whole number within bounds. */
export function integer(
  env: Settings,
  name: SettingName,
  fallback: number,
  min: number,
  max: number,
): number {
  const text = env[name];
  if (text === undefined) return fallback;
  const value = Number(text);
  if (!Number.isInteger(value) || value < min || value > max) {
    throw new ConfigError(`${name} is '${text}'; it must be a whole number from ${min} to ${max}`);
  }
  return value;
}

/** One of some words; undefined where nothing is set. */
export function oneOf<T extends string>(
  env: Settings,
  name: SettingName,
  words: readonly T[],
): T | undefined {
  const text = env[name];
  const word = words.find((candidate) => candidate === text);
  if (text !== undefined && word === undefined) {
    throw new ConfigError(`${name} is '${text}'; it must be one of ${words.join(", ")}`);
  }
  return word;
}
