/** The peer of single events: a Fastify endpoint that inserts one row a request through pg. */
import Fastify from "fastify";
import { Pool } from "pg";

const insert = {
  name: "insert",
  text: `insert into public.bench_peer (event_id, event_type, user_id, session_id, severity, priority, occurred_at, body)
    values ($1, $2, $3, $4, $5, $6, $7, $8)`,
};

interface PeerEvent {
  eventId: string;
  eventType: string;
  userId: string;
  sessionId: string;
  severity: string;
  priority: number;
  timestamp: string;
}

const { PEER_DB_HOST: host, PEER_DB_USER: user, PEER_DB_NAME: database, PEER_PORT } = process.env;
const pool = new Pool({ host, user, database, max: 16 });
// The database may end first.
pool.on("error", () => {});
const app = Fastify();
const schema = {
  body: {
    type: "object",
    required: ["event"],
    properties: {
      event: {
        type: "object",
        required: ["eventId", "eventType", "severity", "priority", "timestamp"],
        properties: {
          eventId: { type: "string", minLength: 1, maxLength: 200 },
          eventType: { type: "string", minLength: 1, maxLength: 200 },
          severity: { type: "string" },
          priority: { type: "integer" },
          timestamp: { type: "string" },
        },
      },
    },
  },
};
app.post<{ Body: { event: PeerEvent } }>("/events", { schema }, async ({ body: { event } }) => {
  const { eventId, eventType, userId, sessionId, severity, priority, timestamp, ...rest } = event;
  const values = [eventId, eventType, userId, sessionId, severity, priority, timestamp, JSON.stringify(rest)];
  await pool.query({ ...insert, values });
  return { eventId };
});
await app.listen({ host: "127.0.0.1", port: Number(PEER_PORT) });
process.on("disconnect", () => process.exit());
