import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { fromBinary, toBinary } from "@bufbuild/protobuf";
import { type FileDescriptorProto, FileDescriptorProtoSchema } from "@bufbuild/protobuf/wkt";
import { Code, ConnectError, createClient } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import {
  Health,
  HealthCheckResponse_ServingStatus as Status,
} from "../server/src/gen/grpc/health/v1/health_pb.js";
import {
  ServerReflection,
  type ServerReflectionRequest,
  type ServerReflectionResponse,
} from "../server/src/gen/grpc/reflection/v1/reflection_pb.js";
import { ServerReflection as ServerReflectionV1alpha } from "../server/src/gen/grpc/reflection/v1alpha/reflection_pb.js";
import { MetricsService } from "../server/src/gen/pulsewire/metrics/v1/metrics_service_pb.js";
import { createHealth } from "../server/src/ops/health.ts";
import { startListener } from "./helpers/listener.ts";

describe("health", () => {
  test("Check and List know what was set; unknown names are NOT_FOUND", async () => {
    await using server = await startListener();
    const client = createClient(Health, createGrpcTransport({ baseUrl: server.url }));
    server.health.set("a.B", "NOT_SERVING");
    assert.equal((await client.check({})).status, Status.SERVING);
    assert.equal((await client.check({ service: "a.B" })).status, Status.NOT_SERVING);
    const { statuses } = await client.list({});
    const plain = Object.entries(statuses).map(([name, { status }]) => [name, status]);
    assert.deepEqual(Object.fromEntries(plain), { "": Status.SERVING, "a.B": Status.NOT_SERVING });
    const error = await client.check({ service: "none" }).catch(ConnectError.from);
    assert.ok(error instanceof ConnectError && error.code === Code.NotFound);
  });

  test("Watch sends the present status first, then changes only", async () => {
    await using server = await startListener();
    const client = createClient(Health, createGrpcTransport({ baseUrl: server.url }));
    const seen: Status[] = [];
    const leave = new AbortController();
    const watching = (async () => {
      for await (const { status } of client.watch({ service: "a.B" }, { signal: leave.signal }))
        seen.push(status);
    })();
    const next = async (count: number) => {
      while (seen.length < count) await sleep(2);
    };
    await next(1);
    server.health.set("a.B", "SERVING");
    await next(2);
    server.health.set("a.B", "SERVING");
    server.health.set("", "NOT_SERVING");
    server.health.set("a.B", "NOT_SERVING");
    await next(3);
    server.health.set("a.B", "SERVING");
    await next(4);
    server.health.shutdown();
    server.health.set("a.B", "SERVING");
    await next(5);
    leave.abort();
    await assert.rejects(watching);
    const { SERVICE_UNKNOWN, SERVING, NOT_SERVING } = Status;
    assert.deepEqual(seen, [SERVICE_UNKNOWN, SERVING, NOT_SERVING, SERVING, NOT_SERVING]);
  });

  test("a watcher that leaves is forgotten", async () => {
    await using server = await startListener();
    const client = createClient(Health, createGrpcTransport({ baseUrl: server.url }));
    for (let i = 0; i < 5; i++) {
      const leave = new AbortController();
      for await (const _ of client.watch({}, { signal: leave.signal })) {
        leave.abort();
        break;
      }
    }
    while (server.listener.requests() > 0) await sleep(2);
  });

  test("plain HTTP: ready, live and healthy, GET and HEAD only", async () => {
    await using server = await startListener();
    const get = async (path: string, method = "GET") => {
      const response = await fetch(server.url + path, { method });
      const text = await response.text();
      return [response.status, text === "" ? "" : JSON.parse(text).status];
    };
    assert.deepEqual(await get("/readyz"), [200, "ready"]);
    assert.deepEqual(await get("/livez?verbose"), [200, "healthy"]);
    assert.deepEqual(await get("/healthz"), [200, "healthy"]);
    assert.deepEqual(await get("/readyz", "HEAD"), [200, ""]);
    assert.deepEqual(await get("/readyz", "POST"), [405, "use GET"]);
    server.health.shutdown();
    assert.deepEqual(await get("/readyz"), [503, "not ready"]);
    assert.deepEqual(await get("/livez"), [200, "healthy"]);
    const starting = createHealth();
    await using other = await startListener({ routes: starting.routes });
    other.health.set("", "NOT_SERVING");
    assert.deepEqual(await (await fetch(`${other.url}/readyz`)).json(), {
      status: "not ready",
      reason: "starting",
    });
  });
});

type Query = ServerReflectionRequest["messageRequest"];

describe("reflection", () => {
  const versions = {
    v1: ServerReflection,
    // The messages have the same fields in both.
    v1alpha: ServerReflectionV1alpha as unknown as typeof ServerReflection,
  };

  /** Asks all questions on one stream. */
  async function ask(version: typeof ServerReflection, ...queries: Query[]) {
    await using server = await startListener({ reflected: [Health, MetricsService] });
    const client = createClient(version, createGrpcTransport({ baseUrl: server.url }));
    async function* requests() {
      for (const messageRequest of queries) yield { host: "here", messageRequest };
    }
    const answers = await Array.fromAsync(client.serverReflectionInfo(requests()));
    assert.equal(answers.length, queries.length);
    for (const [i, { validHost, originalRequest }] of answers.entries()) {
      assert.deepEqual([validHost, originalRequest?.messageRequest.case], ["here", queries[i]?.case]);
    }
    return answers;
  }

  function filesOf({ messageResponse }: ServerReflectionResponse): FileDescriptorProto[] {
    assert.equal(messageResponse.case, "fileDescriptorResponse");
    return messageResponse.value.fileDescriptorProto.map((bytes) =>
      fromBinary(FileDescriptorProtoSchema, bytes),
    );
  }

  function messageBytes({ messageResponse }: ServerReflectionResponse): string {
    assert.equal(messageResponse.case, "fileDescriptorResponse");
    return Buffer.from(messageResponse.value.fileDescriptorProto[0] ?? []).toString("base64");
  }

  for (const [name, version] of Object.entries(versions)) {
    test(`${name}: lists the services`, async () => {
      const [answer] = await ask(version, { case: "listServices", value: "*" });
      assert.equal(answer?.messageResponse.case, "listServicesResponse");
      assert.deepEqual(
        answer.messageResponse.value.service.map((service) => service.name),
        [
          "grpc.health.v1.Health",
          "grpc.reflection.v1.ServerReflection",
          "grpc.reflection.v1alpha.ServerReflection",
          "pulsewire.metrics.v1.MetricsService",
        ],
      );
    });

    test(`${name}: finds a file by name and by everything it declares`, async () => {
      const file = "grpc/health/v1/health.proto";
      const symbols = [
        "grpc.health.v1.Health",
        "grpc.health.v1.Health.Watch",
        "grpc.health.v1.HealthCheckRequest",
        ".grpc.health.v1.HealthCheckRequest.service",
        "grpc.health.v1.HealthCheckResponse.ServingStatus",
        "grpc.health.v1.HealthCheckResponse.SERVING",
      ];
      const answers = await ask(
        version,
        { case: "fileByFilename", value: file },
        ...symbols.map((value) => ({ case: "fileContainingSymbol" as const, value })),
      );
      for (const answer of answers) assert.equal(filesOf(answer)[0]?.name, file);
    });

    test(`${name}: sends the asked file first, then all its imports, each once a stream`, async () => {
      const symbol = { case: "fileContainingSymbol" as const, value: MetricsService.typeName };
      const [first, again, imported] = await ask(version, symbol, symbol, {
        case: "fileByFilename",
        value: "google/protobuf/timestamp.proto",
      });
      assert.ok(first && again && imported);
      const files = filesOf(first);
      assert.equal(files[0]?.name, MetricsService.file.proto.name);
      const names = new Set(files.map((each) => each.name));
      assert.equal(names.size, files.length);
      for (const { name, dependency } of files) {
        for (const each of dependency) assert.ok(names.has(each), `${each}, imported by ${name}`);
      }
      const bytes = toBinary(FileDescriptorProtoSchema, MetricsService.file.proto);
      assert.equal(messageBytes(first), Buffer.from(bytes).toString("base64"));
      assert.deepEqual(
        filesOf(again).map((each) => each.name),
        [MetricsService.file.proto.name],
      );
      assert.deepEqual(
        filesOf(imported).map((each) => each.name),
        ["google/protobuf/timestamp.proto"],
      );
    });

    test(`${name}: knows extensions`, async () => {
      const containingType = "google.protobuf.MethodOptions";
      const [numbers] = await ask(version, { case: "allExtensionNumbersOfType", value: containingType });
      assert.equal(numbers?.messageResponse.case, "allExtensionNumbersResponse");
      const { extensionNumber } = numbers.messageResponse.value;
      assert.ok(extensionNumber.includes(72295728), "google.api.http");
      for (const number of extensionNumber) {
        const [answer] = await ask(version, {
          case: "fileContainingExtension",
          value: {
            $typeName: "grpc.reflection.v1.ExtensionRequest",
            containingType,
            extensionNumber: number,
          },
        } as Query);
        assert.ok(answer && filesOf(answer)[0]?.extension.some((extension) => extension.number === number));
      }
    });

    test(`${name}: answers what it does not know with an error and goes on`, async () => {
      const answers = await ask(
        version,
        { case: "fileContainingSymbol", value: "no.Such" },
        { case: "fileByFilename", value: "no/such.proto" },
        { case: "allExtensionNumbersOfType", value: "no.Such" },
        { case: "listServices", value: "" },
      );
      const errors = answers.map(({ messageResponse }) =>
        messageResponse.case === "errorResponse" ? messageResponse.value.errorCode : 0,
      );
      assert.deepEqual(errors, [5, 5, 5, 0]);
    });
  }
});
