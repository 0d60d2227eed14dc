/** Tenants, people, API keys, sessions. The messages, enums and service of the contract. */
export * from "../gen/pulsewire/auth/v1/api_key_pb.js";
export * from "../gen/pulsewire/auth/v1/audit_pb.js";
export * from "../gen/pulsewire/auth/v1/auth_service_pb.js";
export * from "../gen/pulsewire/auth/v1/identity_provider_pb.js";
export * from "../gen/pulsewire/auth/v1/session_pb.js";
export * from "../gen/pulsewire/auth/v1/tenant_pb.js";
export * from "../gen/pulsewire/auth/v1/user_pb.js";
export { Scope } from "../gen/pulsewire/options/v1/access_pb.js";
