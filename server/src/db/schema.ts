import type { AlertTables } from "./schema/alerts.ts";
import type { AuthTables } from "./schema/auth.ts";
import type { FunctionTables } from "./schema/functions.ts";
import type { IngestionTables } from "./schema/ingestion.ts";
import type { MetricsTables } from "./schema/metrics.ts";
import type { ProgressTables } from "./schema/progress.ts";
import type { SharedTables } from "./schema/shared.ts";
import type { WebhookTables } from "./schema/webhooks.ts";

/** The tables as the service sees them. Column by column the same as `server/schema.sql`. */
export interface Database
  extends AuthTables,
    IngestionTables,
    MetricsTables,
    AlertTables,
    FunctionTables,
    ProgressTables,
    WebhookTables,
    SharedTables {}
