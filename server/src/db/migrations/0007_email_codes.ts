import { type Kysely, sql } from "kysely";
import { appRole } from "../roles.ts";

export async function up(db: Kysely<unknown>): Promise<void> {
  // A code belongs to an address, not to a tenant. Address and code are stored as keyed hashes only.
  await sql`
    create table email_codes (
      address bytea not null,
      purpose text not null check (purpose in ('LOGIN', 'PASSWORD_RECOVERY')),
      code_hash bytea not null,
      attempts int not null default 0,
      expires_at timestamptz not null,
      primary key (address, purpose)
    );
    create index email_codes_expiry on email_codes (expires_at);
    grant select, insert, update, delete on email_codes to ${sql.raw(appRole)};

    create table email_code_requests (
      address bytea primary key,
      requested_at timestamptz[] not null,
      forget_at timestamptz not null
    );
    create index email_code_requests_forget on email_code_requests (forget_at);
    grant select, insert, update, delete on email_code_requests to ${sql.raw(appRole)}`.execute(db);

  // The memberships of one address, across tenants: whoever has entered the code sent there may choose among them.
  await sql`
    create index users_by_email on users (email, tenant_id);
    create policy lookup on users for select
      using (email = nullif(current_setting('pulsewire.lookup_email', true), ''))`.execute(db);
}
