import type { DescMessage, MessageShape } from "@bufbuild/protobuf";
import { pathToString } from "@bufbuild/protobuf/reflect";
import { createValidator, type Violation } from "@bufbuild/protovalidate";
import { ErrorReason } from "../gen/pulsewire/common/v1/error_reason_pb.js";
import { type FieldViolation, failure } from "./errors.ts";
import type { Interceptor } from "./interceptor.ts";
import { certainlyValid } from "./quick-check.ts";
import { amended, wrapStream } from "./stream.ts";
import { illFormedFields } from "./well-formed.ts";

const expressions = new Map<string, RegExp>();

/** The patterns are the contract's own, so that the engine of the language is safe with them, and faster. */
function regexMatch(pattern: string, against: string): boolean {
  let expression = expressions.get(pattern);
  if (!expression) {
    expression = new RegExp(pattern, "u");
    expressions.set(pattern, expression);
  }
  return expression.test(against);
}

const validator = createValidator({ regexMatch });

const validated = Symbol("validated");

/** Says of a message that whoever made it has checked all rules: it is not looked at again. */
export function markValidated<M extends object>(message: M): M {
  return Object.assign(message, { [validated]: true });
}

/** How many violations an error names; more only cost bytes. */
const maxViolations = 100;

/** Checks a message against the rules of the contract and of its types; the fields that break one, or an empty list. */
export function violationsOf<Desc extends DescMessage>(
  schema: Desc,
  message: MessageShape<Desc>,
): FieldViolation[] {
  const illFormed = illFormedFields(schema, message);
  if (illFormed.length > 0) return illFormed;
  if (certainlyValid(schema, message)) return [];
  const result = validator.validate(schema, message);
  if (result.kind === "valid") return [];
  if (result.kind === "error") throw result.error;
  return result.violations.map(toFieldViolation);
}

function toFieldViolation(violation: Violation): FieldViolation {
  return {
    field: pathToString(violation.field),
    description: violation.message,
    rule: violation.ruleId,
  };
}

/** The error that names every field that breaks a rule. */
export function invalidRequest(violations: readonly FieldViolation[]) {
  const [first] = violations;
  const more = violations.length > 1 ? ` (and ${violations.length - 1} more)` : "";
  const where = first?.field ? `${first.field}: ` : "";
  return failure(ErrorReason.INVALID_FIELD, `${where}${first?.description}${more}`, {
    violations: violations.slice(0, maxViolations),
  });
}

/** Refuses requests that break a field rule of the contract, on unary calls and on each message of a stream. */
export const validateInterceptor: Interceptor = (next) => (req) => {
  const check = (message: MessageShape<DescMessage>) => {
    if (validated in message) return;
    const violations = violationsOf(req.method.input, message);
    if (violations.length > 0) throw invalidRequest(violations);
  };
  if (req.stream) return next(amended(req, { message: wrapStream(req.message, { onMessage: check }) }));
  check(req.message);
  return next(req);
};
