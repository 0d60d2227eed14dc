/** Owns the schema and runs the migrations in the embedded database. Outside, any role may be the owner. */
export const ownerRole = "pulsewire_owner";

/** What every connection of the service acts as: it owns nothing and cannot bypass row security. */
export const appRole = "pulsewire_app";

/** All objects live in this schema. */
export const schemaName = "pulsewire";
