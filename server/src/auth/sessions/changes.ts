import type { Bus } from "../../bus/bus.ts";

/** The bus channel that says whose sessions have ended or whose users may do something else now. */
export const sessionsChannel = "sessions";

/** One session, all of a user, or, with the tenant alone, all of the tenant. */
export interface SessionChange {
  readonly tenantId: string;
  readonly userId?: string;
  readonly sessionId?: string;
}

/** Tells all processes. Call it after the commit: who reads again before sees the old state. */
export function publishSessionChange(bus: Pick<Bus, "publish">, change: SessionChange): Promise<void> {
  return bus.publish(sessionsChannel, JSON.stringify(change));
}

/** Reads a message; undefined when it is none of ours. */
export function readSessionChange(message: string): SessionChange | undefined {
  try {
    const { tenantId, userId, sessionId } = JSON.parse(message) as Record<string, unknown>;
    if (typeof tenantId !== "string") return undefined;
    return {
      tenantId,
      ...(typeof userId === "string" && { userId }),
      ...(typeof sessionId === "string" && { sessionId }),
    };
  } catch {
    return undefined;
  }
}
