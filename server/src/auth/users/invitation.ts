import type { Mail } from "../../mail/mailer.ts";
import type { TenantRow } from "../tenants/store.ts";
import type { UserRow } from "./store.ts";

/** The message that invites somebody who signs in with an e-mail code. It holds no secret. */
export function invitationMail(user: UserRow, tenant: TenantRow): Mail {
  const text = [
    `You have been invited to ${tenant.name} on Pulsewire.`,
    "",
    `Sign in with this address, ${user.email}, and the tenant '${tenant.slug}':`,
    "ask for a code, which comes by e-mail, and enter it. You need no password.",
    "",
    "You do not know who that is? Then you need do nothing.",
    "",
  ].join("\n");
  return { to: user.email, subject: `You have been invited to ${tenant.name}`, text };
}
