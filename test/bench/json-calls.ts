import { once } from "node:events";
import { connect, type Socket } from "node:net";
import { IngestionService } from "../../sdk/src/gen/pulsewire/ingestion/v1/ingestion_service_pb.js";
import { singleJson } from "./events.ts";
import type { Caller, Workload } from "./workload.ts";

const ingestPath = `/${IngestionService.typeName}/${IngestionService.method.ingestEvent.name}`;

/** Single events as JSON over HTTP/1.1, a connection for each caller that is kept open. */
export async function jsonWorkload(
  url: string,
  apiKey: string,
  callers: number,
  path: string = ingestPath,
): Promise<Workload> {
  const { hostname, port, host } = new URL(url);
  const sockets: Socket[] = [];
  const list: Caller[] = [];
  for (let index = 0; index < callers; index++) {
    const socket = connect({ host: hostname, port: Number(port), noDelay: true });
    await once(socket, "connect");
    sockets.push(socket);
    const body = singleJson(index);
    const head =
      `POST ${path} HTTP/1.1\r\nhost: ${host}\r\n` +
      `content-type: application/json\r\nx-api-key: ${apiKey}\r\ncontent-length: `;
    list.push(async () => {
      const bytes = body.stamp();
      socket.cork();
      socket.write(`${head}${bytes.byteLength}\r\n\r\n`, "latin1");
      socket.write(bytes);
      socket.uncork();
      const answer = await readAnswer(socket);
      if (!answer.startsWith("HTTP/1.1 200") || answer.includes('"duplicate":true')) throw new Error(answer);
      return 1;
    });
  }
  return {
    callers: list,
    async [Symbol.asyncDispose]() {
      for (const socket of sockets) socket.destroy();
    },
  };
}

/** Reads one whole answer to a call over HTTP/1.1. It is the only one under way on its connection. */
export function readAnswer(socket: Socket): Promise<string> {
  return new Promise((resolve, reject) => {
    let text = "";
    const onData = (chunk: Buffer) => {
      text += chunk.toString("latin1");
      if (!isComplete(text)) return;
      socket.off("data", onData).off("close", onClose).off("error", onClose);
      resolve(text);
    };
    const onClose = (error?: unknown) =>
      reject(error instanceof Error ? error : new Error("connection closed"));
    socket.on("data", onData).on("close", onClose).on("error", onClose);
  });
}

function isComplete(text: string): boolean {
  const head = text.indexOf("\r\n\r\n");
  if (head < 0) return false;
  const length = /\r\ncontent-length: *(\d+)/i.exec(text.slice(0, head + 2))?.[1];
  return length === undefined ? text.endsWith("\r\n0\r\n\r\n") : text.length >= head + 4 + Number(length);
}
