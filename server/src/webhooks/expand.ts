/**
 * From the outbox to deliveries: one row for each event and receiver, in the transaction that takes the event out. What is
 * gathered joins a delivery that still waits for its group.
 */
import { type Kysely, type Selectable, sql } from "kysely";
import { newResourceId } from "../auth/ids.ts";
import type { WebhooksConfig } from "../config/webhooks.ts";
import type { DeliveryTarget, WebhooksTable } from "../db/schema/webhooks.ts";
import type { Database } from "../db/schema.ts";
import { type TenantTransaction, withWorker } from "../db/tenant.ts";
import { insertDeliveries, type NewDelivery } from "./delivery-store.ts";
import { asksOf, type OutboxEvent, subjectsOf } from "./match.ts";
import { type Happening, happeningsOf, messageOf } from "./payload.ts";
import { addressOf, receiverOf } from "./receiver.ts";

/** Events that one transaction takes out, in all and of one tenant. */
const gulp = 5_000;
const gulpOfTenant = 250;
/** Subjects of one delivery, as the contract has it. */
const maxSubjects = 1_000;

export type ExpandRules = Pick<WebhooksConfig, "groupWaitMs" | "maxGathered">;

/** Takes events out of the outbox, the oldest first, and makes their deliveries. Returns how many were taken. */
export function expandOutbox(db: Kysely<Database>, rules: ExpandRules, now: () => number): Promise<number> {
  return withWorker(db, async (worker, enter) => {
    // Down the index of each tenant, so that one with very many delays nobody else.
    const { rows: events } = await sql<OutboxEvent>`
      with recursive owners as (
        (select tenant_id from webhook_events order by tenant_id limit 1)
        union all
        select next.tenant_id from owners o cross join lateral (
          select tenant_id from webhook_events where tenant_id > o.tenant_id order by tenant_id limit 1
        ) next
      )
      select e.* from owners o cross join lateral (
        select * from webhook_events where tenant_id = o.tenant_id order by id limit ${gulpOfTenant}
        for update skip locked
      ) e
      limit ${gulp}`.execute(worker);
    for (const [tenantId, own] of Map.groupBy(events, ({ tenant_id }) => tenant_id)) {
      const trx = await enter(tenantId);
      await expandTenant(trx, tenantId, own.toSorted(byTime), rules, now());
    }
    return events.length;
  });
}

/** Ids made in the same millisecond are in no order. */
function byTime(a: OutboxEvent, b: OutboxEvent): number {
  return a.occurred_at.getTime() - b.occurred_at.getTime() || (a.id < b.id ? -1 : 1);
}

async function expandTenant(
  trx: TenantTransaction,
  tenantId: string,
  events: readonly OutboxEvent[],
  rules: ExpandRules,
  nowMs: number,
): Promise<void> {
  const webhooks = await trx
    .selectFrom("webhooks")
    .selectAll()
    .where("tenant_id", "=", tenantId)
    .where("enabled", "=", true)
    .execute();
  const addressed = addressEvents(events, webhooks, rules);
  const groups = new Map<string, Told[]>();
  const singles: NewDelivery[] = [];
  for (const told of addressed) {
    if (told.waitMs === 0) singles.push(deliveryOf(tenantId, [told], nowMs, rules));
    else groups.set(told.receiver, [...(groups.get(told.receiver) ?? []), told]);
  }
  await gather(trx, tenantId, groups, rules, nowMs);
  await insertDeliveries(trx, singles);
  await trx
    .deleteFrom("webhook_events")
    .where("tenant_id", "=", tenantId)
    .where(
      "id",
      "in",
      events.map(({ id }) => id),
    )
    .execute();
}

/** An event for one receiver. */
interface Told {
  readonly event: OutboxEvent;
  readonly target: DeliveryTarget;
  readonly receiver: string;
  readonly destination: string;
  /** The alert rule whose target the receiver is, unless it has subscribed. */
  readonly ruleId: string | undefined;
  /** How long it waits for others; 0: it goes for itself. */
  readonly waitMs: number;
}

/** Who is told of each event: webhooks that ask for it, and its targets; each once. */
function addressEvents(
  events: readonly OutboxEvent[],
  webhooks: readonly Selectable<WebhooksTable>[],
  rules: ExpandRules,
): Told[] {
  const asking = webhooks.map((webhook) => ({ webhook, asks: asksOf(webhook) }));
  return events.flatMap((event) => {
    const isAlert = event.type.startsWith("alert.");
    const targets = new Map((event.targets ?? []).map((target) => [receiverOf(target), target]));
    const toWebhooks = asking.flatMap(({ webhook, asks }): Told[] => {
      const isTarget = targets.has(webhook.id);
      const hasAsked = asks(event);
      if (!isTarget && !hasAsked) return [];
      return [
        {
          event,
          target: { channel: "HTTP", to: webhook.id },
          receiver: webhook.id,
          destination: webhook.url,
          ruleId: hasAsked ? undefined : ruleOf(event),
          waitMs: isAlert ? webhook.group_wait_ms : 0,
        },
      ];
    });
    const toPeople = [...targets].flatMap(([receiver, target]): Told[] => {
      if (target.channel === "HTTP") return [];
      const destination = addressOf(target.channel, target.to);
      return [{ event, target, receiver, destination, ruleId: ruleOf(event), waitMs: rules.groupWaitMs }];
    });
    return [...toWebhooks, ...toPeople];
  });
}

function ruleOf({ data }: OutboxEvent): string | undefined {
  return typeof data.alert_rule_id === "string" ? data.alert_rule_id : undefined;
}

/** Adds to the delivery of each receiver that still gathers, as far as there is room, and makes new ones for the rest. */
async function gather(
  trx: TenantTransaction,
  tenantId: string,
  groups: ReadonlyMap<string, readonly Told[]>,
  rules: ExpandRules,
  nowMs: number,
): Promise<void> {
  if (groups.size === 0) return;
  // Two workers would else each begin a group for the same receiver.
  await sql`select pg_advisory_xact_lock(hashtextextended(${`deliveries ${tenantId}`}, 0))`.execute(trx);
  const open = await trx
    .selectFrom("deliveries")
    .select(["id", "receiver", "payload", "happenings", "subject_ids", "alert_rule_ids"])
    .where("tenant_id", "=", tenantId)
    .where("receiver", "in", [...groups.keys()])
    .where("due_at", ">", new Date(nowMs))
    .where("gathers", "=", true)
    .where("claim", "is", null)
    .orderBy("id")
    .forUpdate()
    .execute();
  const begun: NewDelivery[] = [];
  for (const [receiver, all] of groups) {
    let rest = all;
    const group = open.find((row) => row.receiver === receiver && row.happenings < rules.maxGathered);
    if (group) {
      const joining = rest.slice(0, rules.maxGathered - group.happenings);
      rest = rest.slice(joining.length);
      const message = joined([
        ...happeningsOf(group.payload),
        ...joining.map(({ event }) => happeningOf(event)),
      ]);
      await trx
        .updateTable("deliveries")
        .set({
          payload: JSON.stringify(message),
          event_type: message.type,
          happenings: group.happenings + joining.length,
          ...about(joining, group),
        })
        .where("tenant_id", "=", tenantId)
        .where("id", "=", group.id)
        .execute();
    }
    for (let from = 0; from < rest.length; from += rules.maxGathered) {
      begun.push(deliveryOf(tenantId, rest.slice(from, from + rules.maxGathered), nowMs, rules));
    }
  }
  await insertDeliveries(trx, begun);
}

function deliveryOf(
  tenantId: string,
  told: readonly Told[],
  nowMs: number,
  { maxGathered }: ExpandRules,
): NewDelivery {
  const [first] = told;
  if (!first) throw new RangeError("a delivery tells of something");
  const { target, receiver, destination, waitMs } = first;
  const message = joined(told.map(({ event }) => happeningOf(event)));
  return {
    tenant_id: tenantId,
    id: newResourceId(),
    receiver,
    channel: target.channel,
    webhook_id: target.channel === "HTTP" ? target.to : null,
    destination,
    message_id: first.event.id,
    event_type: message.type,
    payload: JSON.stringify(message),
    happenings: told.length,
    gathers: waitMs > 0 && told.length < maxGathered,
    status: "PENDING",
    due_at: new Date(nowMs + waitMs),
    created_at: new Date(nowMs),
    ...about(told),
  };
}

/** What a delivery tells about, with what it told about before. */
function about(
  told: readonly Told[],
  before: { readonly subject_ids: readonly string[]; readonly alert_rule_ids: readonly string[] } = {
    subject_ids: [],
    alert_rule_ids: [],
  },
): Pick<NewDelivery, "subject_ids" | "alert_rule_ids"> {
  const subjects = [...before.subject_ids, ...told.flatMap(({ event }) => subjectsOf(event))];
  const rules = [...before.alert_rule_ids, ...told.flatMap(({ ruleId }) => ruleId ?? [])];
  return {
    subject_ids: [...new Set(subjects)].slice(0, maxSubjects),
    alert_rule_ids: [...new Set(rules)],
  };
}

function happeningOf({ type, occurred_at, data }: OutboxEvent): Happening {
  return { type, timestamp: occurred_at.toISOString(), data };
}

function joined(happenings: readonly Happening[]): Happening {
  const [first, ...others] = happenings;
  if (!first) throw new RangeError("a message tells of something");
  return messageOf([first, ...others]);
}
