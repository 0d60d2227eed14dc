import { type FollowOptions, follow } from "@pulsewire/sdk";
import { type Io, write } from "./io.ts";

/**
 * Follows a stream over breaks, and tells of them. Where not even the first attempt gets through, it ends: then it is the
 * address or the credentials that are wrong.
 */
export async function* following<Request extends { cursor?: string }, Message extends { cursor: string }>(
  io: Io,
  watch: Parameters<typeof follow<Request, Message>>[0],
  request: Request,
): AsyncGenerator<Message> {
  let connected = false;
  let away = false;
  const options: FollowOptions = {
    signal: io.signal,
    onBreak: ({ error }) => {
      if (!connected) throw error;
      if (!away) void write(io.stderr, `pulsewire: the stream broke (${error.message}); trying to go on\n`);
      away = true;
    },
  };
  for await (const message of follow(watch, request, options)) {
    if (away) await write(io.stderr, "pulsewire: connected again, nothing is missing\n");
    connected = true;
    away = false;
    yield message;
  }
}
