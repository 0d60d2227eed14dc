import { timestampFromDate } from "@bufbuild/protobuf/wkt";
import type { ServiceImpl } from "@connectrpc/connect";
import type { Context } from "../../context.ts";
import type { AuthService } from "../../gen/pulsewire/auth/v1/auth_service_pb.js";
import { ErrorReason } from "../../gen/pulsewire/common/v1/error_reason_pb.js";
import { failure } from "../../rpc/errors.ts";
import { userMessage } from "../users/messages.ts";
import { tenantMessage } from "./messages.ts";
import { registerTenant } from "./register.ts";

/** Registers tenants. */
export function tenantHandlers({ config, db }: Context): Partial<ServiceImpl<typeof AuthService>> {
  return {
    async registerTenant({ name, slug, contactEmail }) {
      if (!config.registrationOpen) {
        throw failure(
          ErrorReason.DISABLED,
          "registration is closed on this server; ask its operator for a tenant",
          {
            metadata: { setting: "PULSEWIRE_REGISTRATION" },
          },
        );
      }
      const registered = await registerTenant(db, { name, slug, contactEmail });
      return {
        tenant: tenantMessage(registered.tenant),
        owner: userMessage(registered.owner),
        temporaryPassword: registered.temporaryPassword,
        temporaryPasswordExpiresAt: timestampFromDate(registered.expiresAt),
      };
    },
  };
}
