import type { HttpRequest, HttpResponse } from "../listener/http.ts";

/** Answers a path that nothing serves, as a problem of RFC 9457 that says where to look. */
export function answerNotFound(req: HttpRequest, res: HttpResponse): void {
  const body = JSON.stringify({
    type: "about:blank",
    title: "Not Found",
    status: 404,
    detail:
      "nothing is served here; calls are POSTs to /pulsewire.<name>.v1.<Name>Service/<Method> " +
      "(list them with server reflection), REST is described at /docs and in /openapi.json, health is at /readyz",
    instance: req.url?.split("?")[0] ?? "/",
  });
  res.writeHead(404, {
    "content-type": "application/problem+json",
    "content-length": Buffer.byteLength(body),
  });
  res.end(req.method === "HEAD" ? "" : body);
}
