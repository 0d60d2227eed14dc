import type { CallOptions } from "@connectrpc/connect";

/**
 * All pages of a list, each asked for when the loop comes to it.
 *
 * ```ts
 * for await (const { stores } of pages(client.metrics.listStores, { pageSize: 500 })) show(stores);
 * ```
 *
 * @param list a method that takes `pageToken` and answers with `nextPageToken`
 * @param request the filter; its `pageToken`, where given, is the page to begin with
 * @throws PulsewireError as the method does
 */
export async function* pages<Request extends { pageToken?: string }, Page extends { nextPageToken: string }>(
  list: (request: Request, options?: CallOptions) => Promise<Page>,
  request: Request,
  options?: CallOptions,
): AsyncGenerator<Page, void, undefined> {
  for (let pageToken = request.pageToken ?? ""; ; ) {
    const page = await list({ ...request, pageToken }, options);
    yield page;
    pageToken = page.nextPageToken;
    if (pageToken === "") return;
  }
}
