import { globSync } from "node:fs";
import { defineConfig } from "tsup";

/** ESM and CJS. The types are written by `tsc`: see the script `build` in package.json. */
export default defineConfig({
  entry: [
    "src/index.ts",
    "src/web.ts",
    "src/gateway-node.ts",
    "src/gateway-web.ts",
    ...globSync("src/proto/*.ts"),
  ],
  format: ["esm", "cjs"],
  target: "es2022",
  platform: "neutral",
  external: [/^node:/],
  splitting: true,
  // Without it tsup lets Sucrase make the chunks of CommonJS, which initializes private fields before public ones.
  treeshake: true,
  sourcemap: true,
  // The sources are in the package, too.
  esbuildOptions: (options) => {
    options.sourcesContent = false;
  },
  clean: true,
});
