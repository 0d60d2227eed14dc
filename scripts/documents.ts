/** Whether READMEs are true as far as a program can tell: paths, links, commands, settings, and the folders of the tree. */
import { execFileSync } from "node:child_process";
import { readdirSync, readFileSync } from "node:fs";
import { dirname, join, normalize } from "node:path";
import { settingNames } from "../server/src/config/setting-names.ts";

const root = join(import.meta.dirname, "..");

/** Written by commands, and not kept. */
const ignored = ["sdk/docs"];
/** What is called a path: with one of these endings, or below a folder that there is. */
const sourceFile = /\.(ts|sql|proto|md|py|go|sh)$/;
const pathForm = /^(?!https?:)[\w@.*-]+(\/[\w@.*-]+)*\/?$/;

/** Throws with everything that is named and is not there. */
export function checkDocuments(): void {
  const tracked = new Set<string>();
  const files = execFileSync("git", ["ls-files", "-co", "--exclude-standard"], {
    cwd: root,
    encoding: "utf8",
  });
  for (const file of files.split("\n").filter(Boolean))
    for (let path = file; path !== "."; path = dirname(path)) tracked.add(path);
  const documents = [...tracked].filter((path) => path.endsWith(".md"));
  const wrong = documents.flatMap((document) => {
    const text = readFileSync(join(root, document), "utf8");
    return [
      ...missingPaths(document, text, tracked).map((path) => `names ${path}, which is not there`),
      ...brokenLinks(document, text, tracked).map((target) => `links to ${target}, which is not there`),
      ...missingScripts(text).map((script) => `names npm run ${script}, which is not there`),
      ...(document.startsWith("server/") ? unknownSettings(text) : []).map(
        (name) => `names the setting ${name}, which is none`,
      ),
    ].map((what) => `${document} ${what}`);
  });
  wrong.push(...checkRootReadme(readFileSync(join(root, "README.md"), "utf8")));
  if (wrong.length > 0) throw new Error(wrong.join("\n"));
}

/** Paths between backticks that are not the end of one that there is. */
function missingPaths(document: string, text: string, tracked: ReadonlySet<string>): string[] {
  const all = [...tracked];
  const bases = [".", "server/src", dirname(document)];
  const spans = [...text.matchAll(/`([^`\n]+)`/g)].flatMap(([, span = ""]) => span.split(/[\s"]+/));
  return spans.filter((name) => {
    if (!pathForm.test(name)) return false;
    const [first = "", ...rest] = name.split("/");
    const isPath =
      sourceFile.test(name) || (rest.length > 0 && bases.some((base) => tracked.has(join(base, first))));
    if (!isPath || ignored.some((path) => name.startsWith(path))) return false;
    const pattern = name.replace(/\/$/, "").replaceAll(".", "\\.").replaceAll("*", "[^/]*");
    const end = new RegExp(`(^|/)${pattern}$`);
    return !all.some((path) => end.test(path));
  });
}

function brokenLinks(document: string, text: string, tracked: ReadonlySet<string>): string[] {
  const targets = [...text.matchAll(/\]\(([^)\s]+)\)/g)].map(([, target = ""]) => target);
  return targets.filter((target) => {
    if (/^[a-z]+:/.test(target)) return false;
    const [path = "", anchor] = target.split("#");
    const file = path === "" ? document : normalize(join(dirname(document), path)).replace(/\/$/, "");
    if (!tracked.has(file)) return true;
    if (anchor === undefined) return false;
    const headings = readFileSync(join(root, file), "utf8").matchAll(/^#+ (.+)$/gm);
    return ![...headings].some(([, heading = ""]) => anchorOf(heading) === anchor);
  });
}

function anchorOf(heading: string): string {
  return heading
    .toLowerCase()
    .replace(/[^\w\- ]/g, "")
    .replaceAll(" ", "-");
}

function missingScripts(text: string): string[] {
  const commands = text.matchAll(/npm run ([\w:-]+)((?: --workspace [\w/-]+)*)/g);
  return [...commands].flatMap(([, script = "", where = ""]) => {
    const workspaces = [...where.matchAll(/--workspace ([\w/-]+)/g)].map(([, folder = ""]) => folder);
    const folders = workspaces.length > 0 ? workspaces : ["."];
    return folders.every((folder) => script in scriptsOf(folder)) ? [] : [script + where];
  });
}

/** The server's own READMEs speak of no other variables. */
function unknownSettings(text: string): string[] {
  const settings: readonly string[] = settingNames;
  return [...text.matchAll(/\bPULSEWIRE_[A-Z_]+/g)]
    .map(([name]) => name)
    .filter((name) => !settings.includes(name));
}

function scriptsOf(folder: string): Record<string, string> {
  return JSON.parse(readFileSync(join(root, folder, "package.json"), "utf8")).scripts;
}

/** The root's README has every setting, every script, and every folder of the server. */
function checkRootReadme(text: string): string[] {
  const inTable = new Set(firstColumn(section(text, "Settings")));
  const settings: readonly string[] = settingNames;
  const tree = section(text, "The tree");
  const folders = readdirSync(join(root, "server/src"), { withFileTypes: true })
    .filter((entry) => entry.isDirectory())
    .map(({ name }) => name);
  return [
    ...settings.filter((name) => !inTable.has(name)).map((name) => `lacks the setting ${name}`),
    ...[...inTable]
      .filter((name) => !settings.includes(name))
      .map((name) => `has a setting ${name}, which is none`),
    ...Object.keys(scriptsOf("."))
      .filter((name) => !new RegExp(`npm (run )?${name}(?![\\w:-])`).test(text))
      .map((name) => `lacks the command npm run ${name}`),
    ...folders
      .filter((name) => !new RegExp(`[\`/]${name}/\``).test(tree))
      .map((name) => `lacks the folder server/src/${name}/`),
  ].map((what) => `README.md ${what}`);
}

function section(text: string, heading: string): string {
  return text.split(/^## /m).find((part) => part.startsWith(`${heading}\n`)) ?? "";
}

/** What stands between backticks in the first column of tables. */
function firstColumn(text: string): string[] {
  return [...text.matchAll(/^\| ([^|]+) \|/gm)].flatMap(([, cell = ""]) =>
    [...cell.matchAll(/`([^`]+)`/g)].map(([, name = ""]) => name),
  );
}
