/** SETTINGS: what each end asks of the other (RFC 9113, 6.5). */
import type { ListenerLimits } from "../limits.ts";
import {
  ConnectionFault,
  errorCode,
  largestWindowBytes,
  maxPayloadBytes,
  protocolFault,
  settingId,
  sizeFault,
} from "./frames.ts";

const entryBytes = 6;

/** What is asked of the peer. */
export function ourSettings(limits: ListenerLimits): Buffer {
  const settings = [
    [settingId.maxConcurrentStreams, limits.maxConcurrentStreams],
    [settingId.initialWindowSize, limits.streamWindowBytes],
    [settingId.maxHeaderListSize, limits.maxHeaderBytes],
  ] as const;
  const payload = Buffer.alloc(entryBytes * settings.length);
  settings.forEach(([id, value], index) => {
    payload.writeUInt16BE(id, entryBytes * index);
    payload.writeUInt32BE(value, entryBytes * index + 2);
  });
  return payload;
}

/** Reads what the peer asks. Returns the windows of streams that it sets, in their order: nothing else of it matters here. */
export function readSettings(payload: Buffer, maxSettings: number): number[] {
  if (payload.length % entryBytes !== 0) throw sizeFault();
  if (payload.length / entryBytes > maxSettings)
    throw new ConnectionFault(errorCode.enhanceYourCalm, "too many settings");
  const windows: number[] = [];
  for (let at = 0; at < payload.length; at += entryBytes) {
    const id = payload.readUInt16BE(at);
    const value = payload.readUInt32BE(at + 2);
    if (id === settingId.enablePush && value > 1) throw protocolFault("ENABLE_PUSH is 0 or 1");
    if (id === settingId.maxFrameSize && (value < maxPayloadBytes || value > 0xff_ffff))
      throw protocolFault("no such size of frames");
    if (id !== settingId.initialWindowSize) continue;
    if (value > largestWindowBytes) throw new ConnectionFault(errorCode.flowControl, "too wide a window");
    windows.push(value);
  }
  return windows;
}
