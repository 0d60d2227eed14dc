import { create } from "@bufbuild/protobuf";
import { timestampFromDate } from "@bufbuild/protobuf/wkt";
import { type Tenant, TenantSchema, TenantState } from "../../gen/pulsewire/auth/v1/tenant_pb.js";
import { etagOf } from "../ids.ts";
import { storedLimits } from "./limits-in-force.ts";
import type { TenantRow } from "./store.ts";

/** Slugs with this prefix belong to the tenants of development tokens. */
export const developmentSlugPrefix = "dev-";

function developmentUserOf(slug: string): string | undefined {
  return slug.startsWith(developmentSlugPrefix) ? slug.slice(developmentSlugPrefix.length) : undefined;
}

/** The namespace of the tenant's functions (EventFlow): of a development token's tenant it has the user's id. */
export function namespaceOf({ slug, id }: Pick<TenantRow, "slug" | "id">): string {
  return `tenant-${developmentUserOf(slug) ?? id}`;
}

/** The tenant for those who hold TENANT_READ, as every person does; `publicTenantMessage` for others. */
export function tenantMessage(row: TenantRow): Tenant {
  return create(TenantSchema, {
    limits: storedLimits(row),
    id: row.id,
    name: row.name,
    slug: row.slug,
    contactEmail: row.contact_email,
    state: TenantState[row.state],
    namespace: namespaceOf(row),
    createdAt: timestampFromDate(row.created_at),
    updatedAt: timestampFromDate(row.updated_at),
    etag: etagOf(row.updated_at),
  });
}

/** The tenant for those who may not read it: without how to reach it and what it may use. */
export function publicTenantMessage(row: TenantRow): Tenant {
  const tenant = tenantMessage(row);
  tenant.contactEmail = "";
  delete tenant.limits;
  return tenant;
}
