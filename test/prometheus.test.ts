import assert from "node:assert/strict";
import { test } from "node:test";
import { createClient } from "@connectrpc/connect";
import { FunctionsService } from "../server/src/gen/pulsewire/functions/v1/functions_service_pb.js";
import { withKey } from "./helpers/platform.ts";
import { grpcSession, startTestServer } from "./helpers/server.ts";

const token = "the token of the scraper";

test("EventFlow's series, for whoever has the token", async (t) => {
  const server = await startTestServer({ PULSEWIRE_METRICS_TOKEN: token.replaceAll(" ", "-") });
  t.after(() => server.stop());
  const key = withKey(server.tenant.apiKey);
  using session = grpcSession(server.url, key.headers);
  const fns = createClient(FunctionsService, session.transport);
  for (const name of ["one", "two"]) await fns.createFunction({ name, image: "a" });
  await fns.deleteFunction({ name: "two" });
  for (const path of ["/v1/functions", "/v1/functions/one", "/v1/functions/none"]) {
    await (await fetch(server.url + path, { headers: key.headers })).arrayBuffer();
  }
  const scrape = (authorization?: string) =>
    fetch(`${server.url}/metrics`, { headers: authorization ? { authorization } : {} });
  assert.equal((await scrape()).status, 401);
  assert.equal((await scrape("Bearer something else")).status, 401);
  const answer = await scrape(`Bearer ${token.replaceAll(" ", "-")}`);
  assert.equal(answer.status, 200);
  assert.match(answer.headers.get("content-type") ?? "", /^text\/plain; version=0\.0\.4/);
  const text = await answer.text();
  const namespace = `tenant-${server.tenant.tenantId}`;
  for (const line of [
    `eventflow_functions_total{namespace="${namespace}",status="Pending"} 1`,
    'eventflow_api_requests_total{method="GET",endpoint="/v1/functions",status="200"} 1',
    'eventflow_api_requests_total{method="GET",endpoint="/v1/functions/{name}",status="200"} 1',
    'eventflow_api_requests_total{method="GET",endpoint="/v1/functions/{name}",status="404"} 1',
    'eventflow_api_requests_total{method="POST",endpoint="/pulsewire.functions.v1.FunctionsService/CreateFunction",status="200"} 2',
    'eventflow_api_request_duration_seconds_count{method="GET",endpoint="/v1/functions"} 1',
  ]) {
    assert.ok(text.split("\n").includes(line), `${line}\n${text}`);
  }
  assert.match(
    text,
    /eventflow_api_request_duration_seconds_bucket\{le="0\.5",method="GET",endpoint="\/v1\/functions"\} 1/,
  );
});

test("without a token nobody gets metrics of a server that others reach", async (t) => {
  const server = await startTestServer();
  t.after(() => server.stop());
  const answer = await fetch(`${server.url}/metrics`);
  assert.equal(answer.status, 403);
  assert.match(await answer.text(), /PULSEWIRE_METRICS_TOKEN/);
});
