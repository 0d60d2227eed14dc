import assert from "node:assert/strict";
import { Code, ConnectError } from "@connectrpc/connect";
import {
  BadRequestSchema,
  ErrorInfoSchema,
  RetryInfoSchema,
} from "../../server/src/gen/google/rpc/error_details_pb.js";

/** What a failed call said. */
export interface Failure {
  readonly message: string;
  readonly metadata: Record<string, string>;
  /** Paths of the fields that are wrong. */
  readonly fields: string[];
  readonly retries: boolean;
}

/** The call must fail with this code and reason; returns what it said. */
export async function assertFails(call: Promise<unknown>, code: Code, reason: string): Promise<Failure> {
  const error = await call.then(
    (answer) => assert.fail(`answered instead of failing with ${reason}: ${answer}`),
    (thrown: unknown) => ConnectError.from(thrown),
  );
  const [info] = error.findDetails(ErrorInfoSchema);
  assert.deepEqual(
    { code: Code[error.code], reason: info?.reason },
    { code: Code[code], reason },
    error.message,
  );
  assert.equal(info?.domain, "pulsewire");
  return {
    message: error.rawMessage,
    metadata: info?.metadata ?? {},
    fields: error
      .findDetails(BadRequestSchema)
      .flatMap(({ fieldViolations }) => fieldViolations.map(({ field }) => field)),
    retries: error.findDetails(RetryInfoSchema).length > 0,
  };
}
