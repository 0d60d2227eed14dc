/** Every command of `pulsewire` as a process of its own, against the real server. */
import assert from "node:assert/strict";
import { readFile, stat } from "node:fs/promises";
import path from "node:path";
import { after, before, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { createClient, type PulsewireClient } from "../../sdk/src/index.ts";
import { keyEncryption, startFunctionServer } from "../helpers/function-server.ts";
import { serve, type TestServer } from "../helpers/server.ts";
import { createPerson, type Ended, type Person } from "./cli.ts";

let server: TestServer;
let client: PulsewireClient;
/** With the key of the tenant's owner in the environment. */
let owner: Person;
const undo = new AsyncDisposableStack();

before(async () => {
  server = undo.use(await startFunctionServer());
  client = undo.use(createClient({ endpoint: server.url, apiKey: server.tenant.apiKey }));
  owner = undo.use(await createPerson(server));
});
after(() => undo.disposeAsync());

function assertOk(ended: Ended): Ended {
  assert.equal(ended.code, 0, ended.stderr);
  return ended;
}

const eventsOf = async (eventType: string) =>
  (await client.ingestion.listEvents({ filter: { eventTypes: [eventType] }, oldestFirst: true })).events.map(
    ({ event }) => event,
  );

describe("signing in", () => {
  test("with an API key: checked, kept for its owner only, used, and forgotten", async () => {
    await using person = await createPerson();
    const { code, stderr } = await person.run(["stores"]);
    assert.equal(code, 3);
    assert.match(stderr, /You are not signed in\. Sign in with `pulsewire login`/);
    const wrong = await person.run(["login", "--endpoint", server.url, "--api-key", "evp_wrong"]);
    assert.equal(wrong.code, 3, wrong.stderr);
    const args = ["login", "--endpoint", server.url, "--api-key-stdin", "--json"];
    const { json } = assertOk(await person.run(args, { input: `${server.tenant.apiKey}\n` }));
    const file = path.join(person.home, ".config/pulsewire/credentials.json");
    assert.deepEqual(json, [{ endpoint: server.url, principal: 'key "tests"', tenant: "first", file }]);
    assert.equal((await stat(file)).mode & 0o777, 0o600);
    assert.equal((await stat(path.dirname(file))).mode & 0o777, 0o700);
    assertOk(await person.run(["stores"]));
    const elsewhere = await person.run(["stores", "--endpoint", "http://127.0.0.1:9"]);
    assert.equal(elsewhere.code, 3);
    assert.match(elsewhere.stderr, /You are signed in to .*, not to http:\/\/127\.0\.0\.1:9/);
    assert.match(assertOk(await person.run(["logout"])).stdout, /Signed out/);
    assert.equal((await person.run(["stores"])).code, 3);
  });

  test("as a person: the session is kept and refreshed, by one process at a time", async () => {
    await using person = await createPerson();
    const { email, slug, password } = server.tenant;
    const args = ["login", "--endpoint", server.url, "--email", email, "--tenant", slug, "--password-stdin"];
    const wrong = await person.run(args, { input: "nonsense\n" });
    assert.equal(wrong.code, 3);
    assertOk(await person.run(args, { input: `${password}\n` }));
    const file = path.join(person.home, ".config/pulsewire/credentials.json");
    const text = await readFile(file, "utf8");
    assert.ok(!text.includes(password));
    const stored = JSON.parse(text);
    // As if an hour had passed: the next commands find an access token that has expired.
    await person.file(
      ".config/pulsewire/credentials.json",
      JSON.stringify({ ...stored, session: { ...stored.session, expiresAt: Date.now() } }),
    );
    await Promise.all([1, 2, 3].map(async () => assertOk(await person.run(["keys", "--json"]))));
    const renewed = JSON.parse(await readFile(file, "utf8"));
    assert.notEqual(renewed.session.refreshToken, stored.session.refreshToken);
    assert.ok(renewed.session.expiresAt > Date.now());
    assert.equal((await stat(file)).mode & 0o777, 0o600);
    assertOk(await person.run(["logout"]));
    await person.file(".config/pulsewire/credentials.json", JSON.stringify(renewed));
    const ended = await person.run(["keys"]);
    assert.equal(ended.code, 3);
    assert.match(ended.stderr, /Your session has ended/);
  });

  test("on a terminal: asks for what is missing, and for a new password where the old one is temporary", async () => {
    await using person = await createPerson();
    const { temporaryPassword } = await client.auth.registerTenant({
      name: "Asked",
      slug: "asked",
      contactEmail: "me@asked.example",
    });
    const running = person.start(["login", "--endpoint", server.url], { terminal: true, open: true });
    for (const [question, answer] of [
      [/E-mail: /, "me@asked.example"],
      [/Tenant: /, "asked"],
      [/Password: /, temporaryPassword],
      [/New password, at least 12 characters: /, "a quite new password"],
      [/The temporary password, again: /, temporaryPassword],
    ] as const) {
      await running.until(question);
      await sleep(100);
      running.child.stdin?.write(`${answer}\r`);
    }
    const { stdout } = assertOk(await running.ended);
    assert.match(stdout, /Signed in to .* as me@asked\.example of asked/);
    assert.ok(!stdout.includes(temporaryPassword) && !stdout.includes("a quite new password"), stdout);
    assertOk(await person.run(["stores"]));
  });
});

describe("send", () => {
  test("an NDJSON file: every field, twice the same file adds nothing, and what is wrong is told by line", async () => {
    const rows = [
      {
        eventType: "sent",
        event_id: "sent-1",
        userId: "u1",
        severity: "WARN",
        timestamp: "2026-03-01T12:00:00Z",
      },
      {
        eventType: "sent",
        payload: { amount: 12.5 },
        room: "cellar",
        "metrics.ms": 4,
        source: { service: "till" },
      },
    ];
    const file = await owner.file(
      "sent.ndjson",
      `${rows.map((row) => JSON.stringify(row)).join("\n")}\n\n{nonsense\n[1]\n{"a":1}\n`,
    );
    const first = await owner.run(["send", file]);
    assert.equal(first.code, 6);
    assert.match(first.stdout, /^5 rows in \d+\.\d s: 2 accepted, 3 invalid\n$/);
    assert.match(first.stderr, /line 4 is no JSON/);
    assert.match(first.stderr, /line 5 is no JSON object/);
    assert.match(first.stderr, /line 6 has no eventType; name the column so, or give --type/);
    const second = await owner.run(["send", file, "--json"]);
    assert.equal(second.code, 6);
    const { seconds, ...counts } = second.json[0] ?? {};
    assert.ok(Number(seconds) > 0);
    assert.deepEqual(counts, {
      rows: 5,
      accepted: 0,
      duplicate: 2,
      conflict: 0,
      rejected: 0,
      invalid: 3,
      dropped: 0,
    });
    const [one, two] = await eventsOf("sent");
    assert.deepEqual([one?.eventId, one?.userId, one?.severity], ["sent-1", "u1", 3]);
    assert.deepEqual(two?.payload, { room: "cellar", amount: 12.5 });
    assert.deepEqual([two?.metrics, two?.source?.service], [{ ms: 4 }, "till"]);
  });

  test("CSV from standard input: quotes, line ends in fields, numbers, and what the server refuses", async () => {
    const csv = [
      "user_id,message,payload.amount,payload.code,metrics.ms,priority,event_type",
      'u1,"He said ""no"",\r\nand left",12.5,007,3,,csv_sent',
      "u2,,true,x,,11,csv_sent",
      "u3,short",
      'u4,"plain",1,2,3,4,csv_sent',
    ].join("\r\n");
    const ended = await owner.run(["send", "--type", "unused"], { input: csv });
    assert.equal(ended.code, 6, ended.stderr);
    assert.match(ended.stdout, /^4 rows in .*: 2 accepted, 1 rejected, 1 invalid\n$/);
    assert.match(ended.stderr, /line 5 has 2 fields, but there are 7 columns/);
    assert.match(ended.stderr, /line 4 was rejected: priority: /);
    const [one, two] = await eventsOf("csv_sent");
    assert.equal(one?.message, 'He said "no",\r\nand left');
    assert.deepEqual(one?.payload, { amount: 12.5, code: "007" });
    assert.equal(two?.priority, 4);
  });

  test("samples, with other columns as labels", async () => {
    const { store } = await client.metrics.createStore({ name: "sent to" });
    const storeId = store?.id ?? "";
    const file = await owner.file(
      "readings.csv",
      "name,value,room,unit\ntemp,21.5,cellar,celsius\ntemp,x,attic,\n",
    );
    const { code, stdout, stderr } = await owner.run(["send", file, "--as", "samples", "--store", storeId]);
    assert.equal(code, 6);
    assert.match(stdout, /^2 rows in .*: 1 accepted, 1 invalid\n$/);
    assert.match(stderr, /line 3 cannot be sent: value is no number: "x"/);
    const { series } = await client.metrics.listSeries({ storeId });
    assert.deepEqual(
      series.map(({ name, labels, unit }) => [name, labels, unit]),
      [["temp", { room: "cellar" }, "celsius"]],
    );
  });

  test("a large file with a bar on a terminal, and Ctrl-C", async () => {
    const count = 20_000;
    const lines = Array.from({ length: count }, (_, n) => `{"eventType":"large","userId":"u${n}"}\n`);
    const file = await owner.file("large.ndjson", lines.join(""));
    const { stdout } = assertOk(await owner.run(["send", file], { terminal: true }));
    assert.match(stdout, /█+░* +\d+ % [\d,]+ of [\d,]+ rows, [\d,]+\/s/);
    assert.match(stdout, /20,000 rows in \d+\.\d s: 20,000 accepted\r\n$/);
    const running = owner.start(["send", "--type", "endless"], { open: true, input: '{"a":1}\n' });
    while ((await eventsOf("endless")).length === 0) await sleep(50);
    running.child.kill("SIGINT");
    const ended = await running.ended;
    assert.equal(ended.code, 130);
    assert.match(ended.stdout, /^1 row in .*: 1 accepted\n$/);
  });

  test("what cannot work is told at once", async () => {
    const missing = await owner.run(["send", "no-such-file.csv"]);
    assert.equal(missing.code, 2);
    assert.match(missing.stderr, /The file no-such-file\.csv cannot be read: is not there/);
    assert.equal((await owner.run(["send", "--format", "xml"], { input: "x" })).code, 2);
    const wrong = await owner.run(["send"], { input: "{}", env: { PULSEWIRE_API_KEY: "evp_wrong" } });
    assert.equal(wrong.code, 3);
    assert.match(wrong.stderr, /Sign in with: pulsewire login/);
  });
});

describe("watching", () => {
  test("tail: as text and JSON, over a restart of the server, and from a cursor", async () => {
    let other = await serve(server.database, { ...keyEncryption, PULSEWIRE_ROLE: "api" });
    const ingest = (n: number) =>
      client.ingestion.ingestEvent({
        event: {
          eventId: `tailed-${n}`,
          eventType: "tailed",
          userId: "u1",
          title: "bell\u0007",
          payload: { n },
        },
      });
    try {
      await ingest(0);
      const running = owner.start(["tail", "--type", "tailed", "--limit", "6", "--show-cursor"], {
        env: { PULSEWIRE_ENDPOINT: other.url },
      });
      await running.until('{"n":0}');
      for (const n of [1, 2]) await ingest(n);
      await running.until('{"n":2}');
      await other[Symbol.asyncDispose]();
      for (const n of [3, 4]) await ingest(n);
      other = await serve(server.database, {
        ...keyEncryption,
        PULSEWIRE_ROLE: "api",
        PORT: String(other.port),
      });
      await ingest(5);
      const { stdout, stderr } = assertOk(await running.ended);
      const numbers = [...stdout.matchAll(/\{"n":(\d)\}/g)].map(([, n]) => Number(n));
      assert.deepEqual(numbers, [0, 1, 2, 3, 4, 5]);
      assert.match(stdout, /^\d{4}-.*Z {2}info {6}tailed {2}user=u1 {2}bell\\x07 {2}\{"n":0\}\n/);
      assert.match(stderr, /the stream broke .*trying to go on/);
      assert.match(stderr, /connected again, nothing is missing/);
      const cursor = stderr.trim().split("\n").at(-1) ?? "";
      await ingest(6);
      const args = ["tail", "--type", "tailed", "--cursor", cursor, "--limit", "1", "--json"];
      const { json } = assertOk(await owner.run(args));
      assert.deepEqual(
        json.map(({ event }) => (event as { eventId: string }).eventId),
        ["tailed-6"],
      );
      const endless = owner.start(["tail", "--type", "tailed", "-n", "1"]);
      await endless.until('{"n":6}');
      endless.child.kill("SIGINT");
      assert.equal((await endless.ended).code, 130);
    } finally {
      await other[Symbol.asyncDispose]();
    }
  });

  test("logs: what is there, and following to the end of an invocation", async () => {
    await client.functions.createFunction({
      name: "talker",
      image: "local",
      replicas: 0,
      command: ["/bin/sh", "-c", "for i in 1 2 3 4 5; do echo line $i; sleep 0.05; done; echo oops >&2"],
    });
    const { invocation } = await client.functions.invokeFunction({ name: "talker" });
    const followed = await owner.run(["logs", "-f", "--tail", "all", "--invocation", invocation?.id ?? ""]);
    assert.deepEqual(assertOk(followed).stdout.split("\n").sort(), [
      "",
      ...[1, 2, 3, 4, 5].map((n) => `line ${n}`),
      "oops",
    ]);
    const { json } = assertOk(await owner.run(["logs", "talker", "--stream", "stderr", "--json"]));
    assert.deepEqual(
      json.map(({ text, stream }) => [text, stream]),
      [["oops", "LOG_STREAM_STDERR"]],
    );
    const { stdout } = assertOk(await owner.run(["logs", "talker", "-t", "-n", "1"]));
    assert.match(stdout, /^\d{4}-\S+Z talker\S* {2}(oops|line 5)\n$/);
    const unknown = await owner.run(["logs", "nobody", "-f"]);
    assert.equal(unknown.code, 4, unknown.stderr);
    assert.equal((await owner.run(["logs"])).code, 2);
  });

  test("progress: watch to the end, as lines, JSON and bars; list and get", async () => {
    const clientKrn = "krn:first:client:7";
    const report = (rest: object) =>
      client.progress.reportProgress({ clientKrn, filename: "orders.csv", ...rest });
    await report({ counts: { done: 10n }, total: 40n });
    const args = ["progress", "watch", clientKrn, "orders.csv", "--until-complete"];
    const [lines, json, bars] = [
      owner.start(args),
      owner.start([...args, "--json"]),
      owner.start(args, { terminal: true, open: true }),
    ];
    await Promise.all([lines.until("10 of 40"), json.until('"10"'), bars.until("25 %")]);
    await report({ counts: { done: 10n, failed: 2n } });
    await Promise.all([lines.until("22 of 40"), bars.until(/█+░+ +55 % orders\.csv 22 of 40 \(2 failed\)/)]);
    await report({ counts: { done: 18n }, isLast: true });
    const ended = await Promise.all([lines.ended, json.ended, bars.ended]);
    for (const each of ended) assertOk(each);
    assert.match(
      ended[0].stdout,
      /krn:first:client:7 {2}orders\.csv {2}40 of 40 \(2 failed\) {2}100\.0 % {2}complete\n$/,
    );
    assert.deepEqual(
      ended[1].json.map(({ version }) => version),
      ["1", "2", "3"],
    );
    assert.match(ended[2].stdout, /█{30} 100 % orders\.csv/);
    const listed = assertOk(await owner.run(["progress", "list", clientKrn]));
    assert.match(
      listed.stdout,
      /^CLIENT +FILE +LINES +% +STATE +UPDATED\nkrn:first:client:7 +orders\.csv +40 of 40/,
    );
    const [file] = assertOk(await owner.run(["progress", "get", clientKrn, "orders.csv", "--json"])).json;
    assert.equal(file?.isCompleted, true);
    assert.match(
      assertOk(await owner.run(["progress", "get", clientKrn, "orders.csv"])).stdout,
      /^State: +complete$/m,
    );
    assert.equal((await owner.run(["progress", "get", clientKrn, "none.csv"])).code, 4);
    assert.equal((await owner.run(["progress", "watch", "--until-complete"])).code, 2);
  });
});

describe("what there is", () => {
  test("stores: create, list, get, status, delete", async () => {
    const options = ["--interval", "30s", "--label", "city=Ulm", "--description", "below", "--json"];
    const [made] = assertOk(await owner.run(["stores", "create", "Vault", ...options])).json;
    assert.deepEqual([made?.expectedInterval, made?.labels], ["30s", { city: "Ulm" }]);
    const id = String(made?.id);
    const { stdout } = assertOk(await owner.run(["stores", "--name", "Vau"]));
    assert.match(stdout, new RegExp(`^ID +NAME +EVERY +LABELS\\n${id} +Vault +30s +city=Ulm\\n$`));
    assert.match(assertOk(await owner.run(["stores", "get", id])).stdout, /^Description: +below$/m);
    assert.match(assertOk(await owner.run(["stores", "status", id])).stdout, /^State: +offline$/m);
    const taken = await owner.run(["stores", "create", "Vault", "--json"]);
    assert.equal(taken.code, 1);
    assert.equal(JSON.parse(taken.stderr).error.reason, "ALREADY_EXISTS");
    assertOk(await owner.run(["stores", "delete", id]));
    assert.equal((await owner.run(["stores", "get", id])).code, 4);
    const invalid = await owner.run(["stores", "get", "nonsense"]);
    assert.equal(invalid.code, 2);
    assert.match(invalid.stderr, /store_id/);
    const none = await owner.run(["stores", "--name", "no such"]);
    assert.deepEqual([none.code, none.stdout, none.stderr], [0, "", "There are no stores.\n"]);
  });

  test("alerts: list, watch, get, ack", async () => {
    const { store } = await client.metrics.createStore({ name: "alerting" });
    const storeId = store?.id ?? "";
    await client.metrics.createAlertRule({
      spec: {
        name: "too hot",
        storeId,
        metricName: "heat",
        message: "hot",
        condition: { case: "threshold", value: { comparison: 1, value: 30 } },
      },
    });
    const watching = owner.start(["alerts", "watch", "--store", storeId, "--json"]);
    await client.metrics.writeSamples({ storeId, samples: [{ name: "heat", value: 35 }] });
    await watching.until("ALERT_STATE_FIRING");
    const first = assertOk(await owner.run(["alerts", "watch", "--store", storeId, "--limit", "1"]));
    assert.match(first.stdout, /firing {2}\w+ {2}too hot {2}35 /);
    const { stdout } = assertOk(await owner.run(["alerts", "--store", storeId]));
    const [, id = ""] = /^ID +STATE[^\n]*\n(\S+) +firing/.exec(stdout) ?? [];
    assert.match(assertOk(await owner.run(["alerts", "get", id])).stdout, /^Value: +35$/m);
    const acknowledged = assertOk(
      await owner.run(["alerts", "ack", id, "--note", "on my way", "--until", "2h", "--json"]),
    );
    assert.equal(acknowledged.json[0]?.state, "ALERT_STATE_ACKNOWLEDGED");
    await watching.until("ALERT_STATE_ACKNOWLEDGED");
    watching.child.kill("SIGTERM");
    const { code, json } = await watching.ended;
    assert.equal(code, 130);
    assert.deepEqual(
      json.slice(-2).map(({ state }) => state),
      ["ALERT_STATE_FIRING", "ALERT_STATE_ACKNOWLEDGED"],
    );
    assert.equal(assertOk(await owner.run(["alerts", "--state", "acknowledged", "--json"])).json.length, 1);
    assert.equal((await owner.run(["alerts", "--state", "broken"])).code, 2);
  });

  test("keys: create, list, rotate, revoke, and what a key may not do", async () => {
    const created = assertOk(
      await owner.run(["keys", "create", "till-7", "--scope", "events:write", "--expires", "90d"]),
    );
    const key = created.stdout.trim();
    assert.match(key, /^evp_\S+$/);
    assert.match(created.stderr, /may: events_write\. Its secret is shown here only/);
    const { stdout } = assertOk(await owner.run(["keys"]));
    const [, id = ""] = /^(\S+) +evp_\S+ +till-7 +active/m.exec(stdout) ?? [];
    const refused = await owner.run(["tail"], { env: { PULSEWIRE_API_KEY: key } });
    assert.equal(refused.code, 3);
    assert.match(refused.stderr, /Use a key or a person that may do this/);
    const [rotated] = assertOk(await owner.run(["keys", "rotate", id, "--overlap", "1h", "--json"])).json;
    assert.match(String(rotated?.secret), /^evp_/);
    assert.equal((rotated?.apiKey as { rotatedFrom?: string } | undefined)?.rotatedFrom, id);
    assertOk(await owner.run(["keys", "revoke", id]));
    const all = assertOk(await owner.run(["keys", "list", "--all", "--json"])).json;
    assert.equal(all.find((each) => each.id === id)?.state, "API_KEY_STATE_REVOKED");
    const broken = await owner.run(["keys", "create", "x", "--expires", "soon"]);
    assert.equal(broken.code, 2);
    assert.match(broken.stderr, /--expires is "soon"; write a time such as/);
  });
});
