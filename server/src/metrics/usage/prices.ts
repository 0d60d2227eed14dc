import { ConfigError } from "../../config/values.ts";
import { type UsageName, usageNames } from "./count.ts";

/** What one of each costs, in micro-units of the operator's currency. */
export type Prices = Readonly<Record<UsageName, number>>;

/** Reads PULSEWIRE_PRICES, such as `events=0.2,active_stores=150000`. What is not named costs nothing. */
export function readPrices(text = ""): Prices {
  const prices = Object.fromEntries(usageNames.map((name) => [name, 0])) as Record<UsageName, number>;
  for (const entry of text.split(",").map((part) => part.trim())) {
    if (!entry) continue;
    const [, word, price] = /^([a-z_]+)=(\d{1,12}(?:\.\d{1,6})?)$/.exec(entry) ?? [];
    const name = usageNames.find((candidate) => candidate === word);
    if (!name || price === undefined) {
      throw new ConfigError(
        `PULSEWIRE_PRICES has '${entry}'; each entry must be a name, '=' and the price of one in micro-units, such as ` +
          `events=0.2, with commas between; the names are ${usageNames.join(", ")}`,
      );
    }
    prices[name] = Number(price);
  }
  return prices;
}
