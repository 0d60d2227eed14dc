import { toJson } from "@bufbuild/protobuf";
import { type ApiKey, ApiKeySchema, ApiKeyState, durationFromMs, pages, Scope } from "@pulsewire/sdk";
import type { Call, Command } from "../command.ts";
import { exitCodes } from "../failure.ts";
import { write } from "../io.ts";
import { plain, printList, printValue, timeText, word } from "../output.ts";
import { parseLength, parseMoment, parseWord, wordsOf } from "../values.ts";

const list: Command = {
  name: "list",
  summary: "lists API keys, newest first",
  options: { all: { type: "boolean", help: "also those that are expired or revoked" } },
  async run(call) {
    const request = { pageSize: 1000, includeInactive: call.args.flag("all") };
    const found = pages((await call.open()).auth.listApiKeys, request);
    await printList(call, ApiKeySchema, found, ({ apiKeys }) => apiKeys, {
      head: ["id", "begins with", "name", "state", "last used", "scopes"],
      row: (key) => [
        key.id,
        key.prefix,
        plain(key.name),
        word(ApiKeyState, key.state),
        timeText(key.lastUsedAt),
        scopesOf(key),
      ],
      none: "There are no keys.",
    });
    return undefined;
  },
};

const create: Command = {
  name: "create",
  operands: "NAME",
  maxOperands: 1,
  summary: "makes an API key and prints its secret, this once",
  details: "The secret alone goes to standard output, so that it can be piped.",
  options: {
    scope: {
      type: "string",
      multiple: true,
      value: "SCOPE",
      values: wordsOf(Scope),
      help: "what it may do, such as events:write; unless given, what a gateway needs",
    },
    expires: { type: "string", value: "TIME", help: "until when, such as 90d; unless given, for ever" },
    store: {
      type: "string",
      multiple: true,
      value: "ID",
      help: "the only store that it may write to and read from",
    },
  },
  examples: ["pulsewire keys create till-7 --scope events:write --expires 90d > key.txt"],
  async run(call) {
    const { args } = call;
    const expires = args.text("expires");
    const { apiKey, secret } = await (await call.open()).auth.createApiKey({
      name: args.operand(0, "NAME"),
      scopes: args.list("scope").map((scope) => parseWord("--scope", scope, Scope)),
      storeIds: args.list("store"),
      ...(expires && { expiresAt: parseMoment("--expires", expires, 1) }),
    });
    return showSecret(call, apiKey, secret);
  },
};

const rotate: Command = {
  name: "rotate",
  operands: "ID",
  maxOperands: 1,
  summary: "makes a key that takes over from another, and prints its secret",
  options: {
    overlap: {
      type: "string",
      value: "LENGTH",
      help: "how long the old one can still be used; 24h unless given",
    },
  },
  async run(call) {
    const { args } = call;
    const overlap = args.text("overlap");
    const { apiKey, secret } = await (await call.open()).auth.rotateApiKey({
      apiKeyId: args.operand(0, "ID"),
      ...(overlap && { overlap: durationFromMs(parseLength("--overlap", overlap)) }),
    });
    return showSecret(call, apiKey, secret);
  },
};

const revoke: Command = {
  name: "revoke",
  operands: "ID",
  maxOperands: 1,
  summary: "ends a key for good",
  async run(call) {
    const apiKeyId = call.args.operand(0, "ID");
    await (await call.open()).auth.revokeApiKey({ apiKeyId });
    if (call.json) await printValue(call.io, { revoked: apiKeyId });
    else await write(call.io.stdout, `Revoked ${apiKeyId}.\n`);
    return undefined;
  },
};

export const keys: Command = {
  name: "keys",
  summary: "API keys of the tenant",
  fallback: "list",
  subcommands: [list, create, rotate, revoke],
};

async function showSecret(
  { io, json }: Call,
  apiKey: ApiKey | undefined,
  secret: string,
): Promise<number | undefined> {
  if (!apiKey) return exitCodes.failed;
  if (json) {
    await printValue(io, { apiKey: toJson(ApiKeySchema, apiKey), secret });
    return undefined;
  }
  await write(io.stderr, `Key ${apiKey.id} may: ${scopesOf(apiKey)}. Its secret is shown here only:\n`);
  await write(io.stdout, `${secret}\n`);
  return undefined;
}

function scopesOf({ scopes }: ApiKey): string {
  return scopes.map((scope) => word(Scope, scope)).join(" ");
}
