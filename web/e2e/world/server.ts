/**
 * Starts the real program once for all files: `greenroom demo` in a new data directory. It plays its own run, then keeps
 * serving with the scripted model, which `greenroom serve` never has. `GREENROOM_PROGRAM` names the program.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import type { TestProject } from "vitest/node";

export interface Served {
  program: string;
  data: string;
  origin: string;
  /** Token of this machine's own user, an admin. */
  token: string;
  /** One-time links of the demo's two people, by name. */
  links: Record<string, string>;
}

declare module "vitest" {
  export interface ProvidedContext {
    served: Served;
  }
}

const START_DEADLINE_MS = 90_000;
const STOP_DEADLINE_MS = 10_000;
const PROGRAM = process.env.GREENROOM_PROGRAM ?? fileURLToPath(new URL("../../../target/debug/greenroom", import.meta.url));

export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  const data = mkdtempSync(join(tmpdir(), "greenroom-e2e-"));
  const child = spawn(PROGRAM, ["demo"], { env: { ...withoutModels(), GREENROOM_DATA: data, NO_COLOR: "1" }, stdio: ["ignore", "pipe", "pipe"] });
  try {
    const told = await untilServing(child);
    const token = readFileSync(join(data, "run", "local-token"), "utf8").trim();
    project.provide("served", { program: PROGRAM, data, token, ...told });
  } catch (error) {
    await end(child);
    throw error;
  }
  return async () => {
    await end(child);
    rmSync(data, { recursive: true, force: true });
  };
}

/** The environment without keys: the script is what these tests rely on. */
function withoutModels(): NodeJS.ProcessEnv {
  const { ANTHROPIC_API_KEY: _a, OPENAI_API_KEY: _o, GREENROOM_MODEL_URL: _u, ...rest } = process.env;
  return rest;
}

async function untilServing(child: ChildProcess): Promise<{ origin: string; links: Record<string, string> }> {
  const lines: string[] = [];
  const links: Record<string, string> = {};
  const serving = new Promise<string>((resolve, reject) => {
    for (const stream of [child.stdout, child.stderr]) {
      if (!stream) continue;
      createInterface({ input: stream }).on("line", (line) => {
        lines.push(line);
        const link = /^Sign in as (.+?) \(.*\): (\S+)$/.exec(line);
        if (link?.[1] && link[2]) links[link[1]] = link[2];
        const address = /^Still serving: (\S+)/.exec(line)?.[1];
        if (address) resolve(address);
      });
    }
    child.on("error", reject);
    child.on("exit", (code) => reject(new Error(`${PROGRAM} demo ended with ${code}:\n${lines.join("\n")}`)));
    setTimeout(() => reject(new Error(`${PROGRAM} demo did not serve in time:\n${lines.join("\n")}`)), START_DEADLINE_MS).unref();
  });
  return { origin: await serving, links };
}

async function end(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.pid === undefined) return;
  const ended = new Promise((resolve) => child.once("exit", resolve));
  child.kill("SIGTERM");
  const hard = setTimeout(() => child.kill("SIGKILL"), STOP_DEADLINE_MS);
  await ended;
  clearTimeout(hard);
}
