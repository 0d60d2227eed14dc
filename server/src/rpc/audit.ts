/**
 * Enters calls in the audit log of the tenant they are about, before they are answered; what is entered stands at
 * `auditKinds`. Two interceptors: the outer one around authentication sees refusals, the inner one, right around the
 * handler, sees what was done. An answer that is given again for the same request id is no second entry.
 *
 * A handler enters a success itself, with `enterAudit`, in the transaction that does it. Where it does not, the entry is made
 * after the commit and before the answer; a call whose entry cannot be made fails, though it has had its effect. Failures are
 * entered afterwards too, for their transaction is rolled back. Failed sign-ins are entered without keeping the answer waiting:
 * else its time would tell whether there is such a tenant.
 */
import type { DescMethod, Message } from "@bufbuild/protobuf";
import {
  Code,
  type ConnectError,
  createContextKey,
  type HandlerContext,
  type StreamRequest,
  type UnaryRequest,
} from "@connectrpc/connect";
import { requestDetails } from "../auth/audit/details.ts";
import { type AuditedCall, type AuditFacts, type AuditLog, isDenial } from "../auth/audit/log.ts";
import { type AuditKind, resourceIdOf, resourceTypeOf } from "../auth/audit/methods.ts";
import type { TenantTransaction } from "../db/tenant.ts";
import { AuditActorType } from "../gen/pulsewire/auth/v1/audit_pb.js";
import { type Caller, callerKey, callerOf, refusedCaller } from "./caller.ts";
import { clientAddressKey } from "./client-address.ts";
import { toCallerError } from "./errors.ts";
import { replayedHeader } from "./idempotency.ts";
import { type AnyRequest, type AnyResponse, type Interceptor, type Next, settle } from "./interceptor.ts";
import { requestIdKey } from "./trace.ts";

/** The entry of a call in the making. */
interface Draft {
  readonly log: AuditLog;
  readonly call: AuditedCall;
  /** The caller's tenant. */
  readonly callerTenantId: string | undefined;
  /** What the handler has noted. */
  facts: AuditFacts;
  /** The success stands in the log, unless the transaction is rolled back, which makes the call fail. */
  entered: boolean;
}

type HasValues = Pick<HandlerContext, "values">;

const draftKey = createContextKey<Draft | undefined>(undefined, { description: "audit entry" });

/**
 * Enters the call as done, in the tenant and transaction that do it; the last thing to do there. The tenant may be
 * another than the caller's. Nothing happens where the call is not to be entered.
 */
export async function enterAudit(
  trx: TenantTransaction,
  tenantId: string,
  context: HasValues,
  facts: AuditFacts = {},
): Promise<void> {
  const draft = context.values.get(draftKey);
  if (!draft) return;
  draft.facts = { ...draft.facts, ...facts, tenantId };
  await draft.log.enter(trx, tenantId, callIn(draft, tenantId), draft.facts);
  draft.entered = true;
}

/** Notes what only the handler knows, for the entry that is made afterwards. */
export function noteAudit(context: HasValues, facts: AuditFacts): void {
  const draft = context.values.get(draftKey);
  if (draft) draft.facts = { ...draft.facts, ...facts };
}

/** Enters what a call does on its way, in the transaction that does it, as a call of the method that it stands for. */
export async function enterAuditAs(
  log: AuditLog,
  trx: TenantTransaction,
  context: Pick<HandlerContext, "values" | "requestHeader">,
  method: DescMethod,
  message: Message,
  facts: AuditFacts,
): Promise<void> {
  const { values, requestHeader } = context;
  const caller = callerOf(context);
  const { call } = await begin(log, { values, requestHeader, method, message }, caller, true);
  await log.enter(trx, caller.tenantId, call, facts);
}

/** Around authentication and authorization: enters calls that never reach their handler. */
export function auditRefusals(log: AuditLog, kinds: ReadonlyMap<DescMethod, AuditKind>): Interceptor {
  /** Throws what was thrown, after it has been entered where that is due. */
  const enter = (req: AnyRequest, thrown: unknown): Promise<never> => {
    const error = toCallerError(thrown, req.contextValues.get(requestIdKey));
    const caller = req.contextValues.get(callerKey) ?? refusedCaller(error);
    if (!caller || caller.kind === "anonymous" || req.contextValues.get(draftKey)) throw thrown;
    const isMutation = kinds.get(req.method) === "mutation";
    const isDue = (isMutation ? saysSomething(error) : isDenial(error)) && isNews(log, req, caller, error);
    if (!isDue) throw thrown;
    // The caller is to hear why they were refused, even where that cannot be entered.
    return enterRefusal(log, req, caller, isMutation, error)
      .catch(() => {})
      .then(() => {
        throw thrown;
      });
  };
  return (next) => (req) =>
    settle(
      next,
      req,
      (answer) => answer,
      (thrown) => enter(req, thrown),
    );
}

async function enterRefusal(
  log: AuditLog,
  req: UnaryRequest | StreamRequest,
  caller: Caller,
  isMutation: boolean,
  error: ConnectError,
): Promise<void> {
  const { call } = await begin(log, describe(req), caller, isMutation);
  const { tenantId } = caller;
  await log.conclude(call, { tenantId, ...(isMutation && resourceFacts(req)) }, error);
}

/** Around the handler, inside everything else: enters what was done and what failed. */
export function auditCalls(log: AuditLog, kinds: ReadonlyMap<DescMethod, AuditKind>): Interceptor {
  return (next) => (req) => {
    const kind = kinds.get(req.method) ?? "unentered";
    return kind === "unentered" || req.stream ? next(req) : entered(kind, next, req);
  };

  async function entered(
    kind: Exclude<AuditKind, "unentered">,
    next: Next,
    req: UnaryRequest,
  ): Promise<AnyResponse> {
    const caller = req.contextValues.get(callerKey);
    const draft = await begin(log, describe(req), caller, true);
    req.contextValues.set(draftKey, draft);
    // Of a mutation the caller's tenant, of a sign-in the one that the request names.
    const { tenantSlug } = req.message as { tenantSlug?: string };
    const standard = { tenantId: kind === "mutation" ? draft.callerTenantId : undefined, tenantSlug };
    try {
      const res = await next(req);
      if (draft.entered || res.stream || kind === "renewal") return res;
      if (res.header.has(replayedHeader)) return res;
      const made = { ...resourceFacts(req, res.message), ...signInFacts(res.message) };
      await conclude(draft, { ...standard, ...made, ...draft.facts });
      return res;
    } catch (thrown) {
      const error = toCallerError(thrown, req.contextValues.get(requestIdKey));
      const facts = { ...standard, ...resourceFacts(req), ...draft.facts };
      const isRepeated =
        error.code === Code.ResourceExhausted && !isNews(log, req, caller, error, draft.call.actor.email);
      if (!isRepeated && saysSomething(error)) {
        if (kind === "mutation") await conclude(draft, facts, error).catch(() => {});
        else await log.concludeLater(draft.call, facts, error);
      }
      throw thrown;
    }
  }
}

async function conclude(draft: Draft, facts: AuditFacts, error?: ConnectError): Promise<void> {
  const call = facts.tenantId ? callIn(draft, facts.tenantId) : draft.call;
  await draft.log.conclude(call, facts, error);
}

function isNews(
  log: AuditLog,
  req: UnaryRequest | StreamRequest,
  caller: Caller | undefined,
  error: ConnectError,
  email?: string,
): boolean {
  const who = caller ? [caller.tenantId, caller.apiKeyId ?? caller.userId] : [email];
  return log.isNews(
    [...who, req.method.parent.typeName, req.method.name, req.contextValues.get(clientAddressKey)],
    error,
  );
}

const traceparent = /^[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}$/;

/** What an entry is made of; a stream has no message. */
interface Described extends Pick<HandlerContext, "values" | "requestHeader"> {
  readonly method: DescMethod;
  readonly message: Message | undefined;
}

const describe = (req: UnaryRequest | StreamRequest): Described => ({
  values: req.contextValues,
  requestHeader: req.header,
  method: req.method,
  message: req.stream ? undefined : req.message,
});

async function begin(
  log: AuditLog,
  { values, requestHeader, method, message }: Described,
  caller: Caller | undefined,
  withDetails: boolean,
): Promise<Draft> {
  const actor = await log.actorOf(caller);
  const resourceType = resourceTypeOf(method);
  const tried = (message ?? {}) as { email?: string };
  const call: AuditedCall = {
    method,
    actor: actor.type === AuditActorType.ANONYMOUS && tried.email ? { ...actor, email: tried.email } : actor,
    address: values.get(clientAddressKey),
    userAgent: requestHeader.get("user-agent") ?? "",
    callId: values.get(requestIdKey),
    traceId: traceparent.exec(requestHeader.get("traceparent") ?? "")?.[1] ?? "",
    resourceType,
    details: message && withDetails ? requestDetails(method.input, message, resourceType) : {},
  };
  return { log, call, callerTenantId: caller?.tenantId, facts: {}, entered: false };
}

function callIn({ call, callerTenantId }: Draft, tenantId: string): AuditedCall {
  if (callerTenantId === undefined || callerTenantId === tenantId) return call;
  return { ...call, actor: { ...call.actor, platformAdmin: true } };
}

function resourceFacts(req: UnaryRequest | StreamRequest, response?: object): AuditFacts {
  return req.stream ? {} : { resourceId: resourceIdOf(req.method, req.message, response) };
}

/** Who signed in where, as the answers of registration and of sign-ins have it. */
function signInFacts(response: object): AuditFacts {
  const { tenant, tenantId, user, userId, email } = response as {
    tenant?: { id: string };
    tenantId?: string;
    user?: { id: string; email: string };
    userId?: string;
    email?: string;
  };
  const place = tenant?.id ?? tenantId;
  const person = user ?? (userId ? { id: userId, email: email ?? "" } : undefined);
  return { ...(place && { tenantId: place }), ...(person && { user: person }) };
}

/** A call that was cut off, or that a part of ours has failed, says nothing of its caller. */
function saysSomething({ code }: ConnectError): boolean {
  const silent = [Code.Canceled, Code.DeadlineExceeded, Code.Unavailable, Code.Internal, Code.Unimplemented];
  return !silent.includes(code);
}
