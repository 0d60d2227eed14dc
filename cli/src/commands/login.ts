import { createClient } from "@pulsewire/sdk";
import type { Call, Command } from "../command.ts";
import { exitCodes, Failure } from "../failure.ts";
import { write } from "../io.ts";
import { printValue } from "../output.ts";
import { ask, askSecret, readLines } from "../prompt.ts";
import { credentialsFile, readStored, removeStored, type Stored, writeStored } from "../stored.ts";
import { storedTokens, toSession } from "../stored-tokens.ts";
import { checkEndpoint, defaultEndpoint } from "../target.ts";

export const login: Command = {
  name: "login",
  summary: "checks credentials and keeps them for the other commands",
  details: `With an API key, or with e-mail, password and tenant. What is not given is asked for on a terminal. Credentials
are kept in pulsewire/credentials.json in your config folder, readable by you only; of a password nothing is kept but the
session that it opened, which the other commands refresh.`,
  options: {
    email: { type: "string", value: "EMAIL", help: "sign in as this person" },
    tenant: { type: "string", value: "SLUG", help: "the person's tenant" },
    "password-stdin": {
      type: "boolean",
      help: "read the password from standard input; a second line is the new one where it must be changed",
    },
    "api-key-stdin": { type: "boolean", help: "read the API key from standard input" },
  },
  examples: [
    "pulsewire login --endpoint https://pulsewire.example.com --email me@example.com --tenant acme",
    "pulsewire login --api-key-stdin < key.txt",
  ],
  async run(call) {
    const { args, io } = call;
    const named = args.text("endpoint") ?? io.env.PULSEWIRE_ENDPOINT;
    const endpoint = checkEndpoint(named || defaultEndpoint);
    const lines = args.flag("password-stdin") || args.flag("api-key-stdin") ? await readLines(io) : [];
    const apiKey = args.flag("api-key-stdin") ? (lines[0] ?? "") : args.text("api-key");
    const file = credentialsFile(io);
    const { stored, who, tenant } =
      apiKey === undefined ? await signIn(call, endpoint, lines) : await checkKey(endpoint, apiKey);
    await writeStored(file, stored);
    if (call.json) await printValue(io, { endpoint, principal: who, tenant, file });
    else await write(io.stdout, `Signed in to ${endpoint} as ${who} of ${tenant}. Kept in ${file}\n`);
    return undefined;
  },
};

interface SignedIn {
  readonly stored: Stored;
  readonly who: string;
  readonly tenant: string;
}

async function checkKey(endpoint: string, apiKey: string): Promise<SignedIn> {
  const client = createClient({ endpoint, apiKey });
  try {
    const { principal, tenant } = await client.auth.getMe({});
    const who = principal.case === "apiKey" ? `key "${principal.value.name}"` : "somebody";
    return { stored: { endpoint, apiKey }, who, tenant: tenant?.slug ?? "" };
  } finally {
    client.close();
  }
}

async function signIn(call: Call, endpoint: string, lines: string[]): Promise<SignedIn> {
  const { args, io } = call;
  const asks = io.stdin.isTTY === true;
  const need = async (name: string, question: string) => {
    const given = args.text(name);
    if (given) return given;
    if (asks) return (await ask(io, question)).trim();
    throw new Failure(
      "Give --api-key, or --email and --tenant with --password-stdin; there is no terminal to ask on.",
      exitCodes.usage,
    );
  };
  const email = await need("email", "E-mail: ");
  const tenantSlug = await need("tenant", "Tenant: ");
  const secret = async (index: number, question: string) => {
    if (args.flag("password-stdin")) return lines[index] ?? "";
    if (asks) return askSecret(io, question);
    throw new Failure(
      "Give the password with --password-stdin; there is no terminal to ask on.",
      exitCodes.usage,
    );
  };
  const client = createClient({ endpoint });
  try {
    const answer = await client.auth.login({ email, tenantSlug, password: await secret(0, "Password: ") });
    let session = toSession(answer);
    if (answer.mustChangePassword) {
      const newPassword = await secret(
        1,
        "The password is temporary. New password, at least 12 characters: ",
      );
      if (!newPassword)
        throw new Failure(
          "The password is temporary: give the new one in a second line.",
          exitCodes.credentials,
        );
      const currentPassword = lines[0] ?? (await secret(0, "The temporary password, again: "));
      const headers = { authorization: `Bearer ${answer.accessToken}` };
      session = toSession(await client.auth.changePassword({ currentPassword, newPassword }, { headers }));
    }
    return { stored: { endpoint, session }, who: email, tenant: tenantSlug };
  } finally {
    client.close();
  }
}

export const logout: Command = {
  name: "logout",
  summary: "ends the session and forgets the credentials",
  async run({ io, json }) {
    const file = credentialsFile(io);
    const stored = await readStored(file);
    if (stored?.session) {
      const { endpoint } = stored;
      const client = createClient({ endpoint, token: storedTokens(file, () => createClient({ endpoint })) });
      try {
        await client.auth.logout({});
      } catch (error) {
        // It is forgotten all the same; where it has ended already, nothing is left to end.
        await write(io.stderr, `pulsewire: the session could not be ended: ${(error as Error).message}\n`);
      } finally {
        client.close();
      }
    }
    await removeStored(file);
    if (json) await printValue(io, { signedOut: stored !== undefined });
    else await write(io.stdout, stored ? `Signed out of ${stored.endpoint}.\n` : "You were not signed in.\n");
    return undefined;
  },
};
