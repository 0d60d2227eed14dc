import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { cpSync, mkdtempSync, readdirSync, readFileSync, rmSync, utimesSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, type TestContext, test } from "node:test";
import fc from "fast-check";
import { Lane } from "../sdk/src/spool/lane.ts";
import type { LaneOptions } from "../sdk/src/spool/lane-options.ts";
import { headerBytes } from "../sdk/src/spool/record.ts";
import type { Segment } from "../sdk/src/spool/segment.ts";
import { Spool, type SpoolOptions } from "../sdk/src/spool/spool.ts";

/** A folder of a test's own. */
function folder(t?: TestContext): string {
  const directory = mkdtempSync(join(tmpdir(), "pulsewire-spool-"));
  t?.after(() => rmSync(directory, { recursive: true, force: true }));
  return directory;
}

/** A lane in a folder, and what it told. */
function open(directory: string, options: Partial<LaneOptions> = {}) {
  const told = {
    lost: {} as Record<string, number>,
    unwritten: [] as number[],
    errors: [] as Error[],
    broken: [] as Uint8Array[],
  };
  const lane = new Lane({
    directory,
    name: "events",
    segmentBytes: 1 << 20,
    maxAgeMs: 60_000,
    sync: "none",
    beforeSegment() {},
    onLost(count, reason) {
      told.lost[reason] = (told.lost[reason] ?? 0) + count;
    },
    onUnwritten: (sequence) => told.unwritten.push(sequence),
    onError: (error) => told.errors.push(error),
    onBroken: (_segment, _offset, bytes) => told.broken.push(bytes),
    ...options,
  });
  return { lane, told };
}

interface ReadRecord {
  sequence: number;
  segment: Segment;
  payload: Buffer;
}

function readAll(lane: Lane): ReadRecord[] {
  const all: ReadRecord[] = [];
  const take = (bytes: Buffer, start: number, end: number, sequence: number, segment: Segment) =>
    all.push({ sequence, segment, payload: Buffer.from(bytes.subarray(start, end)) });
  while (lane.read(take) > 0);
  return all;
}

const sequences = (records: ReadRecord[]) => records.map(({ sequence }) => sequence);
const payloads = fc.array(fc.uint8Array({ maxLength: 300 }), { minLength: 1, maxLength: 60 });
const logOf = (directory: string) =>
  join(directory, readdirSync(directory).find((name) => name.endsWith(".log")) ?? "");

/** Writes records, one a payload, with sequences from 1; says where each begins and ends. */
function write(directory: string, all: Uint8Array[], { kill = false } = {}): [number, number][] {
  const { lane } = open(directory);
  let offset = 0;
  const ranges = all.map((payload, index): [number, number] => {
    lane.append(index + 1, payload, false);
    const from = offset;
    offset += headerBytes + payload.length;
    return [from, offset];
  });
  if (kill) lane.write();
  else lane.close();
  return ranges;
}

/** Damages the log and checks that all records are read of which no byte was touched, as they were. */
function checkDamage(
  all: Uint8Array[],
  damage: (log: Buffer) => { log: Buffer; from: number; to: number },
  kill: boolean,
) {
  const directory = folder();
  try {
    const ranges = write(directory, all, { kill });
    const path = logOf(directory);
    const { log, from, to } = damage(readFileSync(path));
    writeFileSync(path, log);
    const { lane, told } = open(directory);
    const expected = ranges.flatMap(([first, end], index) => (end <= from || first >= to ? [index + 1] : []));
    const found = readAll(lane);
    // More may be there: what is cut out may leave a record whole that is made of two.
    const read = new Set(sequences(found));
    for (const sequence of expected) assert.ok(read.has(sequence), `record ${sequence}`);
    assert.equal(read.size, found.length);
    for (const { sequence, payload } of found) {
      assert.deepEqual(payload, Buffer.from(all[sequence - 1] as Uint8Array));
    }
    // A log that was closed says how many it held, so that what is lost is counted.
    const lost = kill ? 0 : all.length - found.length;
    assert.deepEqual(told.lost, lost > 0 ? { spool_damaged: lost } : {});
    assert.equal(lane.persisted, found.length);
    lane.close();
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

describe("damaged logs", () => {
  test("a byte that flips costs its own record and no other", () => {
    fc.assert(
      fc.property(
        payloads,
        fc.nat(),
        fc.integer({ min: 1, max: 255 }),
        fc.boolean(),
        (all, at, flip, kill) => {
          checkDamage(
            all,
            (log) => {
              const from = at % log.length;
              log.writeUInt8(log.readUInt8(from) ^ flip, from);
              return { log, from, to: from + 1 };
            },
            kill,
          );
        },
      ),
      { numRuns: 300 },
    );
  });

  test("bytes cut out, anywhere, cost the records they belonged to", () => {
    fc.assert(
      fc.property(
        payloads,
        fc.nat(),
        fc.integer({ min: 1, max: 500 }),
        fc.boolean(),
        (all, at, count, kill) => {
          checkDamage(
            all,
            (log) => {
              const from = at % log.length;
              const to = Math.min(log.length, from + count);
              return { log: Buffer.concat([log.subarray(0, from), log.subarray(to)]), from, to };
            },
            kill,
          );
        },
      ),
      { numRuns: 300 },
    );
  });

  test("a log that was torn at any byte, or ends in zeros, keeps what is before", () => {
    fc.assert(
      fc.property(payloads, fc.nat(), fc.boolean(), fc.boolean(), (all, at, zeros, kill) => {
        checkDamage(
          all,
          (log) => {
            const from = at % log.length;
            const torn = zeros ? Buffer.alloc(log.length) : Buffer.alloc(from);
            log.copy(torn, 0, 0, from);
            return {
              log: torn,
              from,
              to: zeros && log.subarray(from).equals(torn.subarray(from)) ? from : log.length,
            };
          },
          kill,
        );
      }),
      { numRuns: 300 },
    );
  });

  test("a damaged file of acks never hides a record that is not settled", () => {
    fc.assert(
      fc.property(
        payloads,
        fc.func(fc.boolean()),
        fc.nat(),
        fc.integer({ min: 0, max: 255 }),
        (all, done, at, flip) => {
          const directory = folder();
          try {
            const first = open(directory).lane;
            const places = all.map((payload, index) => first.append(index + 1, payload, true));
            const settled = places.map((_, index) => index + 1).filter((sequence) => done(sequence));
            for (const sequence of settled) places[sequence - 1]?.settle(sequence);
            const left = places
              .map((_, index) => index + 1)
              .filter((sequence) => !settled.includes(sequence));
            first.write();
            first.writeAcks();
            const acks = readdirSync(directory).find((name) => name.endsWith(".ack"));
            if (acks) {
              const bytes = readFileSync(join(directory, acks));
              bytes.writeUInt8(bytes.readUInt8(at % bytes.length) ^ flip, at % bytes.length);
              writeFileSync(join(directory, acks), bytes);
            }
            const found = new Set(sequences(readAll(open(directory).lane)));
            for (const sequence of left) assert.ok(found.has(sequence));
            if (flip === 0) assert.equal(found.size, left.length);
          } finally {
            rmSync(directory, { recursive: true, force: true });
          }
        },
      ),
      { numRuns: 200 },
    );
  });

  test("bytes in a payload never pass for a record of their own", (t) => {
    const [one, two] = [folder(t), folder(t)];
    write(one, [Buffer.from("forged")]);
    const forged = readFileSync(logOf(one));
    write(two, [Buffer.concat([forged, forged]), Buffer.from("good")]);
    const log = readFileSync(logOf(two));
    log.writeUInt8(log.readUInt8(5) ^ 1, 5);
    writeFileSync(logOf(two), log);
    const { lane, told } = open(two);
    assert.deepEqual(sequences(readAll(lane)), [2]);
    assert.equal(told.broken[0]?.length, headerBytes + 2 * forged.length);
  });

  test("a missing segment is counted and costs no other", (t) => {
    const directory = folder(t);
    const { lane, told } = open(directory, { segmentBytes: 4096 });
    for (let sequence = 1; sequence <= 300; sequence++) lane.append(sequence, Buffer.alloc(100), false);
    lane.write();
    const logs = readdirSync(directory)
      .filter((name) => name.endsWith(".log"))
      .sort();
    assert.ok(logs.length > 5);
    rmSync(join(directory, logs[2] ?? ""));
    const found = readAll(lane).length;
    assert.equal(found + (told.lost.spool_missing ?? 0), 300);
    assert.ok(found >= 300 - 4096 / 128);
    lane.close();
    // Before a start nobody knows what it held; the others are read all the same.
    const again = open(directory, { segmentBytes: 4096 });
    rmSync(join(directory, logs[3] ?? ""));
    const rest = readAll(again.lane).length;
    assert.equal(rest + (again.told.lost.spool_missing ?? 0), found);
  });
});

describe("lane", () => {
  test("what is settled is not read again, and its files go", async (t) => {
    const directory = folder(t);
    const { lane } = open(directory, { segmentBytes: 4096 });
    for (let sequence = 1; sequence <= 200; sequence++) lane.append(sequence, Buffer.alloc(100), false);
    const read = readAll(lane);
    for (const { sequence, segment } of read) if (sequence % 3 !== 0) segment.settle(sequence);
    assert.equal(lane.persisted, 66);
    lane.writeAcks();
    const copy = folder(t);
    cpSync(directory, copy, { recursive: true });
    const again = open(copy, { segmentBytes: 4096 }).lane;
    assert.deepEqual(
      sequences(readAll(again)),
      Array.from({ length: 66 }, (_, index) => 3 * (index + 1)),
    );
    for (const { sequence, segment } of read) if (sequence % 3 === 0) segment.settle(sequence);
    lane.close();
    assert.deepEqual(readdirSync(directory), []);
  });

  test("copies held in memory are not read; those behind them are, in order", (t) => {
    const { lane } = open(folder(t));
    for (let round = 0; round < 5; round++) {
      for (let index = 1; index <= 10; index++) lane.append(round * 20 + index, Buffer.alloc(10), true);
      for (let index = 11; index <= 20; index++) lane.append(round * 20 + index, Buffer.alloc(10), false);
      assert.equal(lane.unread, 10);
      assert.deepEqual(
        sequences(readAll(lane)),
        Array.from({ length: 10 }, (_, index) => round * 20 + 11 + index),
      );
    }
    assert.equal(lane.persisted, 100);
    lane.close();
  });

  test("records larger than a read", (t) => {
    const directory = folder(t);
    const { lane } = open(directory);
    const sizes = [1, 300_000, 5, 2_000_000, 7];
    for (const [index, size] of sizes.entries()) lane.append(index + 1, Buffer.alloc(size, index), false);
    lane.close();
    const found = readAll(open(directory).lane);
    assert.deepEqual(
      found.map(({ payload }) => payload.length),
      sizes,
    );
  });

  test("a record that is appended while another begins a segment, as when a drop is told: both are kept", (t) => {
    const directory = folder(t);
    let inner = true;
    const { lane, told } = open(directory, {
      beforeSegment() {
        if (!inner) return;
        inner = false;
        lane.append(2, Buffer.from("inner"), false);
      },
    });
    lane.append(1, Buffer.from("outer"), false);
    const read = readAll(lane);
    assert.deepEqual(
      read.map(({ payload }) => String(payload)),
      ["inner", "outer"],
    );
    const [first, second] = read;
    if (first) lane.settle(first.sequence, first.segment);
    lane.close();
    assert.deepEqual([told.lost, told.errors, lane.persisted], [{}, [], 1]);
    const { lane: again } = open(directory);
    assert.deepEqual(sequences(readAll(again)), [1]);
    if (second) again.settle(second.sequence, second.segment);
    again.close();
  });

  test("too old: dropped as expired", async (t) => {
    const directory = folder(t);
    write(directory, [Buffer.from("old"), Buffer.from("old")]);
    await new Promise((resolve) => setTimeout(resolve, 20));
    const { lane, told } = open(directory, { maxAgeMs: 10 });
    assert.deepEqual(readAll(lane), []);
    assert.deepEqual(told.lost, { spool_expired: 2 });
    assert.deepEqual(readdirSync(directory), []);
    write(directory, [Buffer.from("old")]);
    utimesSync(logOf(directory), 0, 0);
    const whole = open(directory);
    whole.lane.dropExpired();
    assert.deepEqual(whole.told.lost, { spool_expired: 1 });
  });
});

const silent = { onLost() {}, onUnwritten() {} };

describe("spool", () => {
  test("is bounded: the oldest of the lowest lane goes first, and is counted", (t) => {
    const lost: Record<string, number> = {};
    const spool = new Spool({ directory: folder(t), maxBytes: 1 << 20 });
    const listener = (name: string) => ({
      onLost(count: number, reason: string) {
        lost[`${name} ${reason}`] = (lost[`${name} ${reason}`] ?? 0) + count;
      },
      onUnwritten() {},
    });
    const normal = spool.lane("events", listener("normal"));
    const high = spool.lane("events-high", listener("high"));
    for (let sequence = 1; sequence <= 1000; sequence++) high.append(sequence, Buffer.alloc(100), false);
    for (let sequence = 1; sequence <= 20_000; sequence++) normal.append(sequence, Buffer.alloc(100), false);
    normal.write();
    assert.ok(normal.size + high.size <= 1 << 20);
    assert.deepEqual(Object.keys(lost), ["normal spool_full"]);
    assert.equal(readAll(high).length, 1000);
    const left = sequences(readAll(normal));
    assert.equal(left.length + (lost["normal spool_full"] ?? 0), 20_000);
    assert.equal(left.at(-1), 20_000);
    spool.close();
  });

  test("a second one on the same directory is refused, also in another process; after close it is free", async (t) => {
    const directory = folder(t);
    const spool = new Spool({ directory });
    const refused = { name: "SpoolLockedError", pid: process.pid };
    assert.throws(() => new Spool({ directory }), refused);
    const { stdout } = runSpool(
      directory,
      `try { open() } catch (error) { console.log(error.name, error.pid) }`,
    );
    assert.equal(stdout, `SpoolLockedError ${process.pid}\n`);
    spool.close();
    new Spool({ directory }).close();
  });

  test("the lock of a process that was killed, or ran before a reboot, is taken over; by one of many", async (t) => {
    const directory = folder(t);
    const child = spawn(process.execPath, [
      "--input-type=module",
      "--eval",
      source(directory, `open(); console.log("open"); setInterval(() => {}, 1000);`),
    ]);
    await once(child.stdout, "data");
    assert.throws(() => new Spool({ directory }), { name: "SpoolLockedError", pid: child.pid });
    const copy = folder(t);
    cpSync(directory, copy, { recursive: true });
    child.kill("SIGKILL");
    await once(child, "close");

    const contenders = await Promise.all(
      Array.from({ length: 4 }, async () => {
        const contender = spawn(process.execPath, [
          "--input-type=module",
          "--eval",
          source(
            directory,
            `try { open(); console.log("got it"); process.stdin.resume() } catch (error) { console.log(error.name) }`,
          ),
        ]);
        const [line] = await once(contender.stdout, "data");
        return { contender, line: String(line).trim() };
      }),
    );
    const holders = contenders.filter(({ line }) => line === "got it");
    assert.equal(holders.length, 1, JSON.stringify(contenders.map(({ line }) => line)));
    for (const { contender } of contenders) {
      const ended = contender.exitCode !== null || once(contender, "close");
      contender.stdin.end();
      contender.kill("SIGKILL");
      await ended;
    }

    // This process has the pid, but not the boot, or not the beginning, of the one that had the lock.
    const lock = join(copy, "lock.1");
    for (const other of [{ boot: "another" }, { started: "1" }]) {
      const spool = new Spool({ directory: copy });
      const owner = JSON.parse(readFileSync(lockOf(copy), "utf8"));
      spool.close();
      writeFileSync(lock, JSON.stringify({ ...owner, ...other }));
      new Spool({ directory: copy }).close();
      writeFileSync(lock, JSON.stringify(owner));
      assert.throws(() => new Spool({ directory: copy }), { name: "SpoolLockedError" });
      rmSync(lock);
    }
  });

  test("a full disk: what cannot be written is handed back, what was written stays readable", (t) => {
    const directory = folder(t);
    // Files may have 64 KiB at most, as bash counts them in KiB.
    const { stdout, stderr } = runSpool(
      directory,
      `
      const [unwritten, refused, errors] = [[], [], new Set()];
      const lane = open({ onError: ({ code }) => errors.add(code) }, (sequence) => unwritten.push(sequence));
      for (let sequence = 1; sequence <= 2000; sequence++) {
        if (!lane.append(sequence, Buffer.alloc(100), false)) refused.push(sequence);
      }
      lane.write();
      const read = [];
      while (lane.read((_bytes, _start, _end, sequence) => read.push(sequence)) > 0);
      console.log(JSON.stringify({ unwritten, refused, read, persisted: lane.persisted, errors: [...errors] }));`,
      "ulimit -f 64;",
    );
    assert.ok(stdout, stderr);
    const { unwritten, refused, read, persisted, errors } = JSON.parse(stdout);
    assert.deepEqual(errors, ["EFBIG"]);
    assert.ok(read.length > 300 && unwritten.length > 0 && refused.length > 0);
    assert.equal(persisted, read.length);
    assert.deepEqual(
      [...read, ...unwritten, ...refused],
      Array.from({ length: 2000 }, (_, index) => index + 1),
    );
  });

  test("200 MB of backlog open in under a second, and are read in little memory", (t) => {
    const directory = folder(t);
    const spool = new Spool({ directory, sync: "none" });
    const lane = spool.lane("events", silent);
    const count = 800_000;
    const payload = Buffer.alloc(222, 7);
    for (let sequence = 1; sequence <= count; sequence++) lane.append(sequence, payload, false);
    spool.close();
    const { stdout, stderr } = runSpool(
      directory,
      `
      const before = process.memoryUsage().rss;
      const started = performance.now();
      const lane = open();
      const took = performance.now() - started;
      const persisted = lane.persisted;
      let [read, most] = [0, 0];
      for (;;) {
        const records = lane.read((_bytes, _start, _end, sequence, segment) => segment.settle(sequence));
        if (records === 0) break;
        read += records;
        most = Math.max(most, process.memoryUsage().rss - before);
      }
      console.log(JSON.stringify({ took, persisted, read, most }));`,
    );
    assert.ok(stdout, stderr);
    const { took, persisted, read, most } = JSON.parse(stdout);
    t.diagnostic(`opened in ${took.toFixed(1)} ms, ${(most / 2 ** 20).toFixed(1)} MiB more than before`);
    assert.deepEqual([persisted, read], [count, count]);
    assert.ok(took < 1000, `${took} ms`);
    assert.ok(most < 64 * 2 ** 20, `${most} bytes`);
  });
});

const lockOf = (directory: string) =>
  join(directory, readdirSync(directory).find((name) => name.startsWith("lock.")) ?? "");

/** A program that may open() the spool's lane `events`. */
function source(directory: string, program: string): string {
  const options: SpoolOptions = { directory, sync: "none" };
  return `
    import { Spool } from ${JSON.stringify(new URL("../sdk/src/spool/spool.ts", import.meta.url).href)};
    const open = (options, onUnwritten = () => {}) =>
      new Spool({ ...${JSON.stringify(options)}, ...options }).lane("events", { onLost() {}, onUnwritten });
    ${program}`;
}

function runSpool(directory: string, program: string, before = "") {
  const command = `${before} exec "$0" --input-type=module --eval "$1"`;
  return spawnSync("bash", ["-c", command, process.execPath, source(directory, program)], {
    encoding: "utf8",
    timeout: 60_000,
  });
}
