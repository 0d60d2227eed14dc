/** Stores, samples, alerts, usage. The messages, enums and service of the contract. */
export * from "../gen/pulsewire/metrics/v1/alert_pb.js";
export * from "../gen/pulsewire/metrics/v1/metrics_service_pb.js";
export * from "../gen/pulsewire/metrics/v1/sample_pb.js";
export * from "../gen/pulsewire/metrics/v1/store_pb.js";
export * from "../gen/pulsewire/metrics/v1/usage_pb.js";
