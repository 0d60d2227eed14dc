import type { ServiceImpl } from "@connectrpc/connect";
import type { Context } from "../../context.ts";
import type { MetricsService } from "../../gen/pulsewire/metrics/v1/metrics_service_pb.js";
import { alertHandlers } from "./alert-handlers.ts";
import { alertRuleHandlers } from "./rule-handlers.ts";
import { silenceHandlers } from "./silence-handlers.ts";

/** Alert rules, alerts and silences. */
export function alertingHandlers(context: Context): Partial<ServiceImpl<typeof MetricsService>> {
  return { ...alertRuleHandlers(context), ...alertHandlers(context), ...silenceHandlers(context) };
}
