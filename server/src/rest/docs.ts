/** `/openapi.json`, and `/docs`: an interactive page that works without a network beyond this server. */
import { createReadStream } from "node:fs";
import { stat } from "node:fs/promises";
import { createRequire } from "node:module";
import path from "node:path";
import type { JsonObject } from "@bufbuild/protobuf";
import type { HttpRequest, HttpResponse } from "../listener/http.ts";
import { writeAnswer } from "./write-answer.ts";

const require = createRequire(import.meta.url);

const assets: Readonly<Record<string, string>> = {
  "swagger-ui.css": "text/css; charset=utf-8",
  "swagger-ui-bundle.js": "text/javascript; charset=utf-8",
  "favicon-32x32.png": "image/png",
};

const page = `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Pulsewire API</title>
<link rel="icon" href="/docs/favicon-32x32.png">
<link rel="stylesheet" href="/docs/swagger-ui.css">
</head>
<body>
<div id="api"></div>
<script src="/docs/swagger-ui-bundle.js"></script>
<script src="/docs/start.js"></script>
</body>
</html>
`;

/** In a file of its own, so that no inline script need be allowed. */
const start = `window.ui = SwaggerUIBundle({
  url: "/openapi.json",
  dom_id: "#api",
  deepLinking: true,
  docExpansion: "none",
  filter: true,
  persistAuthorization: true,
  tryItOutEnabled: true,
  displayRequestDuration: true,
});
`;

const pageHeaders = {
  // The page's own styles are set on elements by its script; its images are data.
  "content-security-policy":
    "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; frame-ancestors 'none'; base-uri 'none'",
  "x-content-type-options": "nosniff",
  "referrer-policy": "no-referrer",
};

/** Makes the function that answers these paths; false for any other. `document` is made at the first request. */
export function createDocs(document: () => JsonObject): (req: HttpRequest, res: HttpResponse) => boolean {
  let made: JsonObject | undefined;
  return (req, res) => {
    const target = (req.url ?? "").split("?", 1)[0] ?? "";
    if (target !== "/openapi.json" && target !== "/docs" && !target.startsWith("/docs/")) return false;
    if (req.method !== "GET" && req.method !== "HEAD") {
      res.writeHead(405, { allow: "GET, HEAD", "content-length": 0 });
      res.end();
    } else if (target === "/openapi.json") {
      made ??= document();
      void writeAnswer(req, res, { status: 200, body: made });
    } else {
      return answerPage(req, res, target);
    }
    return true;
  };
}

function answerPage(req: HttpRequest, res: HttpResponse, target: string): boolean {
  if (target === "/docs" || target === "/docs/") send(req, res, "text/html; charset=utf-8", page);
  else if (target === "/docs/start.js") send(req, res, "text/javascript; charset=utf-8", start);
  else {
    const name = target.slice("/docs/".length);
    const type = assets[name];
    if (!type) return false;
    void sendFile(
      req,
      res,
      type,
      path.join(path.dirname(require.resolve("swagger-ui-dist/package.json")), name),
    );
  }
  return true;
}

function send(req: HttpRequest, res: HttpResponse, type: string, text: string): void {
  res.writeHead(200, { ...pageHeaders, "content-type": type, "content-length": Buffer.byteLength(text) });
  if (req.method === "GET") res.write(text);
  res.end();
}

async function sendFile(req: HttpRequest, res: HttpResponse, type: string, file: string): Promise<void> {
  const { size } = await stat(file);
  res.writeHead(200, {
    ...pageHeaders,
    "content-type": type,
    "content-length": size,
    "cache-control": "public, max-age=86400",
  });
  if (req.method === "HEAD") res.end();
  else createReadStream(file).pipe(res as NodeJS.WritableStream);
}
