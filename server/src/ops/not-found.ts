import type { HttpRequest, HttpResponse } from "../listener/http.ts";
import { dialectOf } from "../rest/dialects/index.ts";
import { HttpError } from "../rest/http-error.ts";
import { writeAnswer } from "../rest/write-answer.ts";

const detail =
  "nothing is served here; calls are POSTs to /pulsewire.<name>.v1.<Name>Service/<Method> " +
  "(list them with server reflection), REST is described at /docs and in /openapi.json, health is at /readyz";

/** Answers a path that nothing serves, in the words of its dialect, and says where to look. */
export function answerNotFound(req: HttpRequest, res: HttpResponse): void {
  const path = req.url?.split("?")[0] ?? "/";
  void writeAnswer(req, res, dialectOf(path).failure(new HttpError(404, detail), path));
}
