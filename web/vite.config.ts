// Builds the page into dist/, which the server embeds. `npm run dev` proxies the API to a server (or the mock) on 7878.
import tailwindcss from "@tailwindcss/vite";
import react from "@vitejs/plugin-react";
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { brotliCompressSync, constants } from "node:zlib";
import type { Plugin } from "vite";
import { defineConfig } from "vitest/config";
import { total } from "./dev/total.ts";

const here = (path: string) => fileURLToPath(new URL(path, import.meta.url));
const backend = process.env.GREENROOM_URL ?? "http://127.0.0.1:7878";

/** The smallest form of each file, made once here: the server sends it as it is (`crates/api/src/web.rs`). */
function brotli(): Plugin {
  const dist = here("./dist");
  return {
    name: "brotli",
    apply: "build",
    closeBundle() {
      for (const name of readdirSync(dist, { recursive: true, encoding: "utf8" })) {
        if (!/\.(js|css|svg)$/.test(name)) continue;
        const text = readFileSync(join(dist, name));
        const packed = brotliCompressSync(text, { params: { [constants.BROTLI_PARAM_SIZE_HINT]: text.length } });
        if (packed.length < text.length) writeFileSync(join(dist, `${name}.br`), packed);
      }
    },
  };
}

export default defineConfig({
  plugins: [react(), tailwindcss(), brotli()],
  resolve: {
    // The diff renderer can load 300 grammars, 70 themes and two more highlighters; we ship what src/diff/ names.
    alias: [
      { find: /^shiki\/langs$/, replacement: here("./src/diff/languages.ts") },
      { find: /^(\.\/backends\/highlights\.js|@pierre\/(theming\/themes|highlights\/.*)|shiki\/(wasm|engine\/oniguruma))$/, replacement: here("./src/diff/unused.ts") },
    ],
  },
  build: {
    target: ["chrome123", "edge123", "firefox128", "safari17.5"],
    cssTarget: ["chrome123", "edge123", "firefox128", "safari17.5"],
    reportCompressedSize: true,
    chunkSizeWarningLimit: 700,
    modulePreload: { polyfill: false },
  },
  server: { proxy: { "/api": { target: backend, ws: true }, "/git": backend } },
  test: { include: ["src/**/*.test.ts"], environment: "node", reporters: ["default", total] },
});
