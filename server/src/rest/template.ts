/**
 * Path templates of google.api.http (AIP-127): `/v1/users/{user_id}:reset-password`, `{filename=**}`, `{name=shelves/*}`.
 */

/** One piece of a path between slashes. */
export type Segment =
  | { readonly kind: "literal"; readonly text: string }
  /** `*`: any one segment; `**`: all that follow, one at least. */
  | { readonly kind: "any" | "rest" };

export interface Variable {
  /** Field of the request, in proto spelling and with dots. */
  readonly field: string;
  /** The segments that it takes, from … to (exclusive). */
  readonly from: number;
  readonly to: number;
}

export interface Template {
  readonly text: string;
  readonly segments: readonly Segment[];
  readonly variables: readonly Variable[];
  /** After the colon; empty where there is none. */
  readonly verb: string;
}

/** Reads a template. Throws for one that is broken, which is a mistake in the contract. */
export function parseTemplate(text: string): Template {
  const broken = (why: string) => new Error(`path template ${text}: ${why}`);
  const verbAt = /:([a-z][a-z0-9-]*)$/.exec(text);
  const verb = verbAt?.[1] ?? "";
  const path = verbAt ? text.slice(0, verbAt.index) : text;
  if (!path.startsWith("/")) throw broken("must begin with /");
  const segments: Segment[] = [];
  const variables: Variable[] = [];
  for (const piece of path.slice(1).match(/\{[^}]*\}|[^/{}]+|[{}]/g) ?? []) {
    const variable = /^\{([a-z][a-z0-9_.]*)(?:=([^{}]+))?\}$/.exec(piece);
    if (variable) {
      const inner = (variable[2] ?? "*").split("/").map(toSegment);
      const from = segments.length;
      segments.push(...inner);
      variables.push({ field: variable[1] as string, from, to: segments.length });
    } else if (/[{}]/.test(piece)) {
      throw broken(`cannot read ${piece}`);
    } else {
      segments.push(toSegment(piece));
    }
  }
  const restAt = segments.findIndex(({ kind }) => kind === "rest");
  if (restAt !== -1 && restAt !== segments.length - 1) throw broken("** must come last");
  return { text, segments, variables, verb };
}

function toSegment(text: string): Segment {
  if (text === "*") return { kind: "any" };
  if (text === "**") return { kind: "rest" };
  return { kind: "literal", text };
}

/** The values of the variables where the path fits; undefined where it does not. `parts` are decoded and without the verb. */
export function matchSegments(
  template: Template,
  parts: readonly string[],
): Record<string, string> | undefined {
  const { segments, variables } = template;
  const open = segments.at(-1)?.kind === "rest";
  if (open ? parts.length < segments.length : parts.length !== segments.length) return undefined;
  for (const [index, segment] of segments.entries()) {
    if (segment.kind === "literal" && segment.text !== parts[index]) return undefined;
    if (segment.kind === "any" && parts[index] === "") return undefined;
  }
  const values: Record<string, string> = {};
  for (const { field, from, to } of variables) {
    const end = open && to === segments.length ? parts.length : to;
    values[field] = parts.slice(from, end).join("/");
  }
  return values;
}
