// Write server/experience/client/interlock.js, the module that pages load, from source/. With --check, only compare.
import { readFile, writeFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

const client = new URL("../../server/experience/client/", import.meta.url);
const made = await build({
  entryPoints: [fileURLToPath(new URL("source/interlock.js", client))],
  banner: { js: "// Interlock's browser client, Apache-2.0. Made by `make generate` from the modules in source/; do not edit." },
  bundle: true,
  minify: true,
  format: "esm",
  target: "es2022",
  legalComments: "none",
  write: false,
});
const [{ text }] = made.outputFiles;
const file = new URL("interlock.js", client);
if (!process.argv.includes("--check")) await writeFile(file, text);
else if ((await readFile(file, "utf8")) !== text) {
  console.error("client/interlock.js: differs; run `make generate`");
  process.exit(1);
}
