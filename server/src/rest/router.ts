/** Finds the binding of a request; conflicts between paths are found when it is made. */
import type { Binding, HttpMethod } from "./bindings.ts";
import { matchSegments, type Segment } from "./template.ts";

export interface Match {
  readonly binding: Binding;
  /** Values of the path's variables, by field. */
  readonly variables: Record<string, string>;
}

export interface Router {
  /**
   * The binding for a path as it stands in the request, without query: a match; or the methods that the path knows, where it
   * knows others only; or undefined. Throws a URIError for a path whose escapes are broken.
   */
  find(method: string, path: string): Match | { readonly allow: readonly HttpMethod[] } | undefined;
}

/** Throws where two bindings would take the same requests. */
export function createRouter(bindings: readonly Binding[]): Router {
  assertNoConflicts(bindings);
  // Literals before variables, so that /v1/tenants/current would come before /v1/tenants/{tenant_id}.
  const ordered = bindings.toSorted((a, b) => weight(b).localeCompare(weight(a)));
  const verbs = new Set(bindings.map(({ template }) => template.verb));
  return {
    find(method, path) {
      const allow = new Set<HttpMethod>();
      for (const { parts, verb } of readings(path, verbs)) {
        for (const binding of ordered) {
          if (binding.template.verb !== verb) continue;
          const variables = matchSegments(binding.template, parts);
          if (!variables) continue;
          if (binding.httpMethod === method) return { binding, variables };
          allow.add(binding.httpMethod);
        }
        // A path that is known with its verb is not also a resource whose name holds a colon.
        if (allow.size > 0) break;
      }
      return allow.size > 0 ? { allow: [...allow].sort() } : undefined;
    },
  };
}

/** A path with a colon may end with a verb, or with a value that holds a colon. */
function* readings(path: string, verbs: ReadonlySet<string>) {
  const colon = path.lastIndexOf(":");
  const verb = colon > path.lastIndexOf("/") ? path.slice(colon + 1) : "";
  if (verb !== "" && verbs.has(verb)) yield { parts: split(path.slice(0, colon)), verb };
  yield { parts: split(path), verb: "" };
}

function split(path: string): string[] {
  return path.slice(1).split("/").map(decodeURIComponent);
}

/** Sorts templates by how exact they are, from the left. */
function weight({ template }: Binding): string {
  const marks: Record<Segment["kind"], string> = { literal: "2", any: "1", rest: "0" };
  return template.segments.map(({ kind }) => marks[kind]).join("");
}

function assertNoConflicts(bindings: readonly Binding[]): void {
  const seen = new Map<string, Binding>();
  for (const binding of bindings) {
    const shape = binding.template.segments.map((segment) =>
      segment.kind === "literal" ? segment.text : segment.kind === "any" ? "*" : "**",
    );
    const key = `${binding.httpMethod} /${shape.join("/")}:${binding.template.verb}`;
    const other = seen.get(key);
    if (other) {
      throw new Error(
        `${binding.method.name} (${binding.template.text}) and ${other.method.name} (${other.template.text}) share the path ${key}`,
      );
    }
    seen.set(key, binding);
  }
}
