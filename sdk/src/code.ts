import type { Code as ConnectCode } from "@connectrpc/connect";

/** The status codes of gRPC. */
export type Code = ConnectCode;

/** As Connect has them, for what does without it. */
export const Code = {
  Canceled: 1,
  Unknown: 2,
  InvalidArgument: 3,
  DeadlineExceeded: 4,
  NotFound: 5,
  AlreadyExists: 6,
  PermissionDenied: 7,
  ResourceExhausted: 8,
  FailedPrecondition: 9,
  Aborted: 10,
  OutOfRange: 11,
  Unimplemented: 12,
  Internal: 13,
  Unavailable: 14,
  DataLoss: 15,
  Unauthenticated: 16,
} as const satisfies { [Name in keyof typeof ConnectCode]: (typeof ConnectCode)[Name] };

/** Their names in the spelling of gRPC, such as `RESOURCE_EXHAUSTED`. */
export const codeNames: ReadonlyMap<Code, string> = /* @__PURE__ */ (() =>
  new Map(
    Object.entries(Code).map(([name, code]) => [
      code,
      name.replace(/(?<=[a-z])(?=[A-Z])/g, "_").toUpperCase(),
    ]),
  ))();
