import manifest from "../../package.json" with { type: "json" };

/** The release, as in its package. */
export const version: string = manifest.version;
