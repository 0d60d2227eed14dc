/**
 * What `google.api.http` cannot say of a path: envelope, spelling of fields and enum words, status codes and the body of errors.
 * A dialect is chosen by path; each of the five systems whose clients call unchanged has one, everything else speaks the canonical one.
 */
import type { DescMethod, JsonObject, JsonValue } from "@bufbuild/protobuf";
import type { RestError } from "./http-error.ts";

/** What a method mapping may look at besides the messages. */
export interface RestRequest {
  readonly path: string;
  readonly query: URLSearchParams;
}

/** What is sent. */
export interface RestAnswer {
  readonly status: number;
  /** Undefined: no body. */
  readonly body: JsonValue | undefined;
  readonly headers?: Readonly<Record<string, string>>;
}

/** How one method is spoken. Messages are in ProtoJSON, with every field there. */
export interface MethodDialect {
  /** Turns what the client sends, path and query included, into the request of the contract; may throw a failure. */
  request?(sent: JsonObject, http: RestRequest): JsonObject;
  /** Turns the answer of the contract into the documented one. `sent` is the request of the contract. */
  answer?(answer: JsonObject, sent: JsonObject): RestAnswer;
  /** What is answered, by status, as the system's own document shows it; for OpenAPI, and compared with in tests. */
  readonly documented?: Readonly<Record<number, JsonValue>>;
  /** Fields of `documented`, at any depth, that are left out where they say nothing. */
  readonly optional?: readonly string[];
  /** Another method of the contract that answers this request instead; see Pebbles. */
  instead?(http: RestRequest): DescMethod | undefined;
}

export interface Spelling {
  /** `proto` is snake_case, `json` camelCase. */
  readonly names: "proto" | "json";
  /** 64-bit numbers as JSON numbers, as the document has them, or as strings, as ProtoJSON has them. */
  readonly int64: "number" | "string";
}

export interface Dialect {
  readonly name: string;
  /** Whose clients speak it, for people. */
  readonly title: string;
  /** JSON Schema of error bodies. */
  readonly errorSchema: JsonObject;
  /** Whether it speaks for this path. */
  owns(path: string): boolean;
  /** How messages are spelled in answers. */
  readonly spelling: Spelling;
  /** Whether fields that the request does not have are passed over, as the system did whose clients call; else refused. */
  readonly ignoreUnknownFields: boolean;
  /** Fields that its document requires though the contract can do without: names by message, for requests. */
  readonly required?: Readonly<Record<string, readonly string[]>>;
  /** By `Service.Method`; methods that are not here are spoken as `answer` says. */
  readonly methods: Readonly<Record<string, MethodDialect>>;
  /** The answer of a method without a mapping of its own. */
  answer(method: DescMethod, answer: JsonObject): RestAnswer;
  /** The status and body of an error. */
  failure(error: RestError, path: string): RestAnswer & { readonly contentType: string };
}

/** `Service.Method`, the key of `methods`. */
export function methodKey(method: DescMethod): string {
  return `${method.parent.name}.${method.name}`;
}

/** 201 for what makes a resource, 204 where there is nothing to say, else 200. */
export function plainAnswer(method: DescMethod, answer: JsonObject): RestAnswer {
  if (/^(Create|Register)/.test(method.name)) return { status: 201, body: answer };
  if (method.output.fields.length === 0) return { status: 204, body: undefined };
  return { status: 200, body: answer };
}
