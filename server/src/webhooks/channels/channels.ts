/** The ways by which messages go, as the operator has set them up. */
import type { Config } from "../../config/config.ts";
import type { DeliveryChannel } from "../../db/schema/webhooks.ts";
import type { KeyRing } from "../../keyring.ts";
import type { MailTransport } from "../../mail/mailer.ts";
import type { Resolve } from "../../net/allowed.ts";
import { createPoster } from "../../net/post.ts";
import { createSecretReader } from "../secret.ts";
import { createEmailChannel } from "./email.ts";
import { createHttpChannel } from "./http.ts";
import type { Deliver } from "./outcome.ts";
import { createWhatsAppChannel } from "./whatsapp.ts";

export interface Channels {
  readonly deliver: Readonly<Record<DeliveryChannel, Deliver>>;
  close(): void;
}

export interface ChannelOptions {
  readonly config: Pick<Config, "webhooks">;
  readonly keyring: KeyRing;
  readonly mailTransport: MailTransport | undefined;
  /** How names of receivers are resolved. */
  readonly resolve?: Resolve | undefined;
  readonly now?: () => number;
}

export function createChannels({
  config,
  keyring,
  mailTransport,
  resolve,
  now = Date.now,
}: ChannelOptions): Channels {
  const { allowPrivate, timeoutMs } = config.webhooks;
  const receivers = createPoster({ allowPrivate, resolve });
  // The operator has named the API's address, so it may be inside their network.
  const api = createPoster({ allowPrivate: true });
  return {
    deliver: {
      HTTP: createHttpChannel({ poster: receivers, secrets: createSecretReader(keyring), timeoutMs, now }),
      EMAIL: createEmailChannel(mailTransport),
      WHATSAPP: createWhatsAppChannel({ settings: config.webhooks.whatsapp, poster: api, timeoutMs, now }),
    },
    close() {
      receivers.close();
      api.close();
    },
  };
}
