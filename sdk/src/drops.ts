import type { DropNotice } from "./gateway-options.ts";

/** A reason is warned of again after this time. */
const quietMs = 60_000;

/** Warns of drops where the program listens to none: by the process's warnings on Node, by the console elsewhere. */
export function warnOfDrops(): (drop: DropNotice) => void {
  const known = new Map<string, { atMs: number; unsaid: number }>();
  return ({ type, reason, count, message }) => {
    const key = `${type} ${reason}`;
    const before = known.get(key);
    const now = performance.now();
    if (before && now - before.atMs < quietMs) {
      before.unsaid += count;
      return;
    }
    const total = count + (before?.unsaid ?? 0);
    known.set(key, { atMs: now, unsaid: 0 });
    warn(`Pulsewire dropped ${total} of kind ${type}: ${reason}. ${message} See the gateway's counts.`);
  };
}

function warn(text: string): void {
  const { process } = globalThis as { process?: { emitWarning?(text: string, name: string): void } };
  if (process?.emitWarning) process.emitWarning(text, "PulsewireWarning");
  else console.warn(text);
}
