import { once } from "node:events";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { type CryptoKey, exportJWK, generateKeyPair, type JWK, type JWTPayload, SignJWT } from "jose";
import Provider from "oidc-provider";

/** A signing key of an issuer. */
export interface IssuerKey {
  readonly kid: string;
  readonly jwk: JWK;
  readonly privateKey: CryptoKey;
}

/** Makes a key for RS256. */
export async function newIssuerKey(kid: string): Promise<IssuerKey> {
  const { privateKey } = await generateKeyPair("RS256", { extractable: true });
  return { kid, privateKey, jwk: { ...(await exportJWK(privateKey)), kid, alg: "RS256", use: "sig" } };
}

/** A real OpenID provider on loopback that can be stopped, started again, and given other keys. */
export interface OidcIssuer extends AsyncDisposable {
  readonly issuer: string;
  /** Requests that it has answered, by path. */
  readonly requests: string[];
  /** An access token (RFC 9068) from the token endpoint, with these claims in it. */
  token(claims: JWTPayload, audience?: string): Promise<string>;
  /** A token that the provider would never issue, signed with one of its keys. */
  forge(key: IssuerKey, claims: Record<string, unknown>, header?: Record<string, unknown>): Promise<string>;
  /** Ends; the port stays its own. */
  stop(): Promise<void>;
  start(keys: readonly IssuerKey[]): Promise<void>;
}

const client = { client_id: "tests", client_secret: "a secret for tests" };

/** Starts a provider that signs with the first key and publishes all. */
export async function startOidcIssuer(keys: readonly IssuerKey[]): Promise<OidcIssuer> {
  let server: Server | undefined;
  let port = 0;
  let claims: JWTPayload = {};
  const requests: string[] = [];

  async function start(current: readonly IssuerKey[]): Promise<void> {
    const listening = createServer();
    server = listening;
    listening.listen(port, "127.0.0.1");
    await once(listening, "listening");
    ({ port } = listening.address() as AddressInfo);
    const provider = new Provider(`http://127.0.0.1:${port}`, {
      clients: [{ ...client, grant_types: ["client_credentials"], redirect_uris: [], response_types: [] }],
      jwks: { keys: current.map(({ jwk }) => jwk) },
      formats: {
        customizers: {
          jwt(_context, _token, { payload }) {
            Object.assign(payload, claims);
          },
        },
      },
      features: {
        devInteractions: { enabled: false },
        clientCredentials: { enabled: true },
        resourceIndicators: {
          enabled: true,
          getResourceServerInfo: (_context, audience) => ({
            scope: "",
            audience,
            accessTokenFormat: "jwt",
            accessTokenTTL: 600,
            jwt: { sign: { alg: "RS256" } },
          }),
        },
      },
    });
    const answer = provider.callback();
    listening.on("request", (request, response) => {
      requests.push(request.url ?? "");
      void answer(request, response);
    });
  }

  async function stop(): Promise<void> {
    if (!server?.listening) return;
    const closed = once(server, "close");
    server.close();
    server.closeAllConnections();
    await closed;
  }

  await start(keys);
  const issuer = `http://127.0.0.1:${port}`;
  return {
    issuer,
    requests,
    async token(wanted, audience = "https://pulsewire.example") {
      claims = wanted;
      const response = await fetch(`${issuer}/token`, {
        method: "POST",
        headers: {
          authorization: `Basic ${btoa(`${encodeURIComponent(client.client_id)}:${encodeURIComponent(client.client_secret)}`)}`,
        },
        body: new URLSearchParams({ grant_type: "client_credentials", resource: audience }),
      });
      const body = await response.json();
      if (!body.access_token) throw new Error(JSON.stringify(body));
      return body.access_token;
    },
    forge: ({ kid, privateKey }, payload, header = {}) =>
      new SignJWT({ iss: issuer, aud: "https://pulsewire.example", ...payload })
        .setProtectedHeader({ alg: "RS256", kid, ...header })
        .setExpirationTime(typeof payload.exp === "number" ? payload.exp : "10m")
        .sign(privateKey),
    stop,
    start,
    [Symbol.asyncDispose]: stop,
  };
}
