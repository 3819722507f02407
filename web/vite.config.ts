// Builds the page into dist/, which the server embeds. `npm run dev` proxies the API to a server (or the mock) on 7878.
import tailwindcss from "@tailwindcss/vite";
import react from "@vitejs/plugin-react";
import { fileURLToPath } from "node:url";
import { defineConfig } from "vitest/config";
import { total } from "./dev/total.ts";

const here = (path: string) => fileURLToPath(new URL(path, import.meta.url));
const backend = process.env.GREENROOM_URL ?? "http://127.0.0.1:7878";

export default defineConfig({
  plugins: [react(), tailwindcss()],
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
