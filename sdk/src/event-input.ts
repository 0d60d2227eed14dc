import type { Severity } from "./gen/pulsewire/ingestion/v1/event_pb.js";

/** Severity in words. */
export type SeverityName = "debug" | "info" | "warning" | "error" | "critical";

/** An event as a program writes it. Lengths are in characters; the encoded event may have at most 256 KiB. */
export interface EventInput {
  /** Type, such as `user_signup`. 1 to 200. */
  eventType: string;
  /** Id that makes a repetition harmless: 1 to 200 visible ASCII characters. Default: a UUIDv7 made now. */
  eventId?: string;
  /** Short title. At most 500. */
  title?: string;
  /** Text. At most 10,000. */
  message?: string;
  /** How serious it is. Default `info`. */
  severity?: SeverityName | Severity;
  /** Where it comes from. */
  source?: { service?: string; endpoint?: string; method?: string; version?: string };
  /** Circumstances: an object that JSON can hold. */
  context?: object;
  /** Named numbers. At most 100. */
  metrics?: Record<string, number>;
  /** Labels about the event: an object that JSON can hold. */
  metadata?: object;
  /** What the event is about: an object that JSON can hold. */
  payload?: object;
  /** The user it concerns. At most 200. */
  userId?: string;
  /** The session it belongs to. At most 200. */
  sessionId?: string;
  /** When it happened: a Date or milliseconds since 1970. Default: now. */
  timestamp?: Date | number;
  /** 1 (normal) to 10 (critical). Default 1. */
  priority?: number;
}

/** The same where fields that are left out may stand as `undefined`. */
export type EventFields = { [Field in keyof EventInput]: EventInput[Field] | undefined };
