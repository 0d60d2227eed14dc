import { durationMs } from "@bufbuild/protobuf/wkt";
import { type AlertRuleSpec, Comparison } from "../../gen/pulsewire/metrics/v1/alert_pb.js";
import { type FieldViolation, invalidField } from "../../rpc/errors.ts";
import type { Timing, Verdict } from "./machine.ts";

/** A rule as the evaluation reads it. */
export interface Rule extends Timing {
  readonly spec: AlertRuleSpec;
  /** Absence: how long without a sample; otherwise undefined. */
  readonly absenceMs: number | undefined;
  /** Rate of change: over how long; otherwise undefined. */
  readonly windowMs: number | undefined;
  /** What a value, or a change a second, says. */
  judge(value: number): Verdict;
}

/** Reads a rule's words. */
export function readRule(spec: AlertRuleSpec): Rule {
  const { condition } = spec;
  return {
    spec,
    forMs: spec.for ? durationMs(spec.for) : 0,
    recoveryForMs: spec.recoveryFor ? durationMs(spec.recoveryFor) : 0,
    absenceMs:
      condition.case === "absence" && condition.value.duration
        ? durationMs(condition.value.duration)
        : undefined,
    windowMs:
      condition.case === "rateOfChange" && condition.value.window
        ? durationMs(condition.value.window)
        : undefined,
    judge: judgeOf(condition),
  };
}

/** Throws INVALID_FIELD where the recovery threshold lies on the side that raises the alert. */
export function checkRule({ condition }: AlertRuleSpec): void {
  const limits = limitsOf(condition);
  if (!limits) return;
  const { comparison, raise, recover, path } = limits;
  if (comparison === Comparison.GREATER || comparison === Comparison.GREATER_OR_EQUAL) {
    if (recover > raise) throw wrongSide(path, "most");
  } else if (recover < raise) {
    throw wrongSide(path, "least");
  }
}

function wrongSide(path: string, bound: "most" | "least") {
  const violation: FieldViolation = {
    field: `spec.${path}`,
    description: `must be at ${bound} the threshold, or the alert would recover while its condition holds`,
    rule: "recovery.side",
  };
  return invalidField(violation.field, violation.description, violation.rule);
}

interface ConditionLimits {
  readonly comparison: Comparison;
  readonly raise: number;
  readonly recover: number;
  /** The field of `recover`. */
  readonly path: string;
}

function limitsOf(condition: AlertRuleSpec["condition"]): ConditionLimits | undefined {
  switch (condition.case) {
    case "threshold": {
      const { comparison, value, recoveryValue = value } = condition.value;
      return { comparison, raise: value, recover: recoveryValue, path: "threshold.recovery_value" };
    }
    case "rateOfChange": {
      const { comparison, valuePerSecond, recoveryValuePerSecond = valuePerSecond } = condition.value;
      const path = "rate_of_change.recovery_value_per_second";
      return { comparison, raise: valuePerSecond, recover: recoveryValuePerSecond, path };
    }
    default:
      return undefined;
  }
}

function judgeOf(condition: AlertRuleSpec["condition"]): Rule["judge"] {
  const limits = limitsOf(condition);
  // A sample came: that is all that absence asks for.
  if (!limits) return () => "over";
  const compare = comparisons[limits.comparison];
  if (!compare) throw new Error("a rule without a comparison");
  const { raise, recover } = limits;
  return (value) => (compare(value, raise) ? "holds" : compare(value, recover) ? "between" : "over");
}

const comparisons: Partial<Record<Comparison, (a: number, b: number) => boolean>> = {
  [Comparison.GREATER]: (a, b) => a > b,
  [Comparison.GREATER_OR_EQUAL]: (a, b) => a >= b,
  [Comparison.LESS]: (a, b) => a < b,
  [Comparison.LESS_OR_EQUAL]: (a, b) => a <= b,
};
