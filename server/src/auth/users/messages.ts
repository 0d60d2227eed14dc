import { create } from "@bufbuild/protobuf";
import { timestampFromDate } from "@bufbuild/protobuf/wkt";
import { type User, UserSchema, UserState } from "../../gen/pulsewire/auth/v1/user_pb.js";
import { etagOf } from "../ids.ts";
import { roleOf } from "../roles.ts";
import type { UserRow } from "./store.ts";

export function userMessage(row: UserRow): User {
  return create(UserSchema, {
    id: row.id,
    tenantId: row.tenant_id,
    email: row.email,
    displayName: row.display_name,
    role: roleOf[row.role],
    state: UserState.ACTIVE,
    mustChangePassword: row.must_change_password,
    createdAt: timestampFromDate(row.created_at),
    updatedAt: timestampFromDate(row.updated_at),
    etag: etagOf(row.updated_at),
  });
}
