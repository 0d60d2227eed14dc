import { create } from "@bufbuild/protobuf";
import { timestampFromDate } from "@bufbuild/protobuf/wkt";
import type { Config } from "../../config/config.ts";
import { type User, UserSchema, UserState } from "../../gen/pulsewire/auth/v1/user_pb.js";
import { etagOf } from "../ids.ts";
import { isPlatformAdmin } from "../platform.ts";
import { roleOf } from "../roles.ts";
import type { UserRow } from "./store.ts";

/** Whether the operator has named the person, and until when sign-in is locked, is said by others than the row. */
export function userMessage(row: UserRow, platformAdmin = false, lockedUntil?: Date): User {
  return create(UserSchema, {
    id: row.id,
    tenantId: row.tenant_id,
    email: row.email,
    displayName: row.display_name,
    role: roleOf[row.role],
    state: UserState[row.state],
    emailVerified: row.email_verified || row.email_vouched,
    identityProviderId: row.identity_provider_id ?? "",
    externalId: row.external_id ?? "",
    platformAdmin,
    mustChangePassword: row.must_change_password,
    createdAt: timestampFromDate(row.created_at),
    updatedAt: timestampFromDate(row.updated_at),
    ...(row.last_login_at && { lastLoginAt: timestampFromDate(row.last_login_at) }),
    ...(lockedUntil && { lockedUntil: timestampFromDate(lockedUntil) }),
    etag: etagOf(row.updated_at),
  });
}

/** The person with what the operator has made of them. */
export function personMessage(config: Config, row: UserRow, tenantSlug: string, lockedUntil?: Date): User {
  return userMessage(row, isPlatformAdmin(config, row.email, tenantSlug), lockedUntil);
}
