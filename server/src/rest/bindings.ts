/** The REST paths of the contract: what `google.api.http` says beside each method. */
import { type DescMethod, type DescService, getOption, hasOption } from "@bufbuild/protobuf";
import { http } from "../gen/google/api/annotations_pb.js";
import type { HttpRule } from "../gen/google/api/http_pb.js";
import { parseTemplate, type Template } from "./template.ts";

export type HttpMethod = "GET" | "POST" | "PUT" | "PATCH" | "DELETE";

/** One way to call a method over REST. */
export interface Binding {
  readonly method: DescMethod;
  readonly httpMethod: HttpMethod;
  readonly template: Template;
  /** The path as the contract has it, such as `/v1/functions/{name}`. */
  readonly path: string;
  /** `*`: the body is the request; a field's name: the body is that field; empty: there is no body. */
  readonly body: string;
  /** The field of the answer that is sent alone; empty: the answer. */
  readonly responseBody: string;
}

/** All bindings of these services, additional ones included. */
export function bindingsOf(services: readonly DescService[]): Binding[] {
  return services
    .flatMap(({ methods }) => methods)
    .filter((method) => hasOption(method, http))
    .flatMap((method) => {
      const rule = getOption(method, http);
      return [rule, ...rule.additionalBindings].map((each) => bindingOf(method, each));
    });
}

function bindingOf(method: DescMethod, { pattern, body, responseBody }: HttpRule): Binding {
  if (pattern.case === undefined || pattern.case === "custom") {
    throw new Error(
      `${method.parent.typeName}.${method.name}: a binding needs get, post, put, patch or delete`,
    );
  }
  return {
    method,
    httpMethod: pattern.case.toUpperCase() as HttpMethod,
    template: parseTemplate(pattern.value),
    path: pattern.value,
    body,
    responseBody,
  };
}
