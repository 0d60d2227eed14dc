import type { ServiceImpl } from "@connectrpc/connect";
import type { Context } from "../context.ts";
import type { AuthService } from "../gen/pulsewire/auth/v1/auth_service_pb.js";
import { auditHandlers } from "./audit/handlers.ts";
import { codeHandlers } from "./codes/handlers.ts";
import { developmentHandlers } from "./development/handlers.ts";
import { identityProviderHandlers } from "./identity-providers/handlers.ts";
import { apiKeyHandlers } from "./keys/handlers.ts";
import { passwordHandlers } from "./passwords/handlers.ts";
import { sessionHandlers } from "./sessions/handlers.ts";
import { tenantHandlers } from "./tenants/handlers.ts";
import { userHandlers } from "./users/handlers.ts";

/** AuthService as far as it is built; other methods answer UNIMPLEMENTED. */
export function authHandlers(context: Context): Partial<ServiceImpl<typeof AuthService>> {
  return {
    ...tenantHandlers(context),
    ...userHandlers(context),
    ...auditHandlers(context),
    ...sessionHandlers(context),
    ...passwordHandlers(context),
    ...codeHandlers(context),
    ...developmentHandlers(context),
    ...apiKeyHandlers(context),
    ...identityProviderHandlers(context),
  };
}
