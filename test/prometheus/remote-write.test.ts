import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import { createClient } from "@connectrpc/connect";
import { MetricsService } from "../../server/src/gen/pulsewire/metrics/v1/metrics_service_pb.js";
import { grpcSession, startTestServer } from "../helpers/server.ts";

/** A target whose values grow with every scrape. */
async function startTarget() {
  let scrapes = 0;
  const server = createServer((_, res) => {
    scrapes++;
    res.setHeader("content-type", "text/plain; version=0.0.4");
    res.end(`# TYPE scrapes_total counter
scrapes_total{kind="all"} ${scrapes}
# TYPE temperature gauge
temperature{room="a b",city="Köln"} ${20 + scrapes / 8}
# TYPE latency_seconds histogram
latency_seconds_bucket{le="0.1"} ${scrapes}
latency_seconds_bucket{le="+Inf"} ${2 * scrapes}
latency_seconds_sum ${scrapes * 0.75}
latency_seconds_count ${2 * scrapes}
`);
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return {
    port: (server.address() as AddressInfo).port,
    close() {
      server.close();
      server.closeAllConnections();
    },
  };
}

test("what a real Prometheus has scraped is read back equal", async () => {
  await using server = await startTestServer();
  const target = await startTarget();
  const folder = await mkdtemp(join(tmpdir(), "pulsewire-prometheus-"));
  await writeFile(
    join(folder, "prometheus.yml"),
    `global: {scrape_interval: 500ms}
scrape_configs:
  - job_name: plant
    static_configs: [{targets: ["127.0.0.1:${target.port}"]}]
remote_write:
  - url: ${server.url}/api/v1/write
    basic_auth: {username: prometheus, password: "${server.tenant.apiKey}"}
    queue_config: {batch_send_deadline: 200ms, retry_on_http_429: true}
`,
  );
  const free = createServer().listen(0, "127.0.0.1");
  await once(free, "listening");
  const { port } = free.address() as AddressInfo;
  await new Promise((resolve) => free.close(resolve));
  const prometheus = spawn(
    "prometheus",
    [
      `--config.file=${join(folder, "prometheus.yml")}`,
      `--storage.tsdb.path=${join(folder, "data")}`,
      `--web.listen-address=127.0.0.1:${port}`,
    ],
    { stdio: ["ignore", "ignore", "pipe"] },
  );
  let log = "";
  prometheus.stderr.on("data", (chunk) => {
    log += chunk;
  });
  const ended = once(prometheus, "exit");
  try {
    using session = grpcSession(server.url, { "x-api-key": server.tenant.apiKey });
    const metrics = createClient(MetricsService, session.transport);
    const written = async (untilMs: number) => {
      const { stores } = await metrics.listStores({ nameContains: "plant" });
      const storeId = stores.find(({ name }) => name === "plant")?.id;
      if (!storeId) return [];
      const { series } = await metrics.querySamples({
        storeId,
        start: timestampFromMs(untilMs - 60_000),
        end: timestampFromMs(untilMs),
      });
      return series;
    };
    const scrapesIn = (series: Awaited<ReturnType<typeof written>>) =>
      series.find(({ name }) => name === "scrapes_total")?.values.length ?? 0;
    while (scrapesIn(await written(Date.now())) < 8) {
      assert.equal(prometheus.exitCode, null, log);
      await sleep(200);
    }
    // What Prometheus itself holds until then has been sent once later samples are there.
    const untilMs = Date.now();
    while (scrapesIn(await written(Date.now())) <= scrapesIn(await written(untilMs))) await sleep(200);

    const url = new URL(`http://127.0.0.1:${port}/api/v1/query`);
    url.searchParams.set("query", '{job="plant"}[60s]');
    url.searchParams.set("time", String((untilMs - 1) / 1_000));
    const { data } = (await (await fetch(url)).json()) as {
      data: { result: { metric: Record<string, string>; values: [number, string][] }[] };
    };
    const theirs = data.result.map(({ metric: { __name__: name, ...labels }, values }) => [
      JSON.stringify([name, Object.entries(labels).sort()]),
      values.map(([time, value]) => [Math.round(time * 1_000), Number(value)]),
    ]);
    const ours = (await written(untilMs)).map(({ name, labels, timestampsMs, values }) => [
      JSON.stringify([name, Object.entries(labels).sort()]),
      timestampsMs.map((time, at) => [time, values[at]]),
    ]);
    assert.deepEqual(new Map(ours as never), new Map(theirs as never));
    assert.ok(theirs.length >= 6 + 4, String(theirs.length));
    assert.doesNotMatch(log, /non-recoverable error|dropped/);
  } finally {
    prometheus.kill("SIGTERM");
    await ended;
    target.close();
    await rm(folder, { recursive: true, force: true });
  }
});
