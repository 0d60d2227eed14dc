import { timestampFromDate, timestampFromMs } from "@bufbuild/protobuf/wkt";
import type { ServiceImpl } from "@connectrpc/connect";
import type { Context } from "../../context.ts";
import type { CodePurpose } from "../../db/schema/auth.ts";
import type { AuthService } from "../../gen/pulsewire/auth/v1/auth_service_pb.js";
import { CodePurpose as Purpose } from "../../gen/pulsewire/auth/v1/session_pb.js";
import { ErrorReason } from "../../gen/pulsewire/common/v1/error_reason_pb.js";
import { enterAudit } from "../../rpc/audit.ts";
import { failure } from "../../rpc/errors.ts";
import { signInFacts, tokenPair } from "../sessions/open.ts";
import { tenantMessage } from "../tenants/messages.ts";
import { personMessage } from "../users/messages.ts";
import { invalidCode } from "./codes.ts";
import { codeMail } from "./mail.ts";
import { chooseMembership, memberOf, membershipsOf } from "./membership.ts";
import { type SignInEntry, signInToMembership, signInToNewTenant } from "./sign-in.ts";

const purposeOf: Record<Purpose, CodePurpose> = {
  [Purpose.UNSPECIFIED]: "LOGIN",
  [Purpose.LOGIN]: "LOGIN",
  [Purpose.PASSWORD_RECOVERY]: "PASSWORD_RECOVERY",
};

/** Sends codes by e-mail and signs in with them. */
export function codeHandlers(context: Context): Partial<ServiceImpl<typeof AuthService>> {
  const { db, config, tokens, codes, mailer, logger } = context;
  const { codeTtlMs, codeResendMs } = config.auth;

  /** Whether a code would be good for anything: an address that it is not gets none. */
  const isWelcome = async (email: string, purpose: CodePurpose) => {
    const memberships = await membershipsOf(db, email);
    if (purpose === "PASSWORD_RECOVERY") return memberships.length > 0;
    return chooseMembership(memberships, config.tenants.registrationOpen) !== undefined;
  };

  const deliver = (email: string, purpose: CodePurpose, code: string) => {
    // Not waited for: how long the mail server takes would tell who is known.
    if (mailer) void mailer.send(codeMail(email, purpose, code, codeTtlMs));
    else logger.warn({ email, purpose, code }, "no mail server is configured; this is the code");
  };

  return {
    async requestCode(request) {
      if (!mailer && !config.development) throw noMailServer();
      const email = request.email.toLowerCase();
      const purpose = purposeOf[request.purpose];
      await codes.pace(email);
      const resendAt = timestampFromMs(Date.now() + codeResendMs);
      if (!(await isWelcome(email, purpose))) {
        const { expiresAt } = await codes.pretend(email, purpose);
        return { expiresAt: timestampFromDate(expiresAt), resendAt };
      }
      const { code, expiresAt } = await codes.issue(email, purpose);
      deliver(email, purpose, code);
      return { expiresAt: timestampFromDate(expiresAt), resendAt };
    },

    async verifyCode(request, call) {
      const email = request.email.toLowerCase();
      const code = await codes.check(email, "LOGIN", request.code);
      const choice = request.tenantSlug
        ? await memberOf(db, request.tenantSlug, email)
        : chooseMembership(await membershipsOf(db, email), config.tenants.registrationOpen);
      if (!choice) throw invalidCode();
      const enter: SignInEntry = (trx, opened) =>
        enterAudit(trx, opened.session.tenant_id, call, signInFacts(opened));
      const tenantCreated = choice === "new-tenant";
      const { tenant, opened } = tenantCreated
        ? await signInToNewTenant(context, email, code, enter)
        : await signInToMembership(context, choice, code, enter);
      const { accessToken, ...rest } = await tokenPair(tokens, config.auth, opened);
      return {
        ...rest,
        token: accessToken,
        user: personMessage(config, opened.user, tenant.slug),
        tenant: tenantMessage(tenant),
        tenantCreated,
      };
    },
  };
}

function noMailServer() {
  return failure(
    ErrorReason.NOT_CONFIGURED,
    "this server sends no e-mail; its operator can set PULSEWIRE_SMTP_URL and PULSEWIRE_MAIL_FROM",
    { metadata: { setting: "PULSEWIRE_SMTP_URL" } },
  );
}
