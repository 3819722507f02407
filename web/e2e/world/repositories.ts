/** Repositories to work on, made anew with git and added with the program's own verb. */
import { execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { served } from "./people";

export const BROKEN = "return price + count";
export const FIXED = "return price * count";

/** One function is wrong. Its tests take a while and say so as they go. */
export function farmShop({ ticks, pauseMs }: { ticks: number; pauseMs: number }): Record<string, string> {
  return {
    "AGENTS.md": "Run the tests with `python3 -m unittest`.\n",
    "pricing.py": `"""Prices of a farm shop, in cents."""\n\n\ndef line_total(price, count):\n    """What one line of a bill costs."""\n    ${BROKEN}\n`,
    "test_pricing.py": `import sys
import time
import unittest

from pricing import line_total


class PricingTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        for tick in range(1, ${ticks + 1}):
            print(f"weighing crate {tick:04}", file=sys.stderr, flush=True)
            time.sleep(${pauseMs / 1000})

    def test_three_baskets_cost_three_times_as_much(self):
        self.assertEqual(line_total(250, 3), 750)

    def test_one_basket_costs_its_price(self):
        self.assertEqual(line_total(400, 1), 400)


if __name__ == "__main__":
    unittest.main()
`,
    ".greenroom/environment.toml": '[[steps]]\nname = "greeting"\nrun = "echo The orchard is ready; python3 --version"\ninputs = ["AGENTS.md"]\n',
  };
}

export function addRepository(name: string, files: Record<string, string>): void {
  const environment = { ...process.env, GREENROOM_DATA: served.data };
  withSource(files, (folder) => execFileSync(served.program, ["repository", "add", name, folder, "--wait"], { env: environment, stdio: "pipe", timeout: 60_000 }));
}

/** A repository that is there for as long as it is used. */
export function withSource(files: Record<string, string>, use: (folder: string) => void): void {
  const folder = mkdtempSync(join(tmpdir(), "greenroom-e2e-source-"));
  try {
    makeRepository(folder, files);
    use(folder);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

export function makeRepository(folder: string, files: Record<string, string>): void {
  for (const [path, text] of Object.entries(files)) {
    mkdirSync(dirname(join(folder, path)), { recursive: true });
    writeFileSync(join(folder, path), text);
  }
  git(folder, "init", "-q", "-b", "main");
  git(folder, "add", "-A");
  git(folder, "-c", "user.name=Farmer", "-c", "user.email=farmer@example.com", "commit", "-q", "-m", "A shop with a failing test");
}

/** The default branch after an ordinary `git clone`. */
export interface Clone {
  git(...words: string[]): string;
  read(path: string): string;
}

export function withClone(name: string, login: string, token: string, look: (clone: Clone) => void): void {
  const folder = mkdtempSync(join(tmpdir(), "greenroom-e2e-clone-"));
  try {
    const url = new URL(`/git/${name}.git`, served.origin);
    url.username = login;
    url.password = token;
    git(folder, "clone", "-q", url.href, ".");
    look({ git: (...words) => git(folder, ...words), read: (path) => readFileSync(join(folder, path), "utf8") });
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

function git(folder: string, ...words: string[]): string {
  const environment = { ...process.env, GIT_CONFIG_GLOBAL: "/dev/null", GIT_CONFIG_NOSYSTEM: "1", GIT_TERMINAL_PROMPT: "0" };
  return execFileSync("git", words, { cwd: folder, env: environment, encoding: "utf8", timeout: 30_000 }).trim();
}
