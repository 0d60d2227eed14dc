import { defineConfig } from "tsup";

/** ESM and CJS. The types are written by `tsc`: see the script `build` in package.json. */
export default defineConfig({
  entry: ["src/index.ts", "src/web.ts"],
  format: ["esm", "cjs"],
  target: "es2022",
  platform: "neutral",
  external: [/^node:/],
  splitting: true,
  sourcemap: true,
  clean: true,
});
