/** What the processes tell each other of functions, after the commit. Messages are hints: every listener also looks by itself. */
import type { Logger } from "pino";
import type { Bus } from "../bus/bus.ts";

/** There is work for the reconciler: a function was made, changed or deleted. The message is its id. */
export const functionsChannel = "functions";
/** There is work for whoever runs invocations: one was called or cancelled. The message is its id. */
export const invocationsChannel = "invocations";

/** A function's log has grown or ended. */
export function logChannel(functionId: string): string {
  return `function-log:${functionId}`;
}

/** An invocation has changed. */
export function invocationChannel(invocationId: string): string {
  return `invocation:${invocationId}`;
}

/** Tells without waiting; what is not told is found by looking. */
export function tell(bus: Bus, logger: Logger, channel: string, message: string): void {
  bus
    .publish(channel, message)
    .catch((err: unknown) => logger.debug({ err, channel }, "a hint was not sent"));
}
