import { once } from "node:events";
import type { AddressInfo } from "node:net";
import { text } from "node:stream/consumers";
import { SMTPServer } from "smtp-server";

/** A message as it arrived. */
export interface ReceivedMail {
  readonly from: string;
  readonly to: string[];
  readonly source: string;
}

export interface TestMailServer extends AsyncDisposable {
  readonly url: string;
  readonly port: number;
  readonly received: readonly ReceivedMail[];
  /** What the next messages are answered with, such as 451; then they are taken again. */
  refuseNext(responseCode: number, times?: number): void;
  /** The code of the next message to the address that was not asked for yet. */
  nextCode(to: string): Promise<string>;
  stop(): Promise<void>;
}

const patienceMs = 10_000;

/** A real SMTP server on loopback. */
export async function startMailServer(port = 0): Promise<TestMailServer> {
  const received: ReceivedMail[] = [];
  const unread: ReceivedMail[] = [];
  const refusals: number[] = [];
  const arrivals = new EventTarget();
  const server = new SMTPServer({
    disabledCommands: ["AUTH", "STARTTLS"],
    disableReverseLookup: true,
    closeTimeout: 100,
    onRcptTo(_address, _session, done) {
      const responseCode = refusals.shift();
      done(responseCode ? Object.assign(new Error("not now"), { responseCode }) : null);
    },
    onData(stream, session, done) {
      text(stream).then((source) => {
        const { mailFrom, rcptTo } = session.envelope;
        const mail = {
          from: mailFrom ? mailFrom.address : "",
          to: rcptTo.map(({ address }) => address),
          source,
        };
        received.push(mail);
        unread.push(mail);
        done();
        arrivals.dispatchEvent(new Event("mail"));
      }, done);
    },
  });
  // A client that goes away is no fault of the test.
  server.on("error", () => {});
  server.listen(port, "127.0.0.1");
  await once(server.server, "listening");
  const address = server.server.address() as AddressInfo;
  const stop = () => new Promise<void>((resolve) => server.close(resolve));
  return {
    url: `smtp://127.0.0.1:${address.port}`,
    port: address.port,
    received,
    refuseNext(responseCode, times = 1) {
      refusals.push(...Array.from({ length: times }, () => responseCode));
    },
    async nextCode(to) {
      const signal = AbortSignal.timeout(patienceMs);
      for (;;) {
        const index = unread.findIndex((mail) => mail.to.includes(to));
        const [mail] = index < 0 ? [] : unread.splice(index, 1);
        const code = mail && /^Your code: (\d{6})\r?$/m.exec(mail.source)?.[1];
        if (code) return code;
        if (mail) throw new Error(`no code in ${mail.source}`);
        await Promise.race([
          once(arrivals, "mail", { signal }),
          once(signal, "abort").then(() => {
            throw new Error(`no mail to ${to} in ${patienceMs} ms`);
          }),
        ]);
      }
    },
    stop,
    [Symbol.asyncDispose]: stop,
  };
}
