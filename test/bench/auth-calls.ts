import { once } from "node:events";
import { readFile } from "node:fs/promises";
import type { ClientHttp2Session } from "node:http2";
import { connect, type Socket } from "node:net";
import { grpcHeaders, openSessions, unary } from "./grpc-calls.ts";
import { readAnswer } from "./json-calls.ts";
import type { Caller, Workload } from "./workload.ts";

/** Calls of a method that does nothing and that anyone may call: what differs is the credentials that they carry. */
export interface CheckOptions {
  readonly protocol: "grpc" | "json";
  readonly url: string;
  readonly callers: number;
  /** HTTP/2 connections that the callers share; over HTTP/1.1 each has its own. */
  readonly connections: number;
  /** Undefined: calls without credentials. */
  readonly credentials: CredentialList | undefined;
  /** Whether the server is to answer the calls, or to refuse the credentials. */
  readonly expected: "answer" | "refusal";
}

/** The calls take credentials in turns, each the next one. */
export interface CredentialList {
  readonly header: "x-api-key" | "authorization";
  /** One a line. */
  readonly file: string;
  /** The first line that counts. */
  readonly from: number;
  /** How many lines count from there on, around the end of the file. */
  readonly count: number;
  /** Each is sent once, and then the round is over; otherwise again and again. */
  readonly once: boolean;
}

const method = "/grpc.health.v1.Health/Check";
const unauthenticated = { grpc: 16, http: 401 };

export async function checkWorkload(options: CheckOptions): Promise<Workload> {
  const supply = await openSupply(options.credentials);
  return options.protocol === "grpc" ? grpcChecks(options, supply) : jsonChecks(options, supply);
}

interface Supply {
  next(): string;
  isDone(): boolean;
}

async function openSupply(list: CredentialList | undefined): Promise<Supply | undefined> {
  if (!list) return undefined;
  const lines = (await readFile(list.file, "latin1")).trimEnd().split("\n");
  let taken = 0;
  return {
    next: () => lines[(list.from + (taken++ % list.count)) % lines.length] as string,
    isDone: () => list.once && taken >= list.count,
  };
}

async function grpcChecks(
  { url, callers, connections, credentials, expected }: CheckOptions,
  supply: Supply | undefined,
): Promise<Workload> {
  const sessions = await openSessions(url, connections);
  const empty = Buffer.alloc(5);
  const bare = grpcHeaders(method);
  const headers =
    credentials && supply ? () => ({ ...bare, [credentials.header]: supply.next() }) : () => bare;
  const wanted = expected === "answer" ? 0 : unauthenticated.grpc;
  const caller = (_: unknown, index: number): Caller => {
    const session = sessions[index % connections] as ClientHttp2Session;
    return async () => {
      const { status, reason } = await unary(session, headers(), empty);
      if (status !== wanted) throw new Error(`grpc-status ${status}: ${reason}`);
      return 1;
    };
  };
  return {
    callers: Array.from({ length: callers }, caller),
    ...(supply && { isDone: supply.isDone }),
    async [Symbol.asyncDispose]() {
      for (const session of sessions) session.close();
    },
  };
}

async function jsonChecks(
  { url, callers, credentials, expected }: CheckOptions,
  supply: Supply | undefined,
): Promise<Workload> {
  const { hostname, port, host } = new URL(url);
  const sockets: Socket[] = [];
  for (let index = 0; index < callers; index++) {
    const socket = connect({ host: hostname, port: Number(port), noDelay: true });
    await once(socket, "connect");
    sockets.push(socket);
  }
  const head = `POST ${method} HTTP/1.1\r\nhost: ${host}\r\ncontent-type: application/json\r\ncontent-length: 2\r\n`;
  const carried = credentials && supply ? () => `${credentials.header}: ${supply.next()}\r\n` : () => "";
  const wanted = `HTTP/1.1 ${expected === "answer" ? 200 : unauthenticated.http} `;
  const caller =
    (socket: Socket): Caller =>
    async () => {
      socket.write(`${head}${carried()}\r\n{}`, "latin1");
      const answer = await readAnswer(socket);
      if (!answer.startsWith(wanted)) throw new Error(answer);
      return 1;
    };
  return {
    callers: sockets.map(caller),
    ...(supply && { isDone: supply.isDone }),
    async [Symbol.asyncDispose]() {
      for (const socket of sockets) socket.destroy();
    },
  };
}
