import type { FieldMask } from "@bufbuild/protobuf/wkt";
import { invalidField } from "../rpc/errors.ts";

/** What an update is to change: the paths of its mask, which must be among `allowed`. Throws INVALID_FIELD. */
export function pathsOf(mask: FieldMask | undefined, allowed: readonly string[]): ReadonlySet<string> {
  const paths = mask?.paths ?? [];
  const field = "update_mask";
  if (paths.length === 0) throw invalidField(field, `must name at least one of ${allowed.join(", ")}`);
  const unknown = paths.find((path) => !allowed.includes(path));
  if (unknown !== undefined) {
    throw invalidField(field, `'${unknown}' cannot be changed; what can: ${allowed.join(", ")}`);
  }
  return new Set(paths);
}
