/**
 * HTTP/2 by hand, for load that costs next to nothing: headers are encoded once for a connection, answers are only counted.
 * Node's own client takes as much of a core as the servers that are to be measured.
 */
import { once } from "node:events";
import { connect, type Socket } from "node:net";

const preface = Buffer.from("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "latin1");
const frameHead = 9;
const largestWindow = 2 ** 31 - 1;
const defaultWindow = 65_535;

export const frames = {
  data: 0,
  headers: 1,
  reset: 3,
  settings: 4,
  ping: 6,
  goaway: 7,
  windowUpdate: 8,
  continuation: 9,
};
export const flags = { endStream: 1, ack: 1, endHeaders: 4 };
const settingIds = { headerTableSize: 1, enablePush: 2, initialWindowSize: 4 };

/** What comes on a connection, frame by frame. */
export type OnFrame = (type: number, flag: number, streamId: number, payload: Buffer) => void;

export function frame(type: number, flag: number, streamId: number, payload: Buffer): Buffer {
  const head = Buffer.alloc(frameHead);
  head.writeUIntBE(payload.length, 0, 3);
  head[3] = type;
  head[4] = flag;
  head.writeUInt32BE(streamId, 5);
  return Buffer.concat([head, payload]);
}

/** A connection that answers settings and pings by itself and leaves the rest to `onFrame`. */
export class RawHttp2 {
  readonly socket: Socket;
  onFrame: OnFrame = () => {};
  #nextId = 1;
  #rest: Buffer = Buffer.alloc(0);
  #received = 0;

  constructor(socket: Socket) {
    this.socket = socket;
    socket.on("data", (chunk: Buffer) => this.#read(chunk));
  }

  static async open(url: string): Promise<RawHttp2> {
    const { hostname, port } = new URL(url);
    const socket = connect({ host: hostname, port: Number(port), noDelay: true });
    await once(socket, "connect");
    const connection = new RawHttp2(socket);
    const settings = Buffer.alloc(18);
    // Without a table for answers, equal trailers are equal bytes.
    for (const [index, [id, value]] of [
      [settingIds.headerTableSize, 0],
      [settingIds.enablePush, 0],
      [settingIds.initialWindowSize, largestWindow],
    ].entries()) {
      settings.writeUInt16BE(id as number, index * 6);
      settings.writeUInt32BE(value as number, index * 6 + 2);
    }
    socket.write(
      Buffer.concat([
        preface,
        frame(frames.settings, 0, 0, settings),
        windowUpdate(largestWindow - defaultWindow),
      ]),
    );
    return connection;
  }

  /** The id of the next request. */
  nextId(): number {
    const id = this.#nextId;
    this.#nextId += 2;
    return id;
  }

  #read(chunk: Buffer): void {
    const bytes = this.#rest.length === 0 ? chunk : Buffer.concat([this.#rest, chunk]);
    let at = 0;
    while (bytes.length - at >= frameHead) {
      const end = at + frameHead + bytes.readUIntBE(at, 3);
      if (end > bytes.length) break;
      const type = bytes[at + 3] as number;
      const flag = bytes[at + 4] as number;
      const payload = bytes.subarray(at + frameHead, end);
      if (type === frames.settings && !(flag & flags.ack))
        this.#acknowledge(frames.settings, Buffer.alloc(0));
      else if (type === frames.ping && !(flag & flags.ack)) this.#acknowledge(frames.ping, payload);
      else {
        if (type === frames.data) this.#count(end - at);
        this.onFrame(type, flag, bytes.readUInt32BE(at + 5), payload);
      }
      at = end;
    }
    this.#rest = bytes.subarray(at);
  }

  #acknowledge(type: number, payload: Buffer): void {
    this.socket.write(frame(type, flags.ack, 0, payload));
  }

  #count(bytes: number): void {
    this.#received += bytes;
    if (this.#received < largestWindow / 4) return;
    this.socket.write(windowUpdate(this.#received));
    this.#received = 0;
  }
}

function windowUpdate(bytes: number): Buffer {
  const payload = Buffer.alloc(4);
  payload.writeUInt32BE(bytes);
  return frame(frames.windowUpdate, 0, 0, payload);
}

/**
 * The header block of the first request, which puts every field into the table of the peer, and that of all later ones,
 * which only points there: as clients do it.
 */
export function headerBlocks(fields: Readonly<Record<string, string>>): { first: Buffer; later: Buffer } {
  const entries = Object.entries(fields);
  const first = entries.map(([name, value]) => Buffer.concat([Buffer.from([0x40]), text(name), text(value)]));
  const firstDynamic = 62;
  const later = entries.map((_, index) => 0x80 | (firstDynamic + entries.length - 1 - index));
  return { first: Buffer.concat(first), later: Buffer.from(later) };
}

function text(value: string): Buffer {
  const bytes = Buffer.from(value, "latin1");
  if (bytes.length < 127) return Buffer.concat([Buffer.from([bytes.length]), bytes]);
  const more = bytes.length - 127;
  const length = more < 128 ? [127, more] : [127, 0x80 | (more & 0x7f), more >> 7];
  return Buffer.concat([Buffer.from(length), bytes]);
}
