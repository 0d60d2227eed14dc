/** Events. The messages, enums and service of the contract. */
export * from "../gen/pulsewire/ingestion/v1/analytics_pb.js";
export * from "../gen/pulsewire/ingestion/v1/dead_letter_pb.js";
export * from "../gen/pulsewire/ingestion/v1/event_pb.js";
export * from "../gen/pulsewire/ingestion/v1/ingestion_service_pb.js";
