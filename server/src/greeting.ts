import type { DemoCredentials } from "./demo.ts";

/** What a person reads when the embedded default has started: where it is, who to be, and three calls to paste. */
export function greeting(endpoint: string, dataDir: string, demo: DemoCredentials | undefined): string {
  const where = `Pulsewire serves gRPC, gRPC-Web, Connect and JSON on ${endpoint}\nIts database lies in ${dataDir}\n`;
  if (!demo) return `${where}The demo tenant is there; its credentials were shown when it was made.\n`;
  const { tenantSlug, email, password, apiKey } = demo;
  const event = '{"event":{"eventType":"greeting","userId":"me","payload":{"hello":"world"}}}';
  const call = "pulsewire.ingestion.v1.IngestionService/IngestEvent";
  const http2 = endpoint.startsWith("http:") ? " --http2-prior-knowledge" : "";
  return `${where}
Demo tenant ${tenantSlug}: log in as ${email} with ${password}
API key ${apiKey}
(also in ${dataDir}/demo.json)

Send an event with curl:
  curl ${endpoint}/${call} \\
    -H 'content-type: application/json' -H 'x-api-key: ${apiKey}' \\
    -d '${event}'

With buf curl (reflection is on, so no proto files are needed):
  npx -p @bufbuild/buf buf curl --protocol grpc${http2} -H 'x-api-key: ${apiKey}' \\
    -d '${event}' \\
    ${endpoint}/${call}

With the SDK:
  import { createGateway } from "@pulsewire/sdk";
  await using gateway = createGateway({ endpoint: "${endpoint}", apiKey: "${apiKey}" });
  gateway.event({ eventType: "greeting", userId: "me", payload: { hello: "world" } });

This machine's own readings and logs, sent and read back:  npm run demo
`;
}
