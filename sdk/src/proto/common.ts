/** Outcomes of batches and the reasons of errors. The messages, enums and service of the contract. */
export * from "../gen/pulsewire/common/v1/error_reason_pb.js";
export * from "../gen/pulsewire/common/v1/outcome_pb.js";
