/** Webhooks and deliveries. The messages, enums and service of the contract. */
export * from "../gen/pulsewire/webhooks/v1/delivery_pb.js";
export * from "../gen/pulsewire/webhooks/v1/webhook_pb.js";
export * from "../gen/pulsewire/webhooks/v1/webhooks_service_pb.js";
