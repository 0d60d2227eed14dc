import type { Dialect } from "../dialect.ts";
import { canonical } from "./canonical.ts";
import { eventProcessor } from "./event-processor.ts";
import { eventflow } from "./eventflow.ts";
import { pebbles } from "./pebbles.ts";
import { pulsestream } from "./pulsestream.ts";

/** In the order in which they are asked; the last one owns whatever no other does. */
export const dialects: readonly Dialect[] = [pulsestream, eventProcessor, eventflow, pebbles, canonical];

/** The dialect of a path. */
export function dialectOf(path: string): Dialect {
  return dialects.find((dialect) => dialect.owns(path)) ?? canonical;
}
