/** The code of a README, made to run here: each snippet with the server, key and folder of a test. */
import { readFileSync } from "node:fs";

/** What stands in the README and what takes its place. */
export type Replacements = Readonly<Record<string, string>>;

/** All snippets in TypeScript; each placeholder must occur, so that none is forgotten when the README changes. */
export function snippetsOf(readme: string, replacements: Replacements): string[] {
  const text = readFileSync(readme, "utf8");
  const snippets = [...text.matchAll(/^```ts\n(.*?)^```$/gms)].map(([, code = ""]) => code);
  const missing = Object.keys(replacements).filter((placeholder) => !text.includes(placeholder));
  if (missing.length > 0) throw new Error(`not in ${readme}: ${missing.join(", ")}`);
  return snippets.map((snippet) =>
    Object.entries(replacements).reduce((code, [from, to]) => code.replaceAll(from, to), snippet),
  );
}
