import type { ServiceImpl } from "@connectrpc/connect";
import type { Context } from "../context.ts";
import type { AuthService } from "../gen/pulsewire/auth/v1/auth_service_pb.js";
import { apiKeyHandlers } from "./keys/handlers.ts";
import { sessionHandlers } from "./sessions/handlers.ts";
import { tenantHandlers } from "./tenants/handlers.ts";

/** AuthService as far as it is built; other methods answer UNIMPLEMENTED. */
export function authHandlers(context: Context): Partial<ServiceImpl<typeof AuthService>> {
  return { ...tenantHandlers(context), ...sessionHandlers(context), ...apiKeyHandlers(context) };
}
