/** What is past its time goes, and nothing else: changes, update ids of completed files, messages that were put aside. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { Code, createClient } from "@connectrpc/connect";
import { ReportResult } from "../server/src/gen/pulsewire/progress/v1/progress_pb.js";
import { ProgressService } from "../server/src/gen/pulsewire/progress/v1/progress_service_pb.js";
import { assertFails } from "./helpers/errors.ts";
import { withKey } from "./helpers/platform.ts";
import { grpcSession, serve, startTestServer } from "./helpers/server.ts";

test("the sweep deletes what is past its time, and nothing else", async () => {
  await using server = await startTestServer({ PULSEWIRE_ROLE: "api" });
  using session = grpcSession(server.url);
  const progress = createClient(ProgressService, session.transport);
  const other = await server.register("second");
  const tenants = { first: server.tenant, second: other };
  const report = (slug: keyof typeof tenants, filename: string, updateId: string, isLast = false) =>
    progress.reportProgress(
      { clientKrn: `krn:${slug}:client:a`, filename, updateId, isLast, counts: { done: 1n } },
      withKey(tenants[slug].apiKey),
    );
  for (const slug of ["first", "second"] as const) {
    for (const filename of ["old.csv", "open.csv"]) await report(slug, filename, "1");
    await report(slug, "old.csv", "2", true);
  }
  const { superuser } = server.database;
  const { tenantId } = server.tenant;
  // Of the first tenant all is old.
  await superuser.query(
    "update progress_files set completed_at = now() - interval '33 days' where tenant_id = $1 and completed_at is not null",
    [tenantId],
  );
  await superuser.query(
    "update progress_deltas set updated_at = now() - interval '2 hours' where tenant_id = $1",
    [tenantId],
  );
  await superuser.query(
    `insert into progress_set_aside (connector, position, reason, payload, set_aside_at)
     select 'kafka', 'topic/0/' || days, 'unreadable', '{', now() - days * interval '1 day' from unnest(array[31, 29]) as days`,
  );
  const count = async (table: string, id: string) =>
    (await superuser.query(`select count(*)::int as n from ${table} where tenant_id = $1`, [id])).rows[0].n;
  const [theirDeltas, theirUpdates] = [
    await count("progress_deltas", other.tenantId),
    await count("progress_updates", other.tenantId),
  ];
  assert.ok(theirDeltas >= 3 && theirUpdates === 3);

  await using _worker = await serve(server.database, { PULSEWIRE_ROLE: "worker" });
  for (const end = Date.now() + 10_000; ; await sleep(50)) {
    const { rows } = await superuser.query("select position from progress_set_aside");
    // The last step of a sweep.
    if (rows.length === 1) {
      assert.equal(rows[0].position, "topic/0/29");
      break;
    }
    assert.ok(Date.now() < end, "not swept");
  }
  assert.equal(await count("progress_deltas", tenantId), 0);
  const { rows: left } = await superuser.query(
    "select filename from progress_updates join progress_files on progress_files.id = file_id where progress_updates.tenant_id = $1",
    [tenantId],
  );
  assert.deepEqual(left, [{ filename: "open.csv" }]);
  assert.equal(await count("progress_deltas", other.tenantId), theirDeltas);
  assert.equal(await count("progress_updates", other.tenantId), theirUpdates);
  // Of the old file nobody knows the ids any more, and it is final; the open one knows its own.
  await assertFails(report("first", "old.csv", "1"), Code.FailedPrecondition, "ALREADY_COMPLETED");
  assert.equal((await report("first", "open.csv", "1")).result, ReportResult.DUPLICATE);
  assert.equal((await report("second", "old.csv", "1")).result, ReportResult.DUPLICATE);
});
