import { defineConfig } from "tsup";

/** One file; the SDK stays a package of its own. */
export default defineConfig({
  entry: ["src/main.ts"],
  format: ["esm"],
  target: "es2023",
  platform: "node",
  clean: true,
});
