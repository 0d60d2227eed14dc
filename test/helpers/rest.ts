import assert from "node:assert/strict";
import type { JsonObject, JsonValue } from "@bufbuild/protobuf";

/** What came back over REST. */
export interface RestResponse {
  readonly status: number;
  readonly headers: Headers;
  /** Parsed where it is JSON, else the text; undefined where there is none. */
  readonly body: JsonValue | undefined;
}

/** Calls one server with JSON. */
export function restClient(url: string, defaults: Record<string, string> = {}) {
  return async (
    method: string,
    path: string,
    body?: JsonValue,
    headers: Record<string, string> = {},
  ): Promise<RestResponse> => {
    const response = await fetch(url + path, {
      method,
      headers: { ...(body !== undefined && { "content-type": "application/json" }), ...defaults, ...headers },
      ...(body !== undefined && { body: JSON.stringify(body) }),
    });
    const text = await response.text();
    const isJson = /json/.test(response.headers.get("content-type") ?? "") && text !== "";
    return {
      status: response.status,
      headers: response.headers,
      body: isJson ? JSON.parse(text) : text || undefined,
    };
  };
}

/** The body of an answer as an object. */
export function objectOf({ body }: RestResponse): JsonObject {
  assert.ok(
    typeof body === "object" && body !== null && !Array.isArray(body),
    `no object: ${JSON.stringify(body)}`,
  );
  return body;
}

/**
 * The answer has every field that the document shows, under the same name and of the same type, and, with `exact`, no others. The
 * items of a list are each compared with the document's first.
 */
export function assertShape(
  actual: JsonValue | undefined,
  documented: JsonValue,
  exact = true,
  path = "$",
): void {
  const at = `${path}: ${JSON.stringify(actual)?.slice(0, 300)}`;
  if (Array.isArray(documented)) {
    assert.ok(Array.isArray(actual), `${at} should be a list`);
    const [first] = documented;
    if (first === undefined) return;
    assert.ok(actual.length > 0, `${at} should not be empty`);
    for (const [index, item] of actual.entries()) assertShape(item, first, exact, `${path}[${index}]`);
    return;
  }
  if (typeof documented === "object" && documented !== null) {
    assert.ok(
      typeof actual === "object" && actual !== null && !Array.isArray(actual),
      `${at} should be an object`,
    );
    for (const [name, value] of Object.entries(documented)) {
      assert.ok(name in actual, `${at} lacks ${name}`);
      assertShape(actual[name], value, exact, `${path}.${name}`);
    }
    const extra = Object.keys(actual).filter((name) => !(name in documented));
    if (exact) assert.deepEqual(extra, [], `${at} has fields that the document does not know`);
    return;
  }
  assert.equal(typeof actual, typeof documented, `${at} should be a ${typeof documented}`);
  if (typeof documented === "string" && /^\d{4}-\d\d-\d\dT[\d:.]+Z$/.test(documented)) {
    assert.match(String(actual), /^\d{4}-\d\d-\d\dT[\d:.]+Z$/, at);
  }
}
