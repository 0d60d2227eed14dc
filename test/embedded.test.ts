import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { chmod, cp, mkdir, mkdtemp, readlink, rm, stat, writeFile } from "node:fs/promises";
import os from "node:os";
import path from "node:path";
import { createInterface } from "node:readline";
import type { Readable } from "node:stream";
import { describe, type TestContext, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { Client } from "pg";
import { chooseAccount } from "../server/src/db/embedded/account.ts";
import { findBinaries, restoreLinks } from "../server/src/db/embedded/binaries.ts";
import { pgdataIn, prepareCluster } from "../server/src/db/embedded/cluster.ts";
import { startPostmaster } from "../server/src/db/embedded/postmaster.ts";
import {
  type EmbeddedDatabase,
  EmbeddedDatabaseError,
  type EmbeddedOptions,
  readServerFile,
  startEmbedded,
  writeServerFile,
} from "../server/src/db/embedded.ts";
import { testLogger as logger } from "./helpers/cluster.ts";

const isRoot = process.getuid?.() === 0;

/** Undoes in reverse order, as `t.after` does not: a database must end before its folder is removed. */
function undoOf(t: TestContext): AsyncDisposableStack {
  let undo = undoStacks.get(t);
  if (!undo) {
    undo = new AsyncDisposableStack();
    undoStacks.set(t, undo);
    t.after(() => undo?.disposeAsync());
  }
  return undo;
}
const undoStacks = new WeakMap<TestContext, AsyncDisposableStack>();

/** mkdtemp makes a 0700 folder, so each of these tests, when run by root, is one below a folder that only root may enter. */
async function makeFolder(t: TestContext): Promise<string> {
  const folder = await mkdtemp(path.join(os.tmpdir(), "pulsewire-embedded-"));
  undoOf(t).defer(() => rm(folder, { recursive: true, force: true }));
  return folder;
}

async function start(
  t: TestContext,
  dataDir: string,
  options: Partial<EmbeddedOptions> = {},
): Promise<EmbeddedDatabase> {
  const embedded = await startEmbedded({ dataDir, logger, ...options });
  undoOf(t).defer(embedded.stop);
  return embedded;
}

async function query(embedded: EmbeddedDatabase, text: string): Promise<Record<string, unknown>[]> {
  const client = new Client(embedded.connection("owner"));
  await client.connect();
  return client.query(text).then(
    ({ rows }) => client.end().then(() => rows),
    (error) => client.end().then(() => Promise.reject(error)),
  );
}

const failsWith = (code: EmbeddedDatabaseError["code"], message: RegExp) => (error: unknown) => {
  assert.ok(error instanceof EmbeddedDatabaseError, String(error));
  assert.equal(error.code, code);
  assert.match(error.message, message);
  return true;
};

interface Outcome {
  pid?: number;
  code?: string;
  message?: string;
}

function spawnServer(t: TestContext, dataDir: string): { child: ChildProcess; outcome: Promise<Outcome> } {
  const script = path.join(import.meta.dirname, "helpers/embedded-process.ts");
  const child = spawn(process.execPath, [script, dataDir], { stdio: ["ignore", "pipe", "inherit"] });
  undoOf(t).defer(async () => {
    if (child.exitCode !== null || child.signalCode !== null) return;
    child.kill("SIGTERM");
    await once(child, "exit");
  });
  const lines = createInterface({ input: child.stdout as Readable });
  return { child, outcome: once(lines, "line").then(([line]) => JSON.parse(line)) };
}

/** Gone, or a zombie that nobody has buried yet. */
async function hasEnded(pid: number): Promise<boolean> {
  try {
    process.kill(pid, 0);
    await readlink(`/proc/${pid}/cwd`);
    return false;
  } catch (error) {
    return ["ESRCH", "ENOENT"].includes((error as NodeJS.ErrnoException).code ?? "");
  }
}

async function waitUntil(condition: () => Promise<boolean>, timeoutMs = 10_000): Promise<void> {
  const deadline = Date.now() + timeoutMs;
  while (!(await condition())) {
    assert.ok(Date.now() < deadline, "did not happen in time");
    await sleep(20);
  }
}

describe("embedded PostgreSQL", () => {
  test("a fresh folder becomes a database, and a second start finds its data", async (t) => {
    const dataDir = path.join(await makeFolder(t), "data");
    const first = await start(t, dataDir);
    await query(first, "create schema kept; create table kept.rows as select 42 as answer");
    assert.deepEqual(
      await query(
        first,
        `select current_user as role, rolsuper, rolcreaterole, current_setting('fsync') as fsync,
           current_setting('synchronous_commit') as commit, current_setting('data_checksums') as checksums,
           current_setting('listen_addresses') as tcp, lower('É') as lower
         from pg_roles where rolname = current_user`,
      ),
      [
        {
          role: "pulsewire_owner",
          rolsuper: false,
          rolcreaterole: false,
          fsync: "on",
          commit: "on",
          checksums: "on",
          tcp: "",
          lower: "é",
        },
      ],
    );
    const started = performance.now();
    await first.stop();
    await first.stop();
    t.diagnostic(`stop: ${Math.round(performance.now() - started)} ms`);
    assert.partialDeepStrictEqual(await first.exited, { expected: true, code: 0 });
    assert.equal(readServerFile(dataDir), undefined);

    const again = performance.now();
    const second = await start(t, dataDir);
    t.diagnostic(`prepared start: ${Math.round(performance.now() - again)} ms`);
    assert.deepEqual(await query(second, "select answer from kept.rows"), [{ answer: 42 }]);
  });

  test("only this user can reach the data and the socket", async (t) => {
    const dataDir = path.join(await makeFolder(t), "data");
    await start(t, dataDir);
    for (const folder of [dataDir, pgdataIn(dataDir), path.join(dataDir, "run")]) {
      assert.equal((await stat(folder)).mode & 0o777, 0o700, folder);
    }
  });

  test("a socket path that is too long moves to the temporary folder", async (t) => {
    const dataDir = path.join(await makeFolder(t), "x".repeat(100));
    const embedded = await start(t, dataDir);
    const { host } = embedded.connection("app");
    assert.ok(host && !host.startsWith(dataDir));
    assert.equal((await stat(host)).mode & 0o777, 0o700);
    assert.equal((await query(embedded, "select 1")).length, 1);
    await embedded.stop();
    assert.equal(existsSync(host), false);
  });

  test("a folder in use is refused, and the message names its server", async (t) => {
    const dataDir = await makeFolder(t);
    await start(t, dataDir);
    await assert.rejects(
      startEmbedded({ dataDir, logger }),
      failsWith("in_use", new RegExp(`pid ${process.pid}\\.`)),
    );
    writeServerFile(dataDir, { pid: process.pid, endpoint: "http://127.0.0.1:8080" });
    const { outcome } = spawnServer(t, dataDir);
    const { code, message } = await outcome;
    assert.equal(code, "in_use");
    assert.match(message ?? "", new RegExp(`pid ${process.pid} at http://127.0.0.1:8080`));
    assert.equal(readServerFile(dataDir)?.pid, process.pid, "the refused one leaves the file alone");
  });

  test("of two servers that start at once on a fresh folder, one wins", async (t) => {
    const dataDir = path.join(await makeFolder(t), "data");
    const servers = [spawnServer(t, dataDir), spawnServer(t, dataDir), spawnServer(t, dataDir)];
    const outcomes = await Promise.all(servers.map(({ outcome }) => outcome));
    assert.equal(outcomes.filter(({ pid }) => pid !== undefined).length, 1);
    assert.equal(outcomes.filter(({ code }) => code === "in_use").length, 2);
  });

  test("the cluster of another PostgreSQL version is refused", async (t) => {
    const dataDir = await makeFolder(t);
    await (await start(t, dataDir)).stop();
    await writeFile(path.join(pgdataIn(dataDir), "PG_VERSION"), "17\n");
    await assert.rejects(
      startEmbedded({ dataDir, logger }),
      failsWith("other_version", /PostgreSQL 17;.* 18\./),
    );
  });

  test("a folder that cannot be written is refused", async (t) => {
    const folder = await makeFolder(t);
    const obstacle = path.join(folder, "file");
    await writeFile(obstacle, "");
    await assert.rejects(
      startEmbedded({ dataDir: obstacle, logger }),
      failsWith("not_writable", /PULSEWIRE_DATA_DIR/),
    );
    await assert.rejects(
      startEmbedded({ dataDir: path.join(obstacle, "data"), logger }),
      failsWith("not_writable", /ENOTDIR/),
    );
    if (isRoot) return; // may write anywhere
    await chmod(folder, 0o500);
    undoOf(t).defer(() => chmod(folder, 0o700));
    for (const dataDir of [folder, path.join(folder, "data")]) {
      await assert.rejects(startEmbedded({ dataDir, logger }), failsWith("not_writable", /EACCES/));
    }
  });

  test("a failed start shows PostgreSQL's last words and frees the folder", async (t) => {
    const dataDir = await makeFolder(t);
    await assert.rejects(
      startEmbedded({ dataDir, logger, settings: { shared_buffers: "nonsense" } }),
      failsWith("start_failed", /invalid value for parameter "shared_buffers"/),
    );
    await start(t, dataDir);
  });

  test("a start can be given up", async (t) => {
    const dataDir = await makeFolder(t);
    const abort = new AbortController();
    setTimeout(() => abort.abort(new Error("enough")), 100);
    await assert.rejects(startEmbedded({ dataDir, logger, signal: abort.signal }), /enough/);
    await start(t, dataDir);
  });

  test("a killed server takes its PostgreSQL with it, and the next start has every commit", async (t) => {
    const dataDir = await makeFolder(t);
    const { child, outcome } = spawnServer(t, dataDir);
    const { pid } = await outcome;
    assert.ok(pid);
    const client = new Client({
      host: path.join(dataDir, "run"),
      user: "pulsewire_owner",
      database: "pulsewire",
    });
    client.on("error", () => {});
    await client.connect();
    await client.query("create schema kept; create table kept.rows as select 42 as answer");

    child.kill("SIGKILL");
    await once(child, "exit");
    const next = await start(t, dataDir); // at once: waits for the old one
    assert.ok(await hasEnded(pid));
    assert.deepEqual(await query(next, "select answer from kept.rows"), [{ answer: 42 }]);
  });

  test("a killed server's PostgreSQL ends without any help", async (t) => {
    const { child, outcome } = spawnServer(t, await makeFolder(t));
    const { pid } = await outcome;
    child.kill("SIGKILL");
    await waitUntil(() => hasEnded(pid as number));
  });

  test("a killed PostgreSQL is noticed, and recovers at the next start", async (t) => {
    const dataDir = await makeFolder(t);
    const first = await start(t, dataDir);
    await query(first, "create schema kept; create table kept.rows as select 42 as answer");
    process.kill(first.pid, "SIGKILL");
    assert.partialDeepStrictEqual(await first.exited, { expected: false, signal: "SIGKILL" });
    await first.stop();
    const second = await start(t, dataDir);
    assert.deepEqual(await query(second, "select answer from kept.rows"), [{ answer: 42 }]);
  });

  test("leftovers of a crash do not disturb", async (t) => {
    const dataDir = await makeFolder(t);
    const draft = path.join(dataDir, "pgdata.new-1");
    await mkdir(draft);
    await writeFile(path.join(draft, "PG_VERSION"), "");
    await (await start(t, dataDir)).stop();
    assert.equal(existsSync(draft), false);

    // After a reboot, or in the next container, the recorded pid may be any program's.
    const lock = `${process.ppid}\n${pgdataIn(dataDir)}\n`;
    await writeFile(path.join(pgdataIn(dataDir), "postmaster.pid"), lock);
    await writeFile(path.join(dataDir, "run/.s.PGSQL.5432.lock"), lock);
    writeServerFile(dataDir, { pid: 1, endpoint: "http://127.0.0.1:8080" });
    await start(t, dataDir);
  });

  test("root may have the programs below a folder of its own", {
    skip: !isRoot && "only root",
  }, async (t) => {
    const folder = await makeFolder(t);
    const { postgres } = await findBinaries();
    await cp(path.resolve(postgres, "../.."), path.join(folder, "native"), {
      recursive: true,
      verbatimSymlinks: true,
    });
    const bin = path.join(folder, "native/bin");
    const binaries = { initdb: path.join(bin, "initdb"), postgres: path.join(bin, "postgres") };
    const account = chooseAccount(pgdataIn(folder));
    await prepareCluster({ dataDir: folder, binaries, account, durable: false });
    const { uid } = await stat(pgdataIn(folder));
    assert.notEqual(uid, 0);
    const postmaster = await startPostmaster({
      postgres: binaries.postgres,
      pgdata: pgdataIn(folder),
      socketFolder: folder,
      account,
      logger,
      settings: {},
    });
    await postmaster.stop();
  });

  test("missing links between libraries are made again", async (t) => {
    const native = path.join(await makeFolder(t), "native");
    await mkdir(path.join(native, "lib"), { recursive: true });
    await writeFile(
      path.join(native, "pg-symlinks.json"),
      JSON.stringify([{ source: "native/lib/libx.so.6.18", target: "native/lib/libx.so.6" }]),
    );
    await restoreLinks(native);
    await restoreLinks(native);
    assert.equal(await readlink(path.join(native, "lib/libx.so.6")), "libx.so.6.18");
  });
});
