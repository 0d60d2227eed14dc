/** The state machine of alerts over random histories: it never skips or repeats a transition, and live and back-test agree. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { create } from "@bufbuild/protobuf";
import { durationFromMs } from "@bufbuild/protobuf/wkt";
import fc from "fast-check";
import {
  type AlertRuleSpec,
  AlertRuleSpecSchema,
  Comparison,
} from "../server/src/gen/pulsewire/metrics/v1/alert_pb.js";
import {
  acknowledge,
  close,
  observe,
  type Phase,
  pass,
  type State,
  type Step,
  type Transition,
} from "../server/src/metrics/alerts/machine.ts";
import { createRateWindow } from "../server/src/metrics/alerts/rate-window.ts";
import { readRule } from "../server/src/metrics/alerts/rule.ts";
import {
  createTracker,
  leastLateMs,
  nextDueMs,
  noteLateness,
  takeSample,
  takeTime,
} from "../server/src/metrics/alerts/tracker.ts";

/** Where an alert may go from where, written out once more. */
const ways: Record<Phase, readonly Phase[]> = {
  inactive: ["pending"],
  pending: ["firing", "acknowledged", "resolved"],
  firing: ["acknowledged", "recovering", "resolved"],
  acknowledged: ["acknowledged", "firing", "pending", "recovering", "resolved"],
  recovering: ["firing", "acknowledged", "resolved"],
  resolved: [],
};

type Happening =
  | { readonly kind: "value"; readonly after: number; readonly verdict: "holds" | "between" | "over" }
  | { readonly kind: "time"; readonly after: number }
  | { readonly kind: "close"; readonly after: number }
  | { readonly kind: "acknowledge"; readonly after: number; readonly forMs: number };

const after = fc.integer({ min: 0, max: 40 });
const happening: fc.Arbitrary<Happening> = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.record({
      kind: fc.constant("value" as const),
      after,
      verdict: fc.constantFrom("holds", "between", "over"),
    }),
  },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant("time" as const), after }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant("close" as const), after }) },
  {
    weight: 2,
    arbitrary: fc.record({
      kind: fc.constant("acknowledge" as const),
      after,
      forMs: fc.oneof(fc.integer({ min: 1, max: 60 }), fc.constant(Number.POSITIVE_INFINITY)),
    }),
  },
);
const timing = fc.record({
  forMs: fc.oneof(fc.constant(0), fc.integer({ min: 1, max: 50 })),
  recoveryForMs: fc.oneof(fc.constant(0), fc.integer({ min: 1, max: 50 })),
});

function play(rule: { forMs: number; recoveryForMs: number }, happenings: readonly Happening[]) {
  let state: State;
  let nowMs = 1_000;
  const transitions: Transition[] = [];
  const take = (step: Step | undefined) => {
    if (!step) return;
    state = step.state;
    transitions.push(...step.transitions);
  };
  for (const one of happenings) {
    nowMs += one.after;
    if (one.kind === "value") take(observe(rule, state, { atMs: nowMs, verdict: one.verdict }));
    else if (one.kind === "time") take(pass(rule, state, nowMs));
    else if (one.kind === "close") take(close(rule, state, nowMs));
    else take(acknowledge(rule, state, nowMs, nowMs + one.forMs));
  }
  return { state, transitions, nowMs };
}

describe("the state machine", () => {
  test("goes only where it may, each step from where the last one ended, in the order of time", () => {
    fc.assert(
      fc.property(timing, fc.array(happening, { maxLength: 60 }), (rule, happenings) => {
        const { transitions } = play(rule, happenings);
        let phase: Phase = "inactive";
        let atMs = 0;
        for (const { from, to, atMs: at } of transitions) {
          if (phase === "resolved") phase = "inactive";
          assert.equal(from, phase);
          assert.ok(ways[from].includes(to), `${from} → ${to}`);
          assert.ok(at >= atMs, "back in time");
          phase = to;
          atMs = at;
        }
      }),
      { numRuns: 3_000 },
    );
  });

  test("fires after `for` and no sooner, and is resolved after `recovery_for` and no sooner", () => {
    fc.assert(
      fc.property(timing, fc.array(happening, { maxLength: 60 }), (rule, happenings) => {
        const { transitions } = play(rule, happenings);
        let startedAt = 0;
        let recoveringSince = 0;
        for (const { from, to, atMs, state } of transitions) {
          if (from === "inactive") startedAt = atMs;
          if (to === "recovering") recoveringSince = atMs;
          if (from === "pending" && to === "firing") assert.equal(atMs, startedAt + rule.forMs);
          if (to === "firing") assert.ok(atMs >= startedAt + rule.forMs || from === "recovering");
          if (from === "recovering" && to === "resolved")
            assert.ok(
              atMs === recoveringSince + rule.recoveryForMs ||
                happenings.some(({ kind }) => kind === "close"),
            );
          if (state) assert.equal(state.startedAtMs, startedAt);
        }
      }),
      { numRuns: 3_000 },
    );
  });

  test("how often time is looked at changes nothing", () => {
    fc.assert(
      fc.property(timing, fc.array(happening, { maxLength: 40 }), (rule, happenings) => {
        const often = happenings.flatMap((one): Happening[] => {
          const half = Math.floor(one.after / 2);
          return [
            { kind: "time", after: half },
            { ...one, after: one.after - half },
          ];
        });
        const last: Happening = { kind: "time", after: 1_000 };
        assert.deepEqual(
          play(rule, [...often, last]).transitions,
          play(rule, [...happenings, last]).transitions,
        );
      }),
      { numRuns: 2_000 },
    );
  });
});

const conditions: fc.Arbitrary<AlertRuleSpec["condition"]> = fc.oneof(
  fc.record({ recovery: fc.option(fc.integer({ min: 0, max: 5 })) }).map(({ recovery }) => ({
    case: "threshold" as const,
    value: create(AlertRuleSpecSchema, {
      condition: {
        case: "threshold",
        value: {
          comparison: Comparison.GREATER,
          value: 5,
          ...(recovery !== null && { recoveryValue: recovery }),
        },
      },
    }).condition.value as never,
  })),
  fc.integer({ min: 50, max: 400 }).map((ms) => ({
    case: "absence" as const,
    value: { duration: durationFromMs(ms) } as never,
  })),
  fc.integer({ min: 100, max: 1_000 }).map((ms) => ({
    case: "rateOfChange" as const,
    value: { comparison: Comparison.GREATER, valuePerSecond: 20, window: durationFromMs(ms) } as never,
  })),
);

describe("live and back-test", () => {
  test("agree on every history, however often the evaluation looks and wherever it starts anew", () => {
    const history = fc.array(
      fc.record({
        after: fc.integer({ min: 1, max: 300 }),
        value: fc.integer({ min: 0, max: 10 }),
        looks: fc.integer({ min: 0, max: 3 }),
      }),
      { minLength: 1, maxLength: 60 },
    );
    const span = fc.oneof(fc.constant(0), fc.integer({ min: 1, max: 400 }));
    fc.assert(
      fc.property(
        conditions,
        span,
        span,
        history,
        fc.boolean(),
        (condition, forMs, recoveryForMs, samples, isCounter) => {
          const rule = readRule(
            create(AlertRuleSpecSchema, {
              condition,
              for: durationFromMs(forMs),
              recoveryFor: durationFromMs(recoveryForMs),
            }),
          );
          const startMs = 1_000_000;
          const past = createTracker(rule, isCounter, startMs);
          const live = createTracker(rule, isCounter, startMs);
          const expected: Transition[] = [];
          const found: Transition[] = [];
          let atMs = startMs;
          for (const { after, value, looks } of samples) {
            for (let look = 1; look <= looks; look++) {
              const nowMs = atMs + Math.floor((after * look) / (looks + 1));
              const due = nextDueMs(rule, live);
              const brought = takeTime(rule, live, nowMs);
              // Where time brings something, it was due.
              assert.equal(brought.length > 0, due <= nowMs);
              found.push(...brought);
            }
            atMs += after;
            expected.push(...takeSample(rule, past, atMs, value));
            found.push(...takeSample(rule, live, atMs, value));
            // A sample that is read again changes nothing.
            assert.deepEqual(takeSample(rule, live, atMs, value + 1), []);
          }
          const endMs = atMs + 5_000;
          expected.push(...takeTime(rule, past, endMs));
          found.push(...takeTime(rule, live, endMs));
          assert.deepEqual(found, expected);
        },
      ),
      { numRuns: 3_000 },
    );
  });
});

describe("absence", () => {
  const waiting = (recoveryForMs: number) =>
    readRule(
      create(AlertRuleSpecSchema, {
        condition: { case: "absence", value: { duration: durationFromMs(10_000) } },
        recoveryFor: durationFromMs(recoveryForMs),
      }),
    );
  const rule = waiting(0);
  const names = (transitions: readonly Transition[]) => transitions.map(({ to, atMs }) => [to, atMs]);

  test("a backlog that comes in parts ends the alert once, with its newest part", () => {
    const tracker = createTracker(rule, false, 0);
    assert.deepEqual(names(takeTime(rule, tracker, 10_000)), []);
    assert.deepEqual(names(takeTime(rule, tracker, 60_000)), [
      ["pending", 10_000],
      ["firing", 10_000],
    ]);
    const parts = [
      [1_000, 20_000],
      [21_000, 40_000],
      [41_000, 60_000],
    ] as const;
    const seen: unknown[] = [];
    for (const [from, until] of parts) {
      for (let at = from; at <= until; at += 1_000)
        seen.push(...names(takeSample(rule, tracker, at, 1, 61_000)));
      seen.push(...names(takeTime(rule, tracker, 61_000)));
    }
    assert.deepEqual(seen, [
      ["recovering", 51_000],
      ["resolved", 51_000],
    ]);
  });

  /** A live evaluation that looks at the times when samples come, and at those in between. */
  function live(
    samples: readonly { at: number; comes: number }[],
    looks: readonly number[],
    recoveryForMs = 0,
  ) {
    const rule = waiting(recoveryForMs);
    const tracker = createTracker(rule, false, 0);
    tracker.lateMs = leastLateMs;
    const seen: Transition[] = [];
    const times = [...samples.map(({ comes }) => comes), ...looks].sort((a, b) => a - b);
    for (const nowMs of times) {
      for (const { at } of samples.filter(({ comes }) => comes === nowMs)) {
        noteLateness(rule, tracker, nowMs - at);
        seen.push(...takeSample(rule, tracker, at, 1, nowMs));
      }
      seen.push(...takeTime(rule, tracker, nowMs));
    }
    return { seen, tracker };
  }

  test("of samples that are due just when another is missed: none is, though each comes somewhat late", () => {
    fc.assert(
      fc.property(
        fc.array(fc.integer({ min: 0, max: leastLateMs }), { minLength: 1, maxLength: 50 }),
        fc.array(fc.integer({ min: 0, max: 500_000 }), { maxLength: 50 }),
        (delays, looks) => {
          const samples = delays.map((delay, index) => {
            const at = 10_000 * (index + 1);
            return { at, comes: at + delay };
          });
          const until = 10_000 * delays.length;
          const { seen } = live(
            samples,
            looks.filter((look) => look <= until),
          );
          assert.deepEqual(seen, []);
        },
      ),
      { numRuns: 500 },
    );
  });

  test("live and back-test agree on samples that come late, whenever the evaluation looks", () => {
    const history = fc.array(
      fc.record({
        gap: fc.integer({ min: 1_000, max: 14_000 }),
        late: fc.integer({ min: 0, max: leastLateMs }),
      }),
      { minLength: 1, maxLength: 30 },
    );
    const looking = fc.array(fc.integer({ min: 0, max: 400_000 }), { maxLength: 200 });
    fc.assert(
      fc.property(history, looking, fc.integer({ min: 0, max: 25_000 }), (parts, looks, recoveryForMs) => {
        let at = 0;
        const samples = parts.map(({ gap, late }) => {
          at += gap;
          return { at, comes: at + late };
        });
        const end = at + 60_000;
        const rule = waiting(recoveryForMs);
        const past = createTracker(rule, false, 0);
        const expected = [
          ...samples.flatMap((sample) => takeSample(rule, past, sample.at, 1)),
          ...takeTime(rule, past, end),
        ];
        const { seen } = live(samples, [...looks.filter((look) => look < end), end], recoveryForMs);
        assert.deepEqual(names(seen), names(expected));
      }),
      { numRuns: 1_000 },
    );
  });

  for (const { what, gap, lateMs, expected } of [
    { what: "just as long as it may be", gap: 10_000, lateMs: 0, expected: [] },
    { what: "longer by a millisecond", gap: 10_001, lateMs: 0, expected: [20_000] },
    { what: "just as long, all come 6 s late", gap: 10_000, lateMs: 6_000, expected: [] },
    { what: "longer, all come 6 s late", gap: 10_001, lateMs: 6_000, expected: [20_000] },
  ]) {
    test(`a pause that is ${what}`, () => {
      const times = [2_000, 4_000, 6_000, 8_000, 10_000, 10_000 + gap];
      const samples = times.map((at) => ({ at, comes: at + lateMs }));
      const looks = Array.from({ length: 400 }, (_, index) => index * 50);
      const { seen } = live(samples, looks);
      assert.deepEqual(
        seen.filter(({ to }) => to === "firing").map(({ atMs }) => atMs),
        expected,
      );
    });
  }

  test("silence is found when it is later than samples usually are, and counts from when one was due", () => {
    const samples = Array.from({ length: 100 }, (_, index) => {
      const at = 5_000 * (index + 1);
      return { at, comes: at + (index < 50 ? 4_000 : 200) };
    });
    const { tracker } = live(samples, []);
    const dueMs = nextDueMs(rule, tracker);
    assert.ok(dueMs > 510_000 + leastLateMs && dueMs < 510_000 + leastLateMs + 50, String(dueMs));
    assert.deepEqual(names(takeTime(rule, tracker, dueMs - 1)), []);
    assert.deepEqual(names(takeTime(rule, tracker, dueMs)), [
      ["pending", 510_000],
      ["firing", 510_000],
    ]);
    // A backlog tells nothing of what comes next.
    noteLateness(rule, tracker, 3_600_000);
    assert.ok(tracker.lateMs < leastLateMs + 50);
  });
});

describe("the rate of change", () => {
  test("is that of the whole window, however fast the samples come", () => {
    for (const everyMs of [10, 100, 1_000, 7_000]) {
      const window = createRateWindow(60_000, false);
      let rate: number | undefined;
      for (let at = 0; at <= 300_000; at += everyMs)
        rate = window.add(at, at < 200_000 ? 0 : (at - 200_000) * 0.002);
      assert.ok(Math.abs((rate ?? 0) - 2) < 0.02, `${everyMs}: ${rate}`);
    }
  });

  test("of a counter does not fall with its restart, and is not told from too little", () => {
    const window = createRateWindow(10_000, true);
    assert.equal(window.add(0, 100), undefined);
    assert.equal(window.add(1_000, 110), undefined);
    assert.equal(window.add(5_000, 150), 10);
    assert.equal(window.add(10_000, 50), 10);
    const gauge = createRateWindow(10_000, false);
    gauge.add(0, 100);
    assert.equal(gauge.add(10_000, 50), -5);
    // After a gap the old value says nothing.
    assert.equal(gauge.add(100_000, 999), undefined);
  });
});
