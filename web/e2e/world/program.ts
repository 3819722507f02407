/** Runs the real program as a server, in a data directory of its own. `GREENROOM_PROGRAM` names it. */
import { type ChildProcess, spawn } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";

export const PROGRAM = process.env.GREENROOM_PROGRAM ?? fileURLToPath(new URL("../../../target/debug/greenroom", import.meta.url));
const START_DEADLINE_MS = 90_000;
const STOP_DEADLINE_MS = 10_000;

export interface Running {
  data: string;
  /** What it printed until then. */
  lines: string[];
  end(): Promise<void>;
  /** Ends it without a word, as a power cut would; its data stays. */
  kill(): Promise<void>;
}

/** Resolves when it has printed a line that matches. */
export async function run(words: string[], until: RegExp, data = mkdtempSync(join(tmpdir(), "greenroom-e2e-"))): Promise<Running> {
  const child = spawn(PROGRAM, words, { env: { ...withoutModels(), GREENROOM_DATA: data, NO_COLOR: "1" }, stdio: ["ignore", "pipe", "pipe"] });
  const end = async () => {
    await stop(child);
    rmSync(data, { recursive: true, force: true });
  };
  const kill = async () => {
    const ended = new Promise((resolve) => child.once("exit", resolve));
    child.kill("SIGKILL");
    await ended;
  };
  try {
    return { data, lines: await linesUntil(child, until), end, kill };
  } catch (error) {
    await end();
    throw error;
  }
}

/** The environment without keys: these tests rely on the script, or on no model at all. */
export function withoutModels(): NodeJS.ProcessEnv {
  const { ANTHROPIC_API_KEY: _a, OPENAI_API_KEY: _o, GREENROOM_MODEL_URL: _u, ...rest } = process.env;
  return rest;
}

function linesUntil(child: ChildProcess, until: RegExp): Promise<string[]> {
  const lines: string[] = [];
  return new Promise((resolve, reject) => {
    const fail = (what: string) => reject(new Error(`${child.spawnargs.join(" ")} ${what}:\n${lines.join("\n")}`));
    for (const stream of [child.stdout, child.stderr]) {
      if (!stream) continue;
      createInterface({ input: stream }).on("line", (line) => {
        lines.push(line);
        if (until.test(line)) resolve(lines);
      });
    }
    child.on("error", reject);
    child.on("exit", (code) => fail(`ended with ${code}`));
    setTimeout(() => fail("did not serve in time"), START_DEADLINE_MS).unref();
  });
}

async function stop(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null || child.pid === undefined) return;
  const ended = new Promise((resolve) => child.once("exit", resolve));
  child.kill("SIGTERM");
  const hard = setTimeout(() => child.kill("SIGKILL"), STOP_DEADLINE_MS);
  await ended;
  clearTimeout(hard);
}
