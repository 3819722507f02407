/**
 * The server of most files, started once: `greenroom demo` plays its own run, then keeps serving with the scripted model,
 * which `greenroom serve` never has.
 */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import type { TestProject } from "vitest/node";
import { PROGRAM, run } from "./program";

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

const SERVING = /^Still serving: (\S+)/;
const LINK = /^Sign in as (.+?) \(.*\): (\S+)$/;

export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  const { data, lines, end } = await run(["demo"], SERVING);
  const found = (pattern: RegExp) => lines.flatMap((line) => pattern.exec(line) ?? []);
  const links = Object.fromEntries(lines.flatMap((line) => [LINK.exec(line)]).flatMap((match) => (match ? [[match[1], match[2]]] : [])));
  const token = readFileSync(join(data, "run", "local-token"), "utf8").trim();
  project.provide("served", { program: PROGRAM, data, token, links, origin: found(SERVING)[1] ?? "" });
  return end;
}
