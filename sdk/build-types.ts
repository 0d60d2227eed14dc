/**
 * Finishes the types that `tsc` wrote, for tsup cannot make any with this version of TypeScript: adds those of the
 * generated code, which stand beside it already, names the files as they are published, and lays out a second copy
 * for CommonJS, for TypeScript tells the kind of a module by the package.json next to it.
 */
import { cpSync, globSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";

const sdk = import.meta.dirname;
const types = join(sdk, "dist/types");
cpSync(join(sdk, "src/gen"), join(types, "gen"), {
  recursive: true,
  filter: (source) => !source.endsWith(".js"),
});
for (const file of globSync(join(types, "{,spool/,proto/,unary/}*.d.ts"))) {
  const text = readFileSync(file, "utf8");
  writeFileSync(file, text.replaceAll(/(from "\.{1,2}\/[\w/-]+)\.ts"/g, '$1.js"'));
}
const commonjs = join(sdk, "dist/types-cjs");
cpSync(types, commonjs, { recursive: true });
writeFileSync(join(commonjs, "package.json"), '{ "type": "commonjs" }\n');
