import { create, type MessageInitShape } from "@bufbuild/protobuf";
import type { Config } from "../config.ts";
import { ErrorReason } from "../gen/pulsewire/common/v1/error_reason_pb.js";
import { OutcomeStatus } from "../gen/pulsewire/common/v1/outcome_pb.js";
import {
  type SampleFailure,
  SampleFailureSchema,
  type WriteSamplesRequest,
  type WriteSamplesResponseSchema,
} from "../gen/pulsewire/metrics/v1/sample_pb.js";
import type { Caller } from "../rpc/caller.ts";
import { clockSkewMs } from "../rpc/clock-skew.ts";
import { failure, invalidField, notFound } from "../rpc/errors.ts";
import { invalidRequest } from "../rpc/validate.ts";
import { type InvalidItem, readItems, type SampleItem } from "./samples.ts";
import type { SampleWriter } from "./write.ts";

/** Checks and commits the samples of a call. */
export async function answerWrite(
  writer: SampleWriter,
  limits: Config["limits"],
  caller: Caller,
  request: WriteSamplesRequest,
): Promise<MessageInitShape<typeof WriteSamplesResponseSchema>> {
  const receivedAt = new Date();
  requireSize(request, limits.maxBatchSamples);
  const { items, invalid } = readItems(request, {
    receivedAtMs: receivedAt.getTime(),
    skewMs: clockSkewMs(request.sentAt, receivedAt),
    maxAgeMs: limits.maxSampleAgeMs,
    maxAheadMs: limits.maxSampleAheadMs,
    defaultStoreId: request.storeId || (caller.storeIds.length === 1 ? (caller.storeIds[0] ?? "") : ""),
  });
  if (invalid.length > 0 && !request.allowPartial) throw invalidItems(invalid);
  const foreign = items.filter(({ series }) => !isOwnStore(caller, series.storeId));
  if (foreign.length > 0 && !request.allowPartial) throw keyRestricted();
  const own = items.filter(({ series }) => isOwnStore(caller, series.storeId));
  const unknownStores = await writer.unknownStores(caller.tenantId, own);
  const unknown = own.filter(({ series }) => unknownStores.has(series.storeId));
  const [first] = unknown;
  if (first && !request.allowPartial) throw notFound("store", first.series.storeId);
  const writable = own.filter(({ series }) => !unknownStores.has(series.storeId));
  const results = writable.length > 0 ? await writer.commit(caller.tenantId, writable) : [];

  const failures = [
    ...invalid.map(rejectInvalid),
    ...foreign.map((item) => reject(item, "KEY_RESTRICTED", "the API key is bound to other stores")),
    ...unknown.map((item) => reject(item, "NOT_FOUND", `no store '${item.series.storeId}' in this tenant`)),
  ];
  const rejected = failures.reduce((sum, { sampleCount }) => sum + sampleCount, 0);
  const accepted = countSamples(writable);
  return {
    counts: { total: accepted + rejected, accepted, rejected },
    failures,
    newSeries: results.filter(({ newSeries }) => newSeries).length,
  };
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

function isOwnStore({ storeIds }: Caller, storeId: string): boolean {
  return storeIds.length === 0 || storeIds.includes(storeId);
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

function countSamples(items: readonly SampleItem[]): number {
  return items.reduce((sum, { values }) => sum + values.length, 0);
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

function reject({ index, plain, values }: SampleItem, code: string, message: string): SampleFailure {
  return create(SampleFailureSchema, {
    index,
    plain,
    sampleCount: values.length,
    outcome: { status: OutcomeStatus.REJECTED, field: "store_id", code, message },
  });
}
