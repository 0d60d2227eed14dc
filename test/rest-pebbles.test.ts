/** Pebbles' documented calls, every curl of its usage examples in their order. */
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import type { JsonValue } from "@bufbuild/protobuf";
import { assertShape, objectOf, restClient } from "./helpers/rest.ts";
import { startTestServer, type TestServer, type TestTenant } from "./helpers/server.ts";

describe("Pebbles over REST", () => {
  let server: TestServer;
  let acme: TestTenant;
  let widgets: TestTenant;
  let call: ReturnType<typeof restClient>;
  const path = "/clients/krn:acme:client:123/progress";
  const as = ({ token }: TestTenant) => ({ authorization: `Bearer ${token}` });
  const report = (body: JsonValue, tenant = acme, at = path) => call("POST", at, body, as(tenant));

  before(async () => {
    server = await startTestServer({ PULSEWIRE_PUBLIC_TENANT: "acme" });
    acme = await server.register("acme");
    widgets = await server.register("widgets");
    await server.context.findPublicTenant();
    call = restClient(server.url);
  });
  after(() => server.stop());

  const filename = "sales_data_2024.csv";
  const errors = [
    { line: 150, message: "Invalid date format: 2024-13-01" },
    { line: 205, message: "Missing required field: customer_id" },
    { line: 312, message: "Duplicate order ID: ORD-12345" },
  ];
  const warnings = [
    { line: 88, message: "Product code deprecated: PROD-OLD-123" },
    { line: 195, message: "Price exceeds normal range: $10,000" },
  ];

  test("1. the first update, with the total", async () => {
    const answer = await report({ filename, counts: { done: 100, warn: 0, failed: 0 }, total: 10000 });
    assert.deepEqual(
      [answer.status, answer.body],
      [
        200,
        {
          result: "created",
          clientKrn: "krn:acme:client:123",
          filename,
          counts: { done: 100, warn: 0, failed: 0 },
          total: 10000,
          isCompleted: false,
        },
      ],
    );
  });

  test("2. an increment", async () => {
    const answer = await report({ filename, counts: { done: 500, warn: 10, failed: 2 } });
    assert.deepEqual(answer.body, {
      result: "updated",
      clientKrn: "krn:acme:client:123",
      filename,
      counts: { done: 600, warn: 10, failed: 2 },
      total: 10000,
      isCompleted: false,
      errors: [],
      warnings: [],
    });
  });

  test("2b. errors and warnings", async () => {
    const answer = await report({ filename, counts: { done: 300, warn: 5, failed: 3 }, errors, warnings });
    assert.deepEqual(answer.body, {
      result: "updated",
      clientKrn: "krn:acme:client:123",
      filename,
      counts: { done: 900, warn: 15, failed: 5 },
      total: 10000,
      isCompleted: false,
      errors,
      warnings,
    });
  });

  test("3. the last update completes", async () => {
    const answer = await report({ filename, counts: { done: 9088, warn: 0, failed: 0 }, isLast: true });
    assert.deepEqual(answer.body, {
      result: "updated",
      clientKrn: "krn:acme:client:123",
      filename,
      counts: { done: 9988, warn: 15, failed: 5 },
      total: 10000,
      isCompleted: true,
    });
  });

  const documented = {
    id: "507f1f77bcf86cd799439011",
    clientKrn: "krn:acme:client:123",
    filename,
    email: "user@acme.com",
    counts: { done: 9988, warn: 15, failed: 5 },
    total: 10000,
    isCompleted: true,
    createdAt: "2024-01-01T10:00:00Z",
    updatedAt: "2024-01-01T10:15:00Z",
  };

  test("4. one file, with its line issues, read without credentials", async () => {
    const answer = await call("GET", `${path}?filename=${filename}`);
    assert.equal(answer.status, 200);
    assertShape(answer.body, { ...documented, errors: [errors[0] ?? null], warnings: [warnings[0] ?? null] });
    const { counts, errors: found, warnings: warned, email } = objectOf(answer);
    assert.deepEqual([counts, found, warned, email], [documented.counts, errors, warnings, acme.email]);
    const missing = await call("GET", `${path}?filename=none.csv`);
    assert.equal(missing.status, 404);
    assertShape(missing.body, { error: "…" });
  });

  test("5. and 6. all files of a user, and of a client", async () => {
    await report({ filename: "inventory_update.csv", counts: { done: 450, warn: 0, failed: 0 }, total: 500 });
    for (const query of [`?email=${acme.email}`, ""]) {
      const answer = await call("GET", path + query);
      assert.equal(answer.status, 200);
      assertShape(answer.body, [documented]);
      const names = (answer.body as { filename: string }[]).map((each) => each.filename);
      assert.deepEqual(names.sort(), ["inventory_update.csv", filename]);
    }
    const nobody = await call("GET", `${path}?email=nobody@acme.com`);
    assert.deepEqual(nobody.body, []);
  });

  test("the same file name of two clients: each for itself", async () => {
    const other = "/clients/krn:widgets:client:456/progress";
    const counts = { done: 200, warn: 5, failed: 1 };
    await report({ filename: "common_data.csv", counts: { done: 100, warn: 0, failed: 0 } });
    const answer = await report({ filename: "common_data.csv", counts }, widgets, other);
    assert.deepEqual([objectOf(answer).result, objectOf(answer).counts], ["created", counts]);
    const foreign = await report({ filename: "common_data.csv", counts }, widgets);
    assert.ok([403, 404].includes(foreign.status), JSON.stringify(foreign.body));
    assertShape(foreign.body, { error: "…" });
  });

  test("another user's file is refused in the documented words", async () => {
    await report({ filename: "protected_file.csv", counts: { done: 100, warn: 0, failed: 0 } });
    const answer = await call(
      "POST",
      path,
      { filename: "protected_file.csv", counts: { done: 50, warn: 0, failed: 0 } },
      { "x-api-key": acme.apiKey },
    );
    assert.deepEqual(
      [answer.status, answer.body],
      [403, { error: "Only the original creator can update this file's progress" }],
    );
  });

  test("a completed file is final, in the documented words", async () => {
    await report({ filename: "completed_file.csv", counts: { done: 1, warn: 0, failed: 0 }, isLast: true });
    const answer = await report({ filename: "completed_file.csv", counts: { done: 10, warn: 0, failed: 0 } });
    assert.deepEqual(
      [answer.status, answer.body],
      [409, { error: "This file processing has already been completed" }],
    );
  });

  test("no credentials, wrong ones, and what cannot be", async () => {
    const body = { filename: "test.csv", counts: { done: 10, warn: 0, failed: 0 } };
    const anonymous = await call("POST", path, body);
    assert.deepEqual(
      [anonymous.status, anonymous.body],
      [401, { status: 401, body: "Missing Authorization header" }],
    );
    const wrong = await call("POST", path, body, { authorization: "Bearer eyJ.wrong.token" });
    assert.equal(wrong.status, 401);
    assertShape(wrong.body, { status: 401, body: "…" });
    const negative = await report({ filename: "negative.csv", counts: { done: -1 } });
    assert.equal(negative.status, 400);
    assert.match(String(objectOf(negative).error), /counts\.done/);
  });
});
