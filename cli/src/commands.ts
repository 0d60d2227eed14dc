import type { Command } from "./command.ts";
import { alerts } from "./commands/alerts.ts";
import { completion } from "./commands/completion.ts";
import { keys } from "./commands/keys.ts";
import { login, logout } from "./commands/login.ts";
import { logs } from "./commands/logs.ts";
import { progress } from "./commands/progress.ts";
import { send } from "./commands/send.ts";
import { stores } from "./commands/stores.ts";
import { tail } from "./commands/tail.ts";

/** All commands. */
export const root: Command = {
  name: "pulsewire",
  summary: "sends events to Pulsewire and shows what is there",
  details: `Environment: PULSEWIRE_ENDPOINT, PULSEWIRE_API_KEY, PULSEWIRE_TOKEN, PULSEWIRE_CONFIG_DIR.
Exit codes: 0 done, 1 failed, 2 wrong arguments, 3 credentials or rights, 4 not found, 5 server not reached,
6 some rows were not taken, 130 interrupted.`,
  subcommands: [login, logout, send, tail, logs, progress, stores, alerts, keys, completion],
};
