import assert from "node:assert/strict";
import { once } from "node:events";
import { connect } from "node:net";
import { after, before, describe, test } from "node:test";
import { setImmediate as nextTurn, setTimeout as sleep } from "node:timers/promises";
import fc from "fast-check";
import { ProgressService } from "../server/src/gen/pulsewire/progress/v1/progress_service_pb.js";
import { readRequestHead } from "../server/src/listener/lean/request-head.ts";
import { startTwins, type Twins } from "./helpers/twin-listeners.ts";

const unary = `/${ProgressService.typeName}/GetProgress`;
const streaming = `/${ProgressService.typeName}/WatchProgress`;
/** Of eight connections each. */
const rounds = Number(process.env.DIRECT_ROUNDS ?? 20);

const often = <T>(usual: fc.Arbitrary<T>, seldom: fc.Arbitrary<T>) =>
  fc.oneof({ weight: 9, arbitrary: usual }, { weight: 1, arbitrary: seldom });

/** Lines that somebody who wants two readers to disagree would send, and harmless ones. */
const oddLines = [
  "transfer-encoding: chunked",
  "Transfer-Encoding : chunked",
  "transfer-encoding: identity",
  "content-length: 3",
  "content-length: +5",
  "Content-Length : 5",
  "content-length: 5, 5",
  "x-folded: one\r\n two",
  " leading: space",
  "x-bare: a\rb",
  "x-bare: a\nx-b: c",
  "x-null: a\0b",
  "x-high: \xe9",
  "x-tab: a\tb",
  "no colon here",
  ": no name",
  "connection: close",
  "Connection: Close",
  "connection: keep-alive, close",
  "connection: upgrade",
  "upgrade: websocket",
  "expect: 100-continue",
  "te: trailers",
  "host: other.example",
  "host:",
  "constructor: x",
  "__proto__: x",
  "x_under: score",
  "x-empty:",
  "x-spaces:   a  b   ",
  "x-twice: 1\r\nx-twice: 2",
  "cookie: a=1\r\ncookie: b=2",
  "accept-encoding: gzip",
  "connect-timeout-ms: 5000",
  "origin: http://elsewhere.example",
];

const body = fc
  .record({
    filename: fc.constantFrom("echo", "headers", "error", "details", "cookies", "unwritable", "large", "é€"),
    good: often(fc.constant(true), fc.constant(false)),
  })
  .map(({ filename, good }) =>
    Buffer.from(
      good ? JSON.stringify({ clientKrn: "krn:acme:client:one", filename }) : '{"clientKrn":"krn:!",,',
    ),
  );

const request = fc
  .record({
    line: often(
      fc.constant(`POST ${unary} HTTP/1.1`),
      fc.constantFrom(
        `GET ${unary} HTTP/1.1`,
        `POST ${unary} HTTP/1.0`,
        `post ${unary} HTTP/1.1`,
        `POST  ${unary} HTTP/1.1`,
        `POST http://127.0.0.1${unary} HTTP/1.1`,
        `POST ${unary}?x HTTP/1.1`,
        "POST /nothing/here HTTP/1.1",
        `POST ${unary} HTTP/1.1 `,
        `\r\nPOST ${unary} HTTP/1.1`,
      ),
    ),
    type: often(fc.constant("application/json"), fc.constantFrom("application/proto", "text/plain")),
    streams: often(fc.constant(false), fc.constant(true)),
    odd: fc.oneof(
      { weight: 3, arbitrary: fc.constant([]) },
      { weight: 1, arbitrary: fc.subarray(oddLines, { maxLength: 2 }) },
    ),
    body,
    /** What the length is off by. */
    off: often(fc.constant(0), fc.constantFrom(-2, 2, 100)),
    withLength: often(fc.constant(true), fc.constant(false)),
    lineEnd: often(fc.constant("\r\n"), fc.constant("\n")),
    host: often(fc.constant("host: 127.0.0.1"), fc.constantFrom("Host: [::1]:80", "x-no: host", "host: a b")),
  })
  .map((given) => {
    const data = given.streams ? enveloped(given.body) : given.body;
    const lines = [
      given.streams ? `POST ${streaming} HTTP/1.1` : given.line,
      given.host,
      `Content-Type: ${given.streams ? "application/connect+json" : given.type}`,
      ...given.odd,
      ...(given.withLength ? [`content-length: ${Math.max(0, data.length + given.off)}`] : []),
    ];
    const head = `${lines.join(given.lineEnd)}${given.lineEnd}${given.lineEnd}`;
    return Buffer.concat([Buffer.from(head, "latin1"), data]);
  });

/** What is sent on one connection, and in which pieces: mostly a request each. */
const plan = fc.array(request, { minLength: 1, maxLength: 3 }).chain((requests) => {
  const all = Buffer.concat(requests);
  const ends = requests.map((_, index) =>
    requests.slice(0, index + 1).reduce((sum, { length }) => sum + length, 0),
  );
  return fc
    .oneof(
      { weight: 3, arbitrary: fc.constant(ends) },
      {
        weight: 1,
        arbitrary: fc
          .array(fc.nat(all.length), { maxLength: 4 })
          .map((cuts) => [...cuts.sort((a, b) => a - b), all.length]),
      },
    )
    .map((places) => places.map((end, index) => all.subarray(places[index - 1] ?? 0, end)));
});

function enveloped(data: Buffer): Buffer {
  const head = Buffer.alloc(5);
  head.writeUInt32BE(data.length, 1);
  return Buffer.concat([head, data]);
}

/** How long nothing must come before the peer is taken to wait for more. */
const quietMs = 60;

/** Sends the pieces, each when an answer has come to the one before or nothing comes, and returns everything that comes back. */
async function exchange(port: number, pieces: readonly Buffer[]): Promise<string> {
  const socket = connect({ host: "127.0.0.1", port, noDelay: true });
  let got = "";
  let closed = false;
  let wake = () => {};
  socket.on("data", (chunk: Buffer) => {
    got += chunk.toString("latin1");
    wake();
  });
  socket.on("error", () => {});
  socket.on("close", () => {
    closed = true;
    wake();
  });
  await once(socket, "connect");
  const somethingOrQuiet = () =>
    new Promise<boolean>((resolve) => {
      const timer = setTimeout(() => resolve(false), quietMs);
      wake = () => {
        clearTimeout(timer);
        resolve(true);
      };
      if (closed) wake();
    });
  for (const piece of pieces) {
    if (closed) break;
    socket.write(piece);
    await nextTurn();
    if (piece.length > 0) await somethingOrQuiet();
  }
  while (!closed && (await somethingOrQuiet()));
  socket.destroy();
  return `${got}${closed ? "<closed>" : ""}`;
}

interface Comparable {
  readonly answers: string[];
  readonly continued: number;
}

/**
 * Answers without what differs by right: the date, the words of a status, the order of fields, how a stream is cut into chunks.
 * Then how often the client was told to continue: Node may do so in the middle of the answer before.
 */
function comparable(text: string): Comparable {
  const [first = "", ...others] = text.split("HTTP/1.1 100 Continue\r\n\r\n");
  const answers = [first, ...others].join("").split(/(?=HTTP\/1\.1 \d{3} )/);
  return { answers: answers.map(comparableAnswer), continued: others.length };
}

function comparableAnswer(answer: string): string {
  const [head = "", ...rest] = answer.split("\r\n\r\n");
  const [status = "", ...lines] = head.toLowerCase().split("\r\n");
  const fields = [status.slice(0, 12), ...lines.filter((line) => !line.startsWith("date:")).sort()];
  const isChunked = lines.includes("transfer-encoding: chunked");
  const content = rest.join("\r\n\r\n");
  return [...fields, isChunked ? content.replaceAll(/(?:^|\r\n)[0-9a-f]+\r\n/g, "") : content].join("\n");
}

/** What was answered, without the refusal and the end of a connection on which something came that is no request. */
function endingOf(answers: readonly string[]): { answered: string[]; isClosed: boolean; isRefused: boolean } {
  const last = answers.at(-1) ?? "";
  const isClosed = last.endsWith("<closed>");
  const isRefused = isClosed && last.includes("problem+json");
  const answered = answers.map((answer) => answer.replace(/<closed>$/, ""));
  return { answered: isRefused ? answered.slice(0, -1) : answered, isClosed, isRefused };
}

/**
 * Where garbage follows a request in one piece, Node refuses it before or after it answers the request, or closes the connection
 * without a word because it is just answering, as timing has it.
 */
function assertAlike(ours: Comparable, theirs: Comparable, sent: string): void {
  const [us, them] = [endingOf(ours.answers), endingOf(theirs.answers)];
  const least = Math.min(us.answered.length, them.answered.length);
  const most = Math.max(us.answered.length, them.answered.length);
  if (us.isClosed && them.isClosed && (us.isRefused || them.isRefused) && most - least <= 1)
    assert.deepEqual(us.answered.slice(0, least), them.answered.slice(0, least), sent);
  else assert.deepEqual(ours, theirs, sent);
}

describe("connections that are read without Node's server", () => {
  let twins: Twins;
  before(async () => {
    twins = await startTwins();
  });
  after(() => twins[Symbol.asyncDispose]());

  test("answer any bytes as Node's server and connect-node do", async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(plan, { minLength: 8, maxLength: 8 }), async (plans) => {
        await Promise.all(
          plans.map(async (pieces) => {
            const [ours, theirs] = await Promise.all([
              exchange(twins.lean, pieces),
              exchange(twins.plain, pieces),
            ]);
            assertAlike(comparable(ours), comparable(theirs), Buffer.concat(pieces).toString("latin1"));
          }),
        );
      }),
      { numRuns: rounds },
    );
    assert.ok(twins.counts.direct > rounds, `only ${twins.counts.direct} calls were read directly`);
  });

  test("are kept for the next call, and left with the first that is not simple", async () => {
    const before = twins.counts.direct;
    const json = '{"clientKrn":"krn:acme:client:one","filename":"echo"}';
    const simple = Buffer.from(
      `POST ${unary} HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\ncontent-length: ${json.length}\r\n\r\n${json}`,
    );
    const chunked = Buffer.from(
      `POST ${unary} HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n` +
        `${json.length.toString(16)}\r\n${json}\r\n0\r\n\r\n`,
    );
    const got = await exchange(twins.lean, [simple, simple, chunked, simple]);
    assert.equal(got.split("HTTP/1.1 200 OK").length - 1, 4);
    assert.equal(twins.counts.direct - before, 2);
  });

  test("read a head anew that differs in one byte from the last one", async () => {
    const before = twins.counts.direct;
    const of = (asked: string, filename: string, path = unary) => {
      const json = JSON.stringify({ clientKrn: "krn:acme:client:one", filename });
      return Buffer.from(
        `POST ${path} HTTP/1.1\r\nhost: a\r\nx-asked: ${asked}\r\ncontent-type: application/json\r\ncontent-length: ${json.length}\r\n\r\n${json}`,
      );
    };
    const pieces = [
      of("1", "echo"),
      of("1", "abcd"),
      of("2", "echo"),
      of("1", "echo"),
      of("1", "echo!"),
      of("1", "echo"),
    ];
    const [ours, theirs] = await Promise.all([exchange(twins.lean, pieces), exchange(twins.plain, pieces)]);
    assert.deepEqual(comparable(ours), comparable(theirs));
    assert.deepEqual(
      ours.match(/x-asked,\d/g),
      ["1", "1", "2", "1", "1", "1"].map((asked) => `x-asked,${asked}`),
    );
    assert.equal(twins.counts.direct - before, pieces.length);
    // The same length, another method: nobody's.
    const elsewhere = await exchange(twins.lean, [
      of("1", "echo"),
      of("1", "echo", unary.replace("Get", "Got")),
    ]);
    assert.match(elsewhere, /HTTP\/1\.1 200.*HTTP\/1\.1 404/s);
  });

  test("what comes ahead is answered after what was asked first", async () => {
    const of = (filename: string) => {
      const json = JSON.stringify({ clientKrn: "krn:acme:client:one", filename });
      return Buffer.from(
        `POST ${unary} HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\ncontent-length: ${json.length}\r\n\r\n${json}`,
      );
    };
    const socket = connect({ host: "127.0.0.1", port: twins.lean });
    let got = "";
    socket.on("data", (chunk) => {
      got += chunk;
    });
    socket.write(of("slow"));
    await sleep(10);
    socket.write(of("echo"));
    const deadline = Date.now() + 5_000;
    while (got.split("HTTP/1.1 200").length < 3 && Date.now() < deadline) await sleep(5);
    assert.match(got, /"filename":"xxxx".*"filename":"xxxx"/s);
    assert.equal(got.split("HTTP/1.1 200").length, 3);
    socket.destroy();
  });
});

test("a head is read only where every byte is as it should be", () => {
  const good = "POST /a HTTP/1.1\r\nHost: b\r\ncontent-length: 2\r\n\r\nok";
  const read = (text: string) => readRequestHead(Buffer.from(text, "latin1"), 1_000, 8);
  assert.deepEqual(read(good), {
    path: "/a",
    headers: { host: "b", "content-length": "2" },
    bodyStart: good.length - 2,
    closes: false,
  });
  for (const line of oddLines.slice(0, 15)) {
    assert.equal(read(good.replace("Host", `${line}\r\nHost`)), undefined, line);
  }
  // One byte changed, anywhere: it is not read, or it means what it says.
  for (let at = 0; at < good.length; at++) {
    for (const byte of ["\0", "\r", "\n", " ", ":", "\t", "\x80", "0", "9", ","]) {
      const text = good.slice(0, at) + byte + good.slice(at + 1);
      const head = read(text);
      if (!head) continue;
      const lines = text.slice(0, head.bodyStart - 4).split("\r\n");
      assert.equal(lines[0], `POST ${head.path} HTTP/1.1`);
      assert.equal(lines.length - 1, Object.keys(head.headers).length);
      assert.equal(Number(head.headers["content-length"]), text.length - head.bodyStart);
    }
  }
  assert.equal(read(good.replace("Host", `x: ${"y".repeat(1_000)}\r\nHost`)), undefined);
  assert.equal(read(good.replace("Host", `${"x-1: 1\r\n".repeat(9)}Host`)), undefined);
});
