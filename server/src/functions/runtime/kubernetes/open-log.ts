import { once } from "node:events";
import { type IncomingMessage, request as requestHttp } from "node:http";
import { type RequestOptions, request as requestHttps } from "node:https";
import type { KubeConfig } from "@kubernetes/client-node";

/** Which part of a pod's log. */
export interface LogQuery {
  readonly container: string;
  readonly follow: boolean;
  /** Of the container before the present one. */
  readonly previous: boolean;
  /** RFC 3339, to the second. */
  readonly sinceTime: string | undefined;
}

/**
 * Begins to read a pod's log, with times; undefined where there is none (any more). Ends with the signal. The client's own
 * `Log` hands on no errors of the connection, and throws those of its end where nobody can catch them.
 */
export async function openLog(
  kube: KubeConfig,
  namespace: string,
  pod: string,
  { container, follow, previous, sinceTime }: LogQuery,
  signal: AbortSignal,
): Promise<IncomingMessage | undefined> {
  const server = kube.getCurrentCluster()?.server ?? "";
  const url = new URL(`${server}/api/v1/namespaces/${namespace}/pods/${pod}/log`);
  const query = { container, follow, previous, timestamps: true, ...(sinceTime && { sinceTime }) };
  for (const [name, value] of Object.entries(query)) url.searchParams.set(name, String(value));
  const options: RequestOptions = {};
  await kube.applyToHTTPSOptions(options);
  const request = (url.protocol === "https:" ? requestHttps : requestHttp)(url, {
    ...options,
    signal,
    agent: false,
  });
  request.end();
  const [response] = (await once(request, "response")) as [IncomingMessage];
  if (response.statusCode === 200) return response;
  response.on("error", () => {}).destroy();
  // The pod is gone, or its container's output is.
  if (response.statusCode === 404 || response.statusCode === 400) return undefined;
  throw new Error(`the log of ${namespace}/${pod} was answered with status ${response.statusCode}`);
}
