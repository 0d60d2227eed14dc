import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { create } from "@bufbuild/protobuf";
import { createValidator } from "@bufbuild/protovalidate";
import fc from "fast-check";
import { EventSchema } from "../server/src/gen/pulsewire/ingestion/v1/event_pb.js";
import { certainlyValid } from "../server/src/rpc/quick-check.ts";
import { contractServices } from "../server/src/services.ts";

const validator = createValidator();

describe("the quick check before protovalidate", () => {
  test("never passes an empty request that protovalidate refuses", () => {
    for (const { methods } of contractServices) {
      for (const { input, name } of methods) {
        const message = create(input);
        if (certainlyValid(input, message)) {
          assert.equal(validator.validate(input, message).kind, "valid", name);
        }
      }
    }
  });

  test("never passes an event that protovalidate refuses, and decides about the ordinary ones", () => {
    const edges = [
      "",
      "a",
      " ",
      "\0",
      "\u007f",
      "é",
      "😀",
      "x".repeat(200),
      "x".repeat(201),
      "😀".repeat(101),
      "😀".repeat(201),
    ];
    const text = fc.oneof(fc.constantFrom(...edges), fc.string());
    const events = fc.record({
      eventId: text,
      eventType: text,
      title: text,
      userId: text,
      sessionId: text,
      severity: fc.integer({ min: -1, max: 6 }),
      priority: fc.integer({ min: -1, max: 11 }),
      source: fc.option(fc.record({ service: text, method: text }), { nil: undefined }),
      metrics: fc.dictionary(text, fc.double()),
      timestamp: fc.option(
        fc.record({ seconds: fc.bigInt({ min: -2n, max: 2n }), nanos: fc.integer({ min: -1, max: 1 }) }),
        { nil: undefined },
      ),
    });
    fc.assert(
      fc.property(events, (init) => {
        const event = create(EventSchema, init as never);
        return !certainlyValid(EventSchema, event) || validator.validate(EventSchema, event).kind === "valid";
      }),
      { numRuns: 2_000 },
    );
    const ordinary = create(EventSchema, {
      eventId: "1",
      eventType: "order.created",
      payload: { amount: 1 },
      metrics: { ms: 2.5 },
      timestamp: { seconds: 1n },
      priority: 3,
    });
    assert.ok(certainlyValid(EventSchema, ordinary));
  });
});
