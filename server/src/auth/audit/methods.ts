/** Which calls the audit log holds, and what they are about. */
import type { DescMethod, DescService } from "@bufbuild/protobuf";
import { MethodOptions_IdempotencyLevel } from "@bufbuild/protobuf/wkt";
import { AuthService } from "../../gen/pulsewire/auth/v1/auth_service_pb.js";
import { Scope } from "../../gen/pulsewire/options/v1/access_pb.js";
import { accessOf } from "../../rpc/access.ts";

/**
 * `mutation`: every call that reaches its handler is entered. `sign-in`: a mutation without a caller. `renewal`: only when
 * it fails. `unentered`: reads and the sending of data, of which only refusals are entered.
 */
export type AuditKind = "mutation" | "sign-in" | "renewal" | "unentered";

const data: ReadonlySet<Scope> = new Set([Scope.EVENTS_WRITE, Scope.METRICS_WRITE, Scope.PROGRESS_WRITE]);

const signIns: readonly DescMethod[] = [
  AuthService.method.login,
  AuthService.method.verifyCode,
  AuthService.method.recoverPassword,
  AuthService.method.issueDevelopmentToken,
];

/**
 * The kinds of all methods. What declares NO_SIDE_EFFECTS reads; what needs nothing but a scope for writing events,
 * samples or progress sends data. Everything else is a mutation, so that a new method is entered unless it says what
 * it is.
 */
export function auditKinds(services: readonly DescService[]): ReadonlyMap<DescMethod, AuditKind> {
  return new Map(services.flatMap(({ methods }) => methods.map((method) => [method, kindOf(method)])));
}

function kindOf(method: DescMethod): AuditKind {
  if (method === AuthService.method.refreshToken) return "renewal";
  if (signIns.includes(method)) return "sign-in";
  if (method.idempotency === MethodOptions_IdempotencyLevel.NO_SIDE_EFFECTS || method.methodKind !== "unary")
    return "unentered";
  const access = accessOf(method);
  if (access.kind === "scopes" && access.anyOf.every((scope) => data.has(scope))) return "unentered";
  // Sends a code to whoever asks: about no tenant.
  if (method === AuthService.method.requestCode) return "unentered";
  return method.input.fields.some(({ name }) => name === "request_id") ? "mutation" : "unentered";
}

/** Methods whose name does not end with what they are about. */
const resources: Readonly<Record<string, string>> = {
  Login: "session",
  Logout: "session",
  RefreshToken: "session",
  VerifyCode: "session",
  ChangePassword: "user",
  ResetPassword: "user",
  RecoverPassword: "user",
  IssueDevelopmentToken: "session",
  InvokeFunction: "invocation",
  RotateWebhookSecret: "webhook",
  DeleteUserEvents: "user_events",
  ReplayDeadLetters: "dead_letters",
};

/** Kind of the resource: CreateApiKey is about an `api_key`. */
export function resourceTypeOf({ name }: DescMethod): string {
  const noun = name.replace(/^[A-Z][a-z]+/, "");
  return resources[name] ?? noun.replace(/(?!^)[A-Z]/g, (letter) => `_${letter}`).toLowerCase();
}

/** Id of the resource: the request names it, or it was made and the answer has it. */
export function resourceIdOf(
  method: DescMethod,
  request: object,
  response: object | undefined,
): string | undefined {
  const type = resourceTypeOf(method);
  const local = type.replace(/_([a-z])/g, (_, letter: string) => letter.toUpperCase());
  const made = (response as Record<string, { id?: unknown }> | undefined)?.[local]?.id;
  const given = Object.entries(request).find(
    ([name, value]) =>
      typeof value === "string" &&
      value !== "" &&
      (name === `${local}Id` || (name.endsWith("Id") && !["tenantId", "requestId"].includes(name))),
  )?.[1];
  const named = (request as { name?: unknown }).name;
  const id = made ?? given ?? (type === "function" ? named : undefined);
  return typeof id === "string" ? id : undefined;
}
