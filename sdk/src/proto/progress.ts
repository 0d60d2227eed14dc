/** Progress of files. The messages, enums and service of the contract. */
export * from "../gen/pulsewire/progress/v1/line_issue_pb.js";
export * from "../gen/pulsewire/progress/v1/progress_pb.js";
export * from "../gen/pulsewire/progress/v1/progress_service_pb.js";
