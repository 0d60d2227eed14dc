/** Container functions, their invocations and logs. The messages, enums and service of the contract. */
export * from "../gen/pulsewire/functions/v1/function_pb.js";
export * from "../gen/pulsewire/functions/v1/functions_service_pb.js";
export * from "../gen/pulsewire/functions/v1/invocation_pb.js";
export * from "../gen/pulsewire/functions/v1/log_pb.js";
