import { create } from "@bufbuild/protobuf";
import { timestampFromDate } from "@bufbuild/protobuf/wkt";
import { type Tenant, TenantSchema, TenantState } from "../../gen/pulsewire/auth/v1/tenant_pb.js";
import { etagOf } from "../ids.ts";
import type { TenantRow } from "./store.ts";

export function tenantMessage(row: TenantRow): Tenant {
  return create(TenantSchema, {
    id: row.id,
    name: row.name,
    slug: row.slug,
    contactEmail: row.contact_email,
    state: TenantState.ACTIVE,
    namespace: `tenant-${row.id}`,
    createdAt: timestampFromDate(row.created_at),
    updatedAt: timestampFromDate(row.updated_at),
    etag: etagOf(row.updated_at),
  });
}
