/** An installation of a test's own: `greenroom serve` with a model of this machine, its command line, and people at it. */
import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { type AddressInfo, createServer } from "node:net";
import { join } from "node:path";
import type { Page } from "playwright-core";
import { model } from "./model";
import { type Options, PASSWORD, visitor } from "./people";
import { PROGRAM, run, withoutModels } from "./program";
import { withSource } from "./repositories";

const AT = /^Greenroom is at (\S+)$/;

export interface Installation {
  origin: string;
  /** Of this machine's own user, an admin; another one after every start. */
  token(): string;
  environment(): NodeJS.ProcessEnv;
  /** A verb of the command line, in the name of this machine's own user. */
  greenroom(...words: string[]): string;
  /** A request in the name of this machine's own user. */
  api(path: string, body?: unknown): Promise<any>;
  addRepository(name: string, files: Record<string, string>): void;
  /** A new person who is signed in, at the list of sessions. */
  person(name: string, login: string, options?: Options & { role?: string }): Promise<Page>;
  /** Ends it without a word; its data stays. */
  kill(): Promise<void>;
  /** Again, where it was. */
  restart(): Promise<void>;
  end(): Promise<void>;
}

/** `flags` of `greenroom serve`. */
export async function installation(...flags: string[]): Promise<Installation> {
  const scribe = await model();
  const words = ["serve", "--listen", `127.0.0.1:${await freePort()}`, ...flags];
  let server = await run(words, AT);
  const origin = AT.exec(server.lines.find((line) => AT.test(line)) ?? "")?.[1] ?? "";
  const token = () => readFileSync(join(server.data, "run", "local-token"), "utf8").trim();
  const environment = () => ({ ...withoutModels(), GREENROOM_DATA: server.data, GREENROOM_SERVER: origin, NO_COLOR: "1" });
  const greenroom = (...verb: string[]) => execFileSync(PROGRAM, verb, { env: environment(), encoding: "utf8", stdio: "pipe", timeout: 60_000 });
  const api = async (path: string, body?: unknown) => {
    const headers = { Authorization: `Bearer ${token()}`, "Content-Type": "application/json" };
    const response = await fetch(`${origin}/api/v1${path}`, { method: body === undefined ? "GET" : "POST", headers, body: body === undefined ? undefined : JSON.stringify(body) });
    if (!response.ok) throw new Error(`${path}: ${response.status} ${await response.text()}`);
    return response.json();
  };
  const addRepository = (name: string, files: Record<string, string>) =>
    withSource(files, (folder) => void greenroom("repository", "add", name, folder, "--wait"));
  const person = async (name: string, login: string, { role = "member", ...options }: Options & { role?: string } = {}) => {
    const added = await api("/people", { login, name, email: `${login}@example.com`, role });
    const page = await visitor(options);
    await page.goto(origin + added.sign_in_path);
    await page.getByLabel("Password").fill(PASSWORD);
    await page.getByRole("button", { name: "Set password and sign in" }).click();
    await page.getByRole("heading", { name: "What should be changed?" }).waitFor();
    return page;
  };
  const end = async () => {
    await server.end();
    scribe.close();
  };
  try {
    greenroom("model", "add", "scribe", "--provider", "openai_chat", "--model", "scribe", "--base-url", scribe.baseUrl, "--no-key");
  } catch (error) {
    await end();
    throw error;
  }
  return {
    origin,
    token,
    environment,
    greenroom,
    api,
    addRepository,
    person,
    kill: () => server.kill(),
    restart: async () => {
      server = await run(words, AT, server.data);
    },
    end,
  };
}

/** A port that nobody listens on: a server that is started again comes back to it. */
async function freePort(): Promise<number> {
  const probe = createServer();
  await new Promise<void>((resolve) => probe.listen(0, "127.0.0.1", resolve));
  const { port } = probe.address() as AddressInfo;
  await new Promise((resolve) => probe.close(resolve));
  return port;
}
