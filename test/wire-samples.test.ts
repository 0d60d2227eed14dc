/** Samples read from their bytes are what the usual decoder and its checks make of them. */
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { describe, test } from "node:test";
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import fc from "fast-check";
import { WriteSamplesRequestSchema } from "../server/src/gen/pulsewire/metrics/v1/sample_pb.js";
import type { SampleBatch } from "../server/src/metrics/sample-batch.ts";
import { readItems, type SampleRules } from "../server/src/metrics/samples.ts";
import { createSeriesCache } from "../server/src/metrics/series-cache.ts";
import { readWireItems, readWireRequest } from "../server/src/metrics/wire-samples.ts";

const now = Date.now();
const rules: SampleRules = {
  tenantId: randomUUID(),
  receivedAtMs: now,
  skewMs: 3_000,
  maxAgeMs: 30 * 86_400_000,
  maxAheadMs: 86_400_000,
  defaultStoreId: randomUUID(),
};

const name = fc.oneof(
  { weight: 20, arbitrary: fc.constantFrom("cpu", "http_requests_total", "a.b:c/d-e") },
  { weight: 1, arbitrary: fc.constantFrom("", "1st", "ä", "x".repeat(201)) },
);
const labels = fc.dictionary(
  fc.oneof(
    { weight: 20, arbitrary: fc.constantFrom("host", "zone", "z") },
    { weight: 1, arbitrary: fc.constant("a-b") },
  ),
  fc.oneof(
    { weight: 20, arbitrary: fc.string({ maxLength: 12, unit: "grapheme" }) },
    { weight: 1, arbitrary: fc.constant("\0") },
  ),
  { maxKeys: 3 },
);
const identity = {
  name,
  labels,
  kind: fc.constantFrom(0, 1, 2),
  unit: fc.constantFrom("", "percent"),
  storeId: fc.constantFrom("", "", randomUUID(), randomUUID().toUpperCase()),
};
const value = fc.oneof(
  { weight: 30, arbitrary: fc.double({ noNaN: true, noDefaultInfinity: true }) },
  { weight: 1, arbitrary: fc.constantFrom(Number.NaN, Number.POSITIVE_INFINITY, 5e-324) },
);
const timeMs = fc.oneof(
  { weight: 30, arbitrary: fc.integer({ min: now - 1_000_000, max: now }) },
  { weight: 1, arbitrary: fc.constantFrom(0, now - 31 * 86_400_000, now + 2 * 86_400_000) },
);
const request = fc.record({
  storeId: fc.constantFrom("", rules.defaultStoreId),
  allowPartial: fc.boolean(),
  sentAt: fc.option(timeMs.map(timestampFromMs), { nil: undefined }),
  series: fc.array(
    fc
      .record({
        ...identity,
        baseTime: timeMs.map(timestampFromMs),
        samples: fc.array(fc.tuple(fc.nat({ max: 100_000 }), value), { minLength: 1, maxLength: 20 }),
        missing: fc.constantFrom(...Array(20).fill(0), 1),
      })
      .map(({ samples, missing, ...series }) => ({
        ...series,
        offsetsMs: samples.map(([offset]) => offset),
        values: samples.slice(missing).map(([, of]) => of),
      })),
    { maxLength: 6 },
  ),
  samples: fc.array(
    fc.record({ ...identity, value, timestamp: fc.option(timeMs.map(timestampFromMs), { nil: undefined }) }),
    { maxLength: 6 },
  ),
});

const shown = (batch: SampleBatch) => ({
  series: batch.series.map(({ id, storeId, definition }) => ({ id, storeId, definition })),
  counts: batch.counts,
  items: batch.items,
  times: [...batch.times.subarray(0, batch.size)],
  values: [...batch.values.subarray(0, batch.size)],
});

describe("samples from their bytes", () => {
  test("are those of the usual way, or are left to it", () => {
    let read = 0;
    let left = 0;
    fc.assert(
      fc.property(request, (init) => {
        const bytes = toBinary(WriteSamplesRequestSchema, create(WriteSamplesRequestSchema, init));
        const wire = readWireRequest(bytes);
        assert.deepEqual(
          [wire.storeId, wire.allowPartial, wire.sentAt],
          [init.storeId, init.allowPartial, wire.sentAt && init.sentAt],
        );
        const batch = readWireItems(wire, rules, createSeriesCache(100));
        const usual = readItems(fromBinary(WriteSamplesRequestSchema, bytes), rules, createSeriesCache(100));
        assert.equal(batch === undefined, usual.invalid.length > 0);
        if (!batch) left++;
        else {
          read++;
          assert.deepEqual(shown(batch), shown(usual.batch));
        }
      }),
      { numRuns: 1_000 },
    );
    assert.ok(read > 100 && left > 100, `${read} read, ${left} left to the usual way`);
  });

  test("a known series is found again by its bytes, and by them only", () => {
    const cache = createSeriesCache(100);
    const write = (labels: Record<string, string>, storeId = rules.defaultStoreId) => {
      const packed = {
        name: "m",
        labels,
        baseTime: timestampFromMs(now),
        offsetsMs: [0],
        values: [1],
      };
      const init = { series: [packed], samples: [{ name: "m", labels, value: 1 }] };
      const wire = readWireRequest(
        toBinary(WriteSamplesRequestSchema, create(WriteSamplesRequestSchema, init)),
      );
      const batch = readWireItems(wire, { ...rules, defaultStoreId: storeId }, cache);
      assert.ok(batch);
      return batch.series;
    };
    const [packed, plain] = write({ host: "a" });
    assert.ok(packed && plain && packed.id === plain.id && packed.key !== plain.key);
    for (const series of [packed, plain]) cache.add(Object.assign(series, { ref: 7, definition: undefined }));
    assert.deepEqual(write({ host: "a" }), [packed, plain]);
    for (const other of [write({ host: "b" }), write({ host: "a" }, randomUUID())]) {
      assert.ok(other.every(({ ref, id }) => ref === 0 && id !== packed.id));
    }
  });

  test("known series are told apart in any order, whatever came after them last time", () => {
    const cache = createSeriesCache(1_000);
    const hosts = ["a", "b", "c", "dd", "ee"];
    const order = fc.array(fc.tuple(fc.constantFrom(...hosts), fc.boolean()), {
      minLength: 1,
      maxLength: 12,
    });
    const own = fc.constantFrom(rules.defaultStoreId, randomUUID());
    fc.assert(
      fc.property(order, own, (items, defaultStoreId) => {
        const packed = items.filter(([, plain]) => !plain).map(([host]) => host);
        const plain = items.filter(([, plain]) => plain).map(([host]) => host);
        const init = {
          series: packed.map((host) => ({
            name: "m",
            labels: { host },
            baseTime: timestampFromMs(now),
            offsetsMs: [0],
            values: [1],
          })),
          samples: plain.map((host) => ({ name: "m", labels: { host }, value: 1 })),
        };
        const bytes = toBinary(WriteSamplesRequestSchema, create(WriteSamplesRequestSchema, init));
        const read = readWireItems(readWireRequest(bytes), { ...rules, defaultStoreId }, cache);
        assert.ok(read);
        for (const series of read.series) {
          if (series.ref === 0) cache.add(Object.assign(series, { ref: 7, definition: undefined }));
        }
        const usual = readItems(
          fromBinary(WriteSamplesRequestSchema, bytes),
          { ...rules, defaultStoreId },
          createSeriesCache(10),
        );
        assert.deepEqual(
          read.series.map(({ id }) => id),
          usual.batch.series.map(({ id }) => id),
        );
      }),
      { numRuns: 500 },
    );
  });

  test("bytes that are cut off or damaged are never read as something else", () => {
    const init = {
      storeId: rules.defaultStoreId,
      series: [
        {
          name: "m",
          labels: { a: "b" },
          baseTime: timestampFromMs(now),
          offsetsMs: [0, 300],
          values: [1, 2],
        },
      ],
      samples: [{ name: "m", value: 1, timestamp: timestampFromMs(now) }],
    };
    const bytes = toBinary(WriteSamplesRequestSchema, create(WriteSamplesRequestSchema, init));
    let compared = 0;
    for (let at = 0; at < bytes.length; at++) {
      for (const damaged of [
        bytes.slice(0, at),
        bytes.map((byte, index) => (index === at ? byte ^ 0x15 : byte)),
      ]) {
        let batch: SampleBatch | undefined;
        try {
          batch = readWireItems(readWireRequest(damaged), rules, createSeriesCache(10));
        } catch {
          continue; // left to the usual way
        }
        if (!batch) continue;
        const usual = readItems(fromBinary(WriteSamplesRequestSchema, damaged), rules, createSeriesCache(10));
        assert.deepEqual(usual.invalid, []);
        assert.deepEqual(shown(batch), shown(usual.batch));
        compared++;
      }
    }
    assert.ok(compared > 20, String(compared));
  });
});
