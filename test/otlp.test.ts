import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { create, toJson } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import { type Client, Code, createClient } from "@connectrpc/connect";
import { Metadata } from "@grpc/grpc-js";
import { SeverityNumber } from "@opentelemetry/api-logs";
import { OTLPLogExporter as GrpcLogs } from "@opentelemetry/exporter-logs-otlp-grpc";
import { OTLPLogExporter as ProtoLogs } from "@opentelemetry/exporter-logs-otlp-proto";
import { OTLPMetricExporter as GrpcMetrics } from "@opentelemetry/exporter-metrics-otlp-grpc";
import { OTLPMetricExporter as HttpMetrics } from "@opentelemetry/exporter-metrics-otlp-http";
import { OTLPMetricExporter as ProtoMetrics } from "@opentelemetry/exporter-metrics-otlp-proto";
import { resourceFromAttributes } from "@opentelemetry/resources";
import { LoggerProvider, type LogRecordExporter, SimpleLogRecordProcessor } from "@opentelemetry/sdk-logs";
import {
  MeterProvider,
  PeriodicExportingMetricReader,
  type PushMetricExporter,
} from "@opentelemetry/sdk-metrics";
import { LogsService as OtlpLogs } from "../server/src/gen/opentelemetry/proto/collector/logs/v1/logs_service_pb.js";
import {
  ExportMetricsServiceRequestSchema,
  MetricsService as OtlpMetrics,
} from "../server/src/gen/opentelemetry/proto/collector/metrics/v1/metrics_service_pb.js";
import { AggregationTemporality } from "../server/src/gen/opentelemetry/proto/metrics/v1/metrics_pb.js";
import { AuthService } from "../server/src/gen/pulsewire/auth/v1/auth_service_pb.js";
import { Severity } from "../server/src/gen/pulsewire/ingestion/v1/event_pb.js";
import { IngestionService } from "../server/src/gen/pulsewire/ingestion/v1/ingestion_service_pb.js";
import { MetricsService } from "../server/src/gen/pulsewire/metrics/v1/metrics_service_pb.js";
import { MetricKind } from "../server/src/gen/pulsewire/metrics/v1/sample_pb.js";
import { Scope } from "../server/src/gen/pulsewire/options/v1/access_pb.js";
import { assertFails } from "./helpers/errors.ts";
import { bearer } from "./helpers/platform.ts";
import { grpcSession, startTestServer, type TestServer } from "./helpers/server.ts";

describe("OpenTelemetry", () => {
  let server: TestServer;
  let session: ReturnType<typeof grpcSession>;
  let metrics: Client<typeof MetricsService>;
  let ingestion: Client<typeof IngestionService>;
  let headers: Record<string, string>;
  let metadata: Metadata;

  before(async () => {
    server = await startTestServer();
    headers = { "x-api-key": server.tenant.apiKey };
    metadata = new Metadata();
    metadata.set("x-api-key", server.tenant.apiKey);
    session = grpcSession(server.url, headers);
    metrics = createClient(MetricsService, session.transport);
    ingestion = createClient(IngestionService, session.transport);
  });
  after(async () => {
    session[Symbol.dispose]();
    await server.stop();
  });

  const metricExporters: Record<string, () => PushMetricExporter> = {
    grpc: () => new GrpcMetrics({ url: server.url, metadata }),
    proto: () => new ProtoMetrics({ url: `${server.url}/v1/metrics`, headers }),
    json: () => new HttpMetrics({ url: `${server.url}/v1/metrics`, headers }),
  };
  const logExporters: Record<string, () => LogRecordExporter> = {
    grpc: () => new GrpcLogs({ url: server.url, metadata }),
    proto: () => new ProtoLogs({ url: `${server.url}/v1/logs`, headers }),
  };

  async function seriesOf(storeName: string) {
    const { stores } = await metrics.listStores({ nameContains: storeName });
    const storeId = stores.find(({ name }) => name === storeName)?.id ?? "";
    assert.notEqual(storeId, "", `there is no store '${storeName}'`);
    const now = Date.now();
    const { series } = await metrics.querySamples({
      storeId,
      start: timestampFromMs(now - 60_000),
      end: timestampFromMs(now + 60_000),
    });
    const listed = await metrics.listSeries({ storeId });
    return series.map(({ name, labels, values }) => {
      const found = listed.series.find((each) => each.name === name);
      return { name, labels, kind: found?.kind, unit: found?.unit, value: values.at(-1) };
    });
  }

  for (const [wire, exporter] of Object.entries(metricExporters)) {
    test(`${wire}: the metrics of the SDK are read back equal`, async () => {
      const service = `shop-${wire}`;
      const provider = new MeterProvider({
        resource: resourceFromAttributes({ "service.name": service, "service.instance.id": "i-1" }),
        readers: [
          new PeriodicExportingMetricReader({ exporter: exporter(), exportIntervalMillis: 3_600_000 }),
        ],
      });
      const meter = provider.getMeter("tills");
      meter.createCounter("orders", { unit: "{order}" }).add(7, { "payment.method": "card", first: true });
      meter.createUpDownCounter("queue").add(-3);
      meter
        .createObservableGauge("room.temperature", { unit: "Cel" })
        .addCallback((result) => result.observe(-4.25));
      const latency = meter.createHistogram("latency", {
        unit: "s",
        advice: { explicitBucketBoundaries: [0.5, 10] },
      });
      for (const value of [0.25, 0.5, 2, 64]) latency.record(value);
      await provider.forceFlush();
      await provider.shutdown();

      const common = { instance: "i-1", otel_scope_name: "tills" };
      const gauge = MetricKind.GAUGE;
      const counter = MetricKind.COUNTER;
      const bucket = (le: string, value: number) => ({
        name: "latency_bucket",
        labels: { ...common, le },
        kind: counter,
        unit: "",
        value,
      });
      const sorted = <T extends { name: string; labels: Record<string, string> }>(all: readonly T[]) =>
        all.toSorted((a, b) => (`${a.name} ${a.labels.le}` < `${b.name} ${b.labels.le}` ? -1 : 1));
      assert.deepEqual(
        sorted(await seriesOf(service)),
        sorted([
          bucket("0.5", 2),
          bucket("10", 3),
          bucket("+Inf", 4),
          { name: "latency_count", labels: common, kind: counter, unit: "", value: 4 },
          { name: "latency_sum", labels: common, kind: counter, unit: "s", value: 66.75 },
          { name: "latency_min", labels: common, kind: gauge, unit: "s", value: 0.25 },
          { name: "latency_max", labels: common, kind: gauge, unit: "s", value: 64 },
          {
            name: "orders",
            labels: { ...common, payment_method: "card", first: "true" },
            kind: counter,
            unit: "{order}",
            value: 7,
          },
          { name: "queue", labels: common, kind: gauge, unit: "", value: -3 },
          { name: "room.temperature", labels: common, kind: gauge, unit: "Cel", value: -4.25 },
        ]),
      );
    });
  }

  for (const [wire, exporter] of Object.entries(logExporters)) {
    test(`${wire}: the log records of the SDK are read back as events`, async () => {
      const provider = new LoggerProvider({
        resource: resourceFromAttributes({ "service.name": `till-${wire}`, "service.version": "1.2" }),
        processors: [new SimpleLogRecordProcessor({ exporter: exporter() })],
      });
      const logger = provider.getLogger("printer", "3");
      const at = Date.now() - 5_000;
      logger.emit({
        eventName: "paper.empty",
        body: "no paper",
        severityNumber: SeverityNumber.WARN2,
        severityText: "warning",
        timestamp: at,
        attributes: { "user.id": "anna", "session.id": "s-1", tray: 2, deep: { list: [1, "two"] } },
      });
      logger.emit({ body: { code: 17, parts: ["a"] }, severityNumber: SeverityNumber.FATAL, timestamp: at });
      await provider.forceFlush();
      await provider.shutdown();
      const { events } = await ingestion.listEvents({ filter: { sourceService: `till-${wire}` } });
      const read = events
        .map(({ event }) => event)
        .sort((a, b) => ((a?.severity ?? 0) < (b?.severity ?? 0) ? -1 : 1));
      assert.equal(read.length, 2);
      const [warning, fatal] = read;
      assert.equal(warning?.eventType, "paper.empty");
      assert.equal(warning.message, "no paper");
      assert.equal(warning.severity, Severity.WARNING);
      assert.deepEqual([warning.userId, warning.sessionId], ["anna", "s-1"]);
      assert.equal(warning.source?.version, "1.2");
      assert.deepEqual(warning.timestamp, timestampFromMs(at));
      assert.deepEqual(warning.metadata, {
        "user.id": "anna",
        "session.id": "s-1",
        tray: 2,
        deep: { list: [1, "two"] },
      });
      assert.deepEqual(warning.context, {
        resource: { "service.name": `till-${wire}`, "service.version": "1.2" },
        scope: { name: "printer", version: "3" },
        severity_text: "warning",
      });
      assert.equal(fatal?.eventType, "log");
      assert.equal(fatal.severity, Severity.CRITICAL);
      assert.deepEqual(fatal.payload, { code: 17, parts: ["a"] });
    });
  }

  const dataPoint = (value: number) => ({
    timeUnixNano: BigInt(Date.now()) * 1_000_000n,
    value: { case: "asDouble" as const, value },
  });
  const resource = (service: string) => ({
    attributes: [{ key: "service.name", value: { value: { case: "stringValue" as const, value: service } } }],
  });
  const mixed = () =>
    create(ExportMetricsServiceRequestSchema, {
      resourceMetrics: [
        {
          resource: resource("partly"),
          scopeMetrics: [
            {
              metrics: [
                { name: "kept", data: { case: "gauge", value: { dataPoints: [dataPoint(1)] } } },
                {
                  name: "delta",
                  data: {
                    case: "sum",
                    value: {
                      aggregationTemporality: AggregationTemporality.DELTA,
                      isMonotonic: true,
                      dataPoints: [dataPoint(1), dataPoint(2)],
                    },
                  },
                },
              ],
            },
          ],
        },
      ],
    });

  test("what is refused is told as a partial success, over gRPC and in JSON", async () => {
    const client = createClient(OtlpMetrics, session.transport);
    const { partialSuccess } = await client.export(mixed());
    assert.equal(partialSuccess?.rejectedDataPoints, 2n);
    assert.match(partialSuccess.errorMessage, /delta: the temporality must be cumulative/);
    assert.deepEqual(
      (await seriesOf("partly")).map(({ name, value }) => [name, value]),
      [["kept", 1]],
    );
    const answer = await fetch(`${server.url}/v1/metrics`, {
      method: "POST",
      headers: { ...headers, "content-type": "application/json" },
      body: JSON.stringify(toJson(ExportMetricsServiceRequestSchema, mixed())),
    });
    assert.equal(answer.status, 200);
    assert.equal(answer.headers.get("content-type"), "application/json");
    const told = (await answer.json()) as { partialSuccess: { rejectedDataPoints: string } };
    assert.equal(told.partialSuccess.rejectedDataPoints, "2");
  });

  test("a log export that is sent again is stored once; ids of traces are hexadecimal in JSON", async () => {
    const record = {
      timeUnixNano: `${Date.now()}000000`,
      body: { stringValue: "twice" },
      traceId: "5b8efff798038103d269b633813fc60c",
      spanId: "eee19b7ec3c1b174",
      somethingNew: true,
    };
    const attributes = [{ key: "service.name", value: { stringValue: "retrying" } }];
    const body = JSON.stringify({
      resourceLogs: [{ resource: { attributes }, scopeLogs: [{ logRecords: [record, record] }] }],
    });
    for (const _ of [1, 2]) {
      const answer = await fetch(`${server.url}/v1/logs`, {
        method: "POST",
        headers: { ...headers, "content-type": "application/json" },
        body,
      });
      assert.deepEqual([answer.status, await answer.json()], [200, {}]);
    }
    const { events } = await ingestion.listEvents({ filter: { sourceService: "retrying" } });
    assert.equal(events.length, 2);
    assert.equal(events[0]?.event?.context?.trace_id, "5b8efff798038103d269b633813fc60c");
    assert.equal(events[0]?.event?.context?.span_id, "eee19b7ec3c1b174");
  });

  test("each service needs the scope of what it writes, over every wire", async () => {
    const auth = createClient(AuthService, session.transport);
    const keyWith = async (scope: Scope) => {
      const { secret } = await auth.createApiKey(
        { name: `${scope}`, scopes: [scope] },
        bearer(server.tenant.token),
      );
      return { "x-api-key": secret };
    };
    const samplesOnly = await keyWith(Scope.METRICS_WRITE);
    const eventsOnly = await keyWith(Scope.EVENTS_WRITE);
    const status = async (path: string, credentials: Record<string, string>) => {
      const answer = await fetch(`${server.url}${path}`, {
        method: "POST",
        headers: { ...credentials, "content-type": "application/json" },
        body: "{}",
      });
      return [answer.status, ((await answer.json()) as { code?: number }).code];
    };
    assert.deepEqual(await status("/v1/metrics", samplesOnly), [200, undefined]);
    assert.deepEqual(await status("/v1/metrics", eventsOnly), [403, Code.PermissionDenied]);
    assert.deepEqual(await status("/v1/logs", eventsOnly), [200, undefined]);
    assert.deepEqual(await status("/v1/logs", samplesOnly), [403, Code.PermissionDenied]);
    assert.deepEqual(await status("/v1/logs", {}), [401, Code.Unauthenticated]);
    using bare = grpcSession(server.url);
    const services = {
      metrics: createClient(OtlpMetrics, bare.transport),
      logs: createClient(OtlpLogs, bare.transport),
    };
    await services.metrics.export({}, { headers: samplesOnly });
    await services.logs.export({}, { headers: eventsOnly });
    await assertFails(
      services.metrics.export({}, { headers: eventsOnly }),
      Code.PermissionDenied,
      "MISSING_SCOPE",
    );
    await assertFails(
      services.logs.export({}, { headers: samplesOnly }),
      Code.PermissionDenied,
      "MISSING_SCOPE",
    );
    await assertFails(services.logs.export({}), Code.Unauthenticated, "MISSING_CREDENTIALS");
  });

  test("what one tenant exports another neither sees nor changes, though all of it is called the same", async () => {
    const other = await server.register("other-otlp");
    const theirs = { "x-api-key": other.apiKey };
    const own = createClient(OtlpLogs, session.transport);
    const record = {
      timeUnixNano: BigInt(Date.now()) * 1_000_000n,
      body: { value: { case: "stringValue", value: "m" } },
    } as const;
    const attributes = [
      { key: "service.name", value: { value: { case: "stringValue", value: "shared" } } },
    ] as const;
    const logs = {
      resourceLogs: [{ resource: { attributes: [...attributes] }, scopeLogs: [{ logRecords: [record] }] }],
    };
    await own.export(logs);
    using there = grpcSession(server.url, theirs);
    // The same record has the same id: it is no duplicate of theirs.
    await createClient(OtlpLogs, there.transport).export(logs);
    const seen = async (client: Client<typeof IngestionService>) =>
      (await client.listEvents({ filter: { sourceService: "shared" } })).events.map(
        ({ event }) => event?.eventId,
      );
    const [mine, others] = [
      await seen(ingestion),
      await seen(createClient(IngestionService, there.transport)),
    ];
    assert.equal(mine.length, 1);
    assert.deepEqual(others, mine);

    await createClient(OtlpMetrics, session.transport).export(mixed());
    const before = await seriesOf("partly");
    const { stores } = await metrics.listStores({ nameContains: "partly" });
    const storeId = stores[0]?.id ?? "";
    const { partialSuccess } = await createClient(OtlpMetrics, there.transport).export(mixed(), {
      headers: { "x-pulsewire-store": storeId },
    });
    assert.match(partialSuccess?.errorMessage ?? "", /no store/);
    assert.equal(partialSuccess?.rejectedDataPoints, 3n);
    assert.deepEqual(await seriesOf("partly"), before);
    const theirMetrics = createClient(MetricsService, there.transport);
    assert.deepEqual((await theirMetrics.listStores({})).stores, []);
    assert.deepEqual((await theirMetrics.listSeries({ storeId })).series, []);
  });

  test("what is no export is refused, and GET keeps its meaning", async () => {
    const post = (type: string, body: string) =>
      fetch(`${server.url}/v1/metrics`, {
        method: "POST",
        headers: { ...headers, "content-type": type },
        body,
      });
    assert.equal((await post("text/plain", "x")).status, 415);
    assert.equal((await post("application/json", "{")).status, 400);
    const broken = await post("application/x-protobuf", "xyz");
    assert.equal(broken.status, 400);
    assert.equal(broken.headers.get("content-type"), "application/x-protobuf");
    const span = new URLSearchParams({
      start: new Date(Date.now() - 60_000).toISOString(),
      end: new Date().toISOString(),
    });
    const queried = await fetch(`${server.url}/v1/metrics?${span}`, { headers });
    assert.equal(queried.status, 200);
    assert.ok("series" in ((await queried.json()) as object));
  });
});
