import type { ServiceImpl } from "@connectrpc/connect";
import type { Context } from "../../context.ts";
import { uuidForm } from "../../db/uuid.ts";
import type { AuthService } from "../../gen/pulsewire/auth/v1/auth_service_pb.js";
import { ErrorReason } from "../../gen/pulsewire/common/v1/error_reason_pb.js";
import { enterAudit } from "../../rpc/audit.ts";
import { failure, invalidField } from "../../rpc/errors.ts";
import { claimsOf, signInFacts } from "../sessions/open.ts";
import { openDevelopmentSession } from "./session.ts";

/** Gives development tokens to whoever asks, where the operator lets it. */
export function developmentHandlers(context: Context): Partial<ServiceImpl<typeof AuthService>> {
  const { config, tokens } = context;
  const ttlSeconds = config.auth.developmentTokenTtlSeconds;
  return {
    async issueDevelopmentToken({ userId, username, email }, call) {
      if (!config.auth.developmentTokens) throw noDevelopmentTokens();
      // Other tenants' namespaces are `tenant-` and a UUID.
      if (uuidForm.test(userId)) throw invalidField("user_id", "must not be a UUID", "user_id.uuid");
      const asked = { userId, username, email: email.toLowerCase() };
      const session = await openDevelopmentSession(context, asked, (trx, opened) =>
        enterAudit(trx, opened.session.tenant_id, call, signInFacts(opened)),
      );
      return {
        token: await tokens.issue(claimsOf(session), ttlSeconds),
        userId,
        username,
        email,
        namespace: `tenant-${userId}`,
        tokenType: "Bearer",
        expiresIn: ttlSeconds,
        tenantId: session.tenant_id,
      };
    },
  };
}

function noDevelopmentTokens() {
  return failure(
    ErrorReason.DISABLED,
    "tokens without proof of who asks are given in development mode only: on the embedded database bound to " +
      "loopback, or where the operator sets PULSEWIRE_DEVELOPMENT_TOKENS=on; log in with AuthService.Login",
    { metadata: { setting: "PULSEWIRE_DEVELOPMENT_TOKENS" } },
  );
}
