/** What the primary process and the members tell each other. */
import type { Count } from "../rpc/rate-windows.ts";

/** URLs of the embedded database, which the primary runs. */
export interface SharedDatabase {
  readonly app: string;
  readonly owner: string;
}

export type ToMember =
  /** The answer to `hello`: begin. */
  | { readonly kind: "start"; readonly database?: SharedDatabase; readonly databaseConnections: number }
  /** Everything is prepared: say that you are ready. */
  | { readonly kind: "serve" }
  | { readonly kind: "counted"; readonly id: number; readonly count: Count }
  | { readonly kind: "drain" }
  | { readonly kind: "destroy" };

export type FromMember =
  /** The first message: whatever is sent to a member before is lost. */
  | { readonly kind: "hello" }
  | { readonly kind: "listening"; readonly url: string }
  | { readonly kind: "serving" }
  /** Start-up failed, with a sentence for the operator. */
  | { readonly kind: "failed"; readonly reason: string }
  | { readonly kind: "count"; readonly id: number; readonly name: string };
