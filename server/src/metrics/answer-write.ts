import { create, type MessageInitShape } from "@bufbuild/protobuf";
import type { MetricsConfig } from "../config/metrics.ts";
import { ErrorReason } from "../gen/pulsewire/common/v1/error_reason_pb.js";
import { OutcomeStatus } from "../gen/pulsewire/common/v1/outcome_pb.js";
import {
  type SampleFailure,
  SampleFailureSchema,
  type WriteSamplesRequest,
  WriteSamplesRequestSchema,
  type WriteSamplesResponseSchema,
} from "../gen/pulsewire/metrics/v1/sample_pb.js";
import type { Caller } from "../rpc/caller.ts";
import { clockSkewMs } from "../rpc/clock-skew.ts";
import { failure, invalidField, notFound } from "../rpc/errors.ts";
import { invalidRequest, violationsOf } from "../rpc/validate.ts";
import type { Refusal, SampleBatch } from "./sample-batch.ts";
import { type InvalidItem, readItems, type SampleRules } from "./samples.ts";
import type { SeriesCache } from "./series-cache.ts";
import { countItems, decodeWireRequest, isWireRequest, readWireItems } from "./wire-samples.ts";
import type { SampleWriter } from "./write.ts";

/** Checks and commits the samples of a call. */
export async function answerWrite(
  writer: SampleWriter,
  limits: MetricsConfig,
  caller: Caller,
  request: WriteSamplesRequest,
): Promise<MessageInitShape<typeof WriteSamplesResponseSchema>> {
  const receivedAt = new Date();
  const { batch, invalid } = readRequest(
    request,
    limits.maxBatchSamples,
    {
      tenantId: caller.tenantId,
      receivedAtMs: receivedAt.getTime(),
      skewMs: clockSkewMs(request.sentAt, receivedAt),
      maxAgeMs: limits.maxSampleAgeMs,
      maxAheadMs: limits.maxSampleAheadMs,
      defaultStoreId:
        request.storeId.toLowerCase() || (caller.storeIds.length === 1 ? (caller.storeIds[0] ?? "") : ""),
    },
    writer.series,
  );
  const { allowPartial } = request;
  if (invalid.length > 0 && !allowPartial) throw invalidItems(invalid);
  const foreign = foreignRuns(caller, batch);
  if (foreign.size > 0 && !allowPartial) throw keyRestricted();
  const own = foreign.size > 0 ? batch.without(foreign) : batch;
  const result =
    own.size > 0
      ? await writer.commit(caller.tenantId, { batch: own, allowPartial })
      : { newSeries: 0, refused: new Map<number, Refusal>() };
  const [refusal] = result.refused;
  if (refusal && !allowPartial) throw refusedCall(own, ...refusal);

  const failures = [
    ...invalid.map(rejectInvalid),
    ...[...foreign].map((run) => rejectRun(batch, run, "KEY_RESTRICTED")),
    ...[...result.refused].map(([run, reason]) => rejectRun(own, run, reason)),
  ];
  const rejected = failures.reduce((sum, { sampleCount }) => sum + sampleCount, 0);
  const refused = [...result.refused.keys()].reduce((sum, run) => sum + (own.counts[run] ?? 0), 0);
  const accepted = own.size - refused;
  return {
    counts: { total: accepted + rejected, accepted, rejected },
    failures,
    newSeries: result.newSeries,
  };
}

/** Reads the samples, from the bytes where that is possible. */
function readRequest(
  request: WriteSamplesRequest,
  maxSamples: number,
  rules: SampleRules,
  series: SeriesCache,
): { batch: SampleBatch; invalid: InvalidItem[] } {
  let message = request;
  if (isWireRequest(request)) {
    const batch = countItems(request) <= maxSamples ? readWireItems(request, rules, series) : undefined;
    if (batch && batch.size > 0 && batch.size <= maxSamples) return { batch, invalid: [] };
    message = decodeWireRequest(request);
    const violations = violationsOf(WriteSamplesRequestSchema, message);
    if (violations.length > 0) throw invalidRequest(violations);
  }
  requireSize(message, maxSamples);
  return readItems(message, rules, series);
}

function requireSize(request: WriteSamplesRequest, maxSamples: number): void {
  const count = request.samples.length + request.series.reduce((sum, { values }) => sum + values.length, 0);
  if (request.samples.length + request.series.length === 0) {
    throw invalidField("samples", "at least one sample, here or in series", "required");
  }
  if (count > maxSamples) {
    throw invalidField(
      "samples",
      `at most ${maxSamples} samples in one batch; send several`,
      "repeated.max_items",
    );
  }
}

/** The runs whose stores the caller's key is not bound to. */
function foreignRuns({ storeIds }: Caller, { series }: SampleBatch): Set<number> {
  if (storeIds.length === 0) return new Set();
  return new Set(series.flatMap(({ storeId }, run) => (storeIds.includes(storeId) ? [] : [run])));
}

function keyRestricted() {
  return failure(
    ErrorReason.KEY_RESTRICTED,
    "this API key is bound to other stores than those of the samples",
    {
      metadata: { restriction: "store" },
    },
  );
}

/** The error of a call that had to be written whole. */
function refusedCall({ series }: SampleBatch, run: number, reason: Refusal) {
  if (reason === "NOT_FOUND") return notFound("store", series[run]?.storeId ?? "");
  return failure(
    ErrorReason.TENANT_LIMIT,
    "the tenant has as many series as it may have: samples of known series are still taken; with allow_partial, those of " +
      "new ones alone are refused",
    { metadata: { limit: "series" } },
  );
}

function invalidItems(invalid: readonly InvalidItem[]) {
  return invalidRequest(
    invalid.flatMap(({ index, plain, violations }) =>
      violations.map((violation) => ({
        ...violation,
        field: `${plain ? "samples" : "series"}[${index}].${violation.field}`,
      })),
    ),
  );
}

function rejectInvalid({ index, plain, sampleCount, violations }: InvalidItem): SampleFailure {
  const [first] = violations;
  return create(SampleFailureSchema, {
    index,
    plain,
    sampleCount,
    outcome: {
      status: OutcomeStatus.REJECTED,
      field: first?.field ?? "",
      code: first?.rule ?? "",
      message: first?.description ?? "",
    },
  });
}

const refusals: Record<Refusal | "KEY_RESTRICTED", { field: string; message: (storeId: string) => string }> =
  {
    KEY_RESTRICTED: { field: "store_id", message: () => "the API key is bound to other stores" },
    NOT_FOUND: { field: "store_id", message: (storeId) => `no store '${storeId}' in this tenant` },
    TENANT_LIMIT: {
      field: "labels",
      message: () => "a new series, and the tenant has as many series as it may have",
    },
  };

function rejectRun(batch: SampleBatch, run: number, code: keyof typeof refusals): SampleFailure {
  const item = batch.items[run] ?? 0;
  const { field, message } = refusals[code];
  return create(SampleFailureSchema, {
    index: item >>> 1,
    plain: item % 2 === 1,
    sampleCount: batch.counts[run] ?? 0,
    outcome: {
      status: OutcomeStatus.REJECTED,
      field,
      code,
      message: message(batch.series[run]?.storeId ?? ""),
    },
  });
}
