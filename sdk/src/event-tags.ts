/** Tags of an event and of its fields: number and wire type in one byte. */
export const eventTag = {
  events: 0x0a,
  eventId: 0x0a,
  eventType: 0x12,
  title: 0x1a,
  message: 0x22,
  severity: 0x28,
  source: 0x32,
  context: 0x3a,
  metrics: 0x42,
  metadata: 0x4a,
  payload: 0x52,
  userId: 0x5a,
  sessionId: 0x62,
  timestamp: 0x6a,
  priority: 0x70,
} as const;
