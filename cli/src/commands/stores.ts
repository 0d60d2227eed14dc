import {
  durationFromMs,
  durationMs,
  GetStoreStatusResponseSchema,
  pages,
  type Store,
  StoreSchema,
  StoreState,
} from "@pulsewire/sdk";
import type { Call, Command } from "../command.ts";
import { exitCodes } from "../failure.ts";
import { write } from "../io.ts";
import { plain, printFacts, printJson, printList, printValue, timeText, word } from "../output.ts";
import { parseLength, parsePairs, parseWord, wordsOf } from "../values.ts";

const list: Command = {
  name: "list",
  summary: "lists stores by name",
  options: {
    name: { type: "string", value: "TEXT", help: "only those whose name contains this" },
    state: { type: "string", value: "WORD", values: wordsOf(StoreState), help: "only those in this state" },
  },
  async run(call) {
    const { args } = call;
    const state = args.text("state");
    const request = {
      pageSize: 1000,
      nameContains: args.text("name") ?? "",
      ...(state && { state: parseWord("--state", state, StoreState) }),
    };
    const found = pages((await call.open()).metrics.listStores, request);
    await printList(call, StoreSchema, found, ({ stores }) => stores, {
      head: ["id", "name", "every", "labels"],
      row: (store) => [store.id, plain(store.name), intervalOf(store), labelsOf(store)],
      none: "There are no stores.",
    });
    return undefined;
  },
};

const get: Command = {
  name: "get",
  operands: "ID",
  maxOperands: 1,
  summary: "shows one store",
  async run(call) {
    const { store } = await (await call.open()).metrics.getStore({ storeId: call.args.operand(0, "ID") });
    return show(call, store);
  },
};

const status: Command = {
  name: "status",
  operands: "ID",
  maxOperands: 1,
  summary: "tells whether a store is heard from",
  async run(call) {
    const { args, io, json } = call;
    const status = await (await call.open()).metrics.getStoreStatus({ storeId: args.operand(0, "ID") });
    if (json) await printJson(io, GetStoreStatusResponseSchema, status);
    else {
      await printFacts(io, {
        State: word(StoreState, status.state),
        Since: timeText(status.since),
        Reason: plain(status.reason),
        "Last sample": timeText(status.lastSampleAt),
        "Open alerts": String(status.openAlerts),
      });
    }
    return undefined;
  },
};

const create: Command = {
  name: "create",
  operands: "NAME",
  maxOperands: 1,
  summary: "makes a store",
  options: {
    description: { type: "string", help: "what it is" },
    interval: { type: "string", value: "LENGTH", help: "how often samples are expected, such as 30s" },
    label: { type: "string", multiple: true, value: "NAME=VALUE", help: "a label" },
  },
  async run(call) {
    const { args } = call;
    const interval = args.text("interval");
    const { store } = await (await call.open()).metrics.createStore({
      name: args.operand(0, "NAME"),
      description: args.text("description") ?? "",
      labels: parsePairs("--label", args.list("label")),
      ...(interval && { expectedInterval: durationFromMs(parseLength("--interval", interval)) }),
    });
    return show(call, store);
  },
};

const remove: Command = {
  name: "delete",
  operands: "ID",
  maxOperands: 1,
  summary: "deletes a store with all it holds",
  async run(call) {
    const storeId = call.args.operand(0, "ID");
    await (await call.open()).metrics.deleteStore({ storeId });
    if (call.json) await printValue(call.io, { deleted: storeId });
    else await write(call.io.stdout, `Deleted ${storeId}.\n`);
    return undefined;
  },
};

export const stores: Command = {
  name: "stores",
  summary: "stores: the places that samples come from",
  fallback: "list",
  subcommands: [list, get, status, create, remove],
};

async function show({ io, json }: Call, store: Store | undefined): Promise<number | undefined> {
  if (!store) return exitCodes.notFound;
  if (json) await printJson(io, StoreSchema, store);
  else {
    await printFacts(io, {
      Id: store.id,
      Name: plain(store.name),
      Description: plain(store.description),
      Every: intervalOf(store),
      Labels: labelsOf(store),
      Made: timeText(store.createdAt),
    });
  }
  return undefined;
}

function intervalOf({ expectedInterval }: Store): string {
  return expectedInterval ? `${durationMs(expectedInterval) / 1000}s` : "-";
}

function labelsOf({ labels }: Store): string {
  return plain(
    Object.entries(labels)
      .map(([name, value]) => `${name}=${value}`)
      .join(" "),
  );
}
