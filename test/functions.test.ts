/** FunctionsService through the wire: what is wanted, with nothing that runs it. */
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { Code } from "@connectrpc/connect";
import { FunctionStatus } from "../server/src/gen/pulsewire/functions/v1/function_pb.js";
import { InvocationPhase } from "../server/src/gen/pulsewire/functions/v1/invocation_pb.js";
import { assertFails } from "./helpers/errors.ts";
import { type Fns, type FunctionsSetting, openFunctions } from "./helpers/functions.ts";

describe("what is wanted", () => {
  let setting: FunctionsSetting;
  let fns: Fns;
  before(async () => {
    setting = await openFunctions(undefined, {
      PULSEWIRE_FUNCTIONS_REPLICAS: "10",
      PULSEWIRE_FUNCTIONS_QUEUE: "3",
      PULSEWIRE_TENANT_LIMITS: "functions=20",
    });
    fns = setting.fns;
  });
  after(() => setting[Symbol.asyncDispose]());

  test("without a runtime a function is accepted, and says what is missing", async () => {
    const { function: made } = await fns.createFunction({ name: "waiting", image: "nginx:alpine" });
    assert.equal(made?.status, FunctionStatus.PENDING);
    assert.match(made?.statusReason ?? "", /PULSEWIRE_FUNCTIONS_RUNTIME/);
    assert.equal(made?.replicas, 1);
    assert.equal(made?.namespace, `tenant-${setting.server.tenant.tenantId}`);
    assert.equal(made?.runtime, "");
    const { invocation } = await fns.invokeFunction({ name: "waiting" });
    assert.equal(invocation?.phase, InvocationPhase.PENDING);
    assert.match(invocation?.reason ?? "", /PULSEWIRE_FUNCTIONS_RUNTIME/);
    assert.match(invocation?.jobName ?? "", /^waiting-invoke-\d{10}$/);
  });

  test("an invocation that waits for its function into the next second takes no other's name", async () => {
    await using setting = await openFunctions();
    const { server, fns } = setting;
    await fns.createFunction({ name: "locked", image: "busybox", replicas: 0 });
    const holder = await server.database.superuser.connect();
    try {
      await sleep(950 - (Date.now() % 1_000) + (Date.now() % 1_000 > 900 ? 1_000 : 0));
      await holder.query("begin");
      await holder.query("select from functions where name = 'locked' for update");
      const waiting = fns.invokeFunction({ name: "locked" });
      await sleep(1_010 - (Date.now() % 1_000));
      await holder.query("commit");
      const names = [await waiting, await fns.invokeFunction({ name: "locked" })].map(
        ({ invocation }) => invocation?.jobName,
      );
      assert.equal(new Set(names).size, 2, names.join());
    } finally {
      holder.release();
    }
  });

  test("a name is taken until its function is deleted", async () => {
    const request = { name: "once", image: "a" };
    const { function: first } = await fns.createFunction(request);
    const { message } = await assertFails(fns.createFunction(request), Code.AlreadyExists, "ALREADY_EXISTS");
    assert.equal(message, `function 'once' already exists in namespace '${first?.namespace}'`);
    const { function: gone } = await fns.deleteFunction({ name: "once" });
    assert.equal(gone?.status, FunctionStatus.DELETED);
    assert.ok(gone?.deletedAt);
    await assertFails(fns.getFunction({ name: "once" }), Code.NotFound, "NOT_FOUND");
    const { function: second } = await fns.createFunction(request);
    assert.notEqual(second?.id, first?.id);
    const { functions: deleted } = await fns.listFunctions({
      statuses: [FunctionStatus.DELETED],
      namePrefix: "once",
    });
    assert.deepEqual(
      deleted.map(({ id }) => id),
      [first?.id],
    );
  });

  test("an update changes what its mask names, and makes a generation and an etag", async () => {
    const { function: made } = await fns.createFunction({
      name: "changing",
      image: "a",
      command: ["one"],
      env: { A: "1" },
      secretEnv: { B: "2", C: "3" },
    });
    const { function: next } = await fns.updateFunction({
      name: "changing",
      updateMask: { paths: ["replicas", "secret_env", "command"] },
      replicas: 0,
      image: "not-named",
      secretEnv: { B: "", D: "4" },
      etag: made?.etag ?? "",
    });
    assert.equal(next?.replicas, 0);
    assert.equal(next?.image, "a");
    assert.deepEqual(next?.command, []);
    assert.deepEqual(next?.env, { A: "1" });
    assert.deepEqual(next?.secretEnvNames, ["C", "D"]);
    assert.equal(next?.generation, 2n);
    assert.notEqual(next?.etag, made?.etag);
    const stale = { name: "changing", image: "b", etag: made?.etag ?? "" };
    await assertFails(fns.updateFunction(stale), Code.Aborted, "ETAG_MISMATCH");
    await assertFails(fns.updateFunction({ name: "changing" }), Code.InvalidArgument, "INVALID_FIELD");
    const clash = { name: "changing", env: { C: "now open" } };
    await assertFails(fns.updateFunction(clash), Code.InvalidArgument, "INVALID_FIELD");
  });

  test("secrets are sealed at rest and shown nowhere", async () => {
    const secret = "the-secret-of-this-test";
    const registryCredentials = { username: "someone", password: `${secret}-too` };
    const made = await fns.createFunction({
      name: "hiding",
      image: "a",
      secretEnv: { KEY: secret },
      registryCredentials,
    });
    const listed = await fns.listFunctions({});
    const text = JSON.stringify([made, listed], (_, value) =>
      typeof value === "bigint" ? String(value) : value,
    );
    assert.ok(text.includes("KEY") && !text.includes(secret));
    assert.equal(made.function?.hasRegistryCredentials, true);
    const { superuser } = setting.server.database;
    for (const table of ["functions", "function_templates", "audit_entries", "webhook_events"]) {
      const { rows } = await superuser.query(
        `select count(*)::int as n from ${table} t where t::text like $1`,
        [`%${secret}%`],
      );
      assert.equal(rows[0].n, 0, table);
    }
  });

  test("what a tenant may use is limited", async () => {
    const tooMany = { name: "greedy", image: "a", replicas: 11 };
    const { metadata } = await assertFails(
      fns.createFunction(tooMany),
      Code.ResourceExhausted,
      "TENANT_LIMIT",
    );
    assert.equal(metadata.limit, "function_replicas");
    const limits = { memoryBytes: 2n ** 35n };
    const big = { name: "big", image: "a", limits, replicas: 2 };
    const memory = await assertFails(fns.createFunction(big), Code.ResourceExhausted, "TENANT_LIMIT");
    assert.equal(memory.metadata.limit, "function_memory");
    await fns.createFunction({ name: "queued", image: "a", replicas: 0 });
    await fns.invokeFunction({ name: "queued" });
    await fns.invokeFunction({ name: "queued" });
    const queue = await assertFails(
      fns.invokeFunction({ name: "queued" }),
      Code.ResourceExhausted,
      "TENANT_LIMIT",
    );
    assert.equal(queue.metadata.limit, "function_queue");
  });

  test("lists come in pages by name, by token or by skipping", async () => {
    const names: string[] = [];
    let pageToken = "";
    do {
      const page = await fns.listFunctions({ pageSize: 2, pageToken });
      names.push(...page.functions.map(({ name }) => name));
      pageToken = page.nextPageToken;
    } while (pageToken);
    assert.deepEqual(names, names.toSorted());
    assert.equal(new Set(names).size, names.length);
    const { functions } = await fns.listFunctions({ skip: 2, pageSize: 2 });
    assert.deepEqual(
      functions.map(({ name }) => name),
      names.slice(2, 4),
    );
  });

  test("callbacks to where only this machine gets are refused", async () => {
    for (const url of [
      "http://example.org/",
      "https://127.0.0.1/",
      "https://169.254.169.254/",
      "https://localhost/",
    ]) {
      const call = fns.invokeFunction({ name: "queued", callback: { url } });
      const { fields } = await assertFails(call, Code.InvalidArgument, "INVALID_FIELD");
      assert.deepEqual(fields, ["callback.url"]);
    }
  });
});
