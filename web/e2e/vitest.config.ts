// The browser's end-to-end tests: one server for all files, one file after the other.
import { fileURLToPath } from "node:url";
import { defineConfig } from "vitest/config";
import { total } from "../dev/total.ts";

export default defineConfig({
  test: {
    dir: fileURLToPath(new URL(".", import.meta.url)),
    include: ["**/*.e2e.ts"],
    environment: "node",
    globalSetup: fileURLToPath(new URL("./world/server.ts", import.meta.url)),
    fileParallelism: false,
    // A step of a path that fails makes the rest of its file meaningless.
    bail: 1,
    testTimeout: 60_000,
    hookTimeout: 60_000,
    expect: { poll: { timeout: 15_000 } },
    reporters: ["verbose", total],
  },
});
