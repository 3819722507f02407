/**
 * One session and four clients at once: two browsers, the command line and a bare WebSocket. A prompt from each, another
 * order, a network that is cut, a server that is killed and started again, a stop: all of them end up with the same.
 */
import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { type AddressInfo, createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import type { Page } from "playwright-core";
import { afterAll, beforeAll, expect, it } from "vitest";
import { model, type Model } from "./world/model";
import { network, type Network } from "./world/network";
import { expectComplaint, PASSWORD, visitor } from "./world/people";
import { PROGRAM, run, type Running, withoutModels } from "./world/program";
import { farmShop, makeRepository } from "./world/repositories";
import { shoot } from "./world/shots";
import { type Entry, listen, type Listener } from "./world/socket";

const AT = /^Greenroom is at (\S+)$/;
const source = mkdtempSync(join(tmpdir(), "greenroom-e2e-source-"));
let scribe: Model;
let server: Running;
let words: string[];
let origin: string;
let token: string;
let net: Network;
let ada: Page;
let ben: Page;
let session: string;
let follower: ChildProcess;
let socket: Listener;
/** Entries as the command line printed them, and as the socket had them, over all connections. */
const printed: Entry[] = [];
const heard: Entry[] = [];

beforeAll(async () => {
  scribe = await model();
  words = ["serve", "--listen", `127.0.0.1:${await freePort()}`];
  server = await run(words, AT);
  origin = AT.exec(server.lines.find((line) => AT.test(line)) ?? "")?.[1] ?? "";
  token = localToken();
  net = await network(origin);
  makeRepository(source, farmShop({ ticks: 1, pauseMs: 1 }));
  greenroom("model", "add", "scribe", "--provider", "openai_chat", "--model", "scribe", "--base-url", scribe.baseUrl, "--no-key");
  greenroom("repository", "add", "meadow", source, "--wait");
  ada = await member("Ada Appleton", "ada", net.address);
  ben = await member("Ben Birnbaum", "ben");
}, 120_000);

afterAll(async () => {
  follower?.kill();
  socket?.close();
  net?.close();
  await server?.end();
  scribe?.close();
  rmSync(source, { recursive: true, force: true });
});

/** Of this machine's own user, an admin; another one after every start. */
const localToken = () => readFileSync(join(server.data, "run", "local-token"), "utf8").trim();

/** A port that nobody listens on: the server comes back to the same one. */
async function freePort(): Promise<number> {
  const probe = createServer();
  await new Promise<void>((resolve) => probe.listen(0, "127.0.0.1", resolve));
  const { port } = probe.address() as AddressInfo;
  await new Promise((resolve) => probe.close(resolve));
  return port;
}

const environment = () => ({ ...withoutModels(), GREENROOM_DATA: server.data, GREENROOM_SERVER: origin, NO_COLOR: "1" });
const greenroom = (...words: string[]) => execFileSync(PROGRAM, words, { env: environment(), encoding: "utf8", stdio: "pipe", timeout: 60_000 });

async function api(path: string, body?: unknown) {
  const headers = { Authorization: `Bearer ${token}`, "Content-Type": "application/json" };
  const response = await fetch(`${origin}/api/v1${path}`, { method: body ? "POST" : "GET", headers, body: body === undefined ? undefined : JSON.stringify(body) });
  if (!response.ok) throw new Error(`${path}: ${response.status} ${await response.text()}`);
  return response.json();
}

async function member(name: string, login: string, proxy?: string): Promise<Page> {
  const added = await api("/people", { login, name, email: `${login}@example.com`, role: "member" });
  const page = await visitor({ proxy });
  await page.goto(origin + added.sign_in_path);
  await page.getByLabel("Password").fill(PASSWORD);
  await page.getByRole("button", { name: "Set password and sign in" }).click();
  await page.getByRole("heading", { name: "What should be changed?" }).waitFor();
  return page;
}

async function hear(): Promise<void> {
  socket = await listen(`${origin.replace("http", "ws")}/api/v1/sessions/${session}/socket`, token, heard.at(-1)?.seq ?? 0);
}
function keepHeard(): void {
  heard.push(...socket.entries.splice(0));
}

const live = (page: Page) => page.locator("[data-testid=connection][data-state=live]").waitFor();
const waiting = (page: Page) => page.getByTestId("queued-prompt").locator("p.whitespace-pre-wrap").allInnerTexts();
const ended = (page: Page, outcome: string) => page.locator(`[data-testid=turn-end][data-outcome=${outcome}]`).count();
const send = async (page: Page, text: string) => {
  await page.getByLabel("Prompt").fill(text);
  await page.keyboard.press("Control+Enter");
};

it("four clients are in one session, and everyone sees who is there", async () => {
  await ada.getByLabel("Repository").selectOption("meadow");
  await send(ada, "hello");
  await ada.waitForURL("**/sessions/*");
  session = new URL(ada.url()).pathname.split("/").at(-1) ?? "";
  await ben.goto(ada.url());
  await live(ben);
  follower = spawn(PROGRAM, ["session", "follow", session, "--json"], { env: environment(), stdio: ["ignore", "pipe", "ignore"] });
  if (follower.stdout) {
    createInterface({ input: follower.stdout }).on("line", (line) => {
      const frame = JSON.parse(line);
      if (frame.type === "entry") printed.push(frame.entry);
    });
  }
  await hear();
  for (const page of [ada, ben]) {
    await page.getByText("Answer to: hello").waitFor();
    await page.getByRole("button", { name: "3 people here" }).waitFor();
  }
  const present = () => socket.frames.filter(({ type }) => type === "presence").at(-1)?.people as { clients: string[] }[] | undefined;
  await expect.poll(() => present()?.map(({ clients }) => clients.join("+")).sort()).toEqual(["cli+api", "web", "web"]);
  await expect.poll(() => printed.length).toBeGreaterThan(0);
});

it("a prompt from each waits in one order, and another order is everyone's", async () => {
  await send(ada, "count slowly");
  for (const page of [ada, ben]) await page.getByText("step 3", { exact: true }).waitFor();
  await send(ben, "from the other browser");
  await expect.poll(() => waiting(ada)).toEqual(["from the other browser"]);
  greenroom("session", "prompt", session, "from the command line", "--detach");
  await expect.poll(() => waiting(ada)).toEqual(["from the other browser", "from the command line"]);
  const command = { type: "prompt", text: "from the socket" };
  // Said twice, as after an answer that was lost: done once.
  for (let time = 0; time < 2; time += 1) socket.send({ type: "command", key: "the-socket-s-prompt", command });
  const receipts = () => socket.frames.filter(({ type }) => type === "receipt");
  await expect.poll(() => receipts().length).toBe(2);
  expect(receipts()[1]).toEqual(receipts()[0]);
  const order = ["from the other browser", "from the command line", "from the socket"];
  for (const page of [ada, ben]) await expect.poll(() => waiting(page)).toEqual(order);
  const queue = JSON.parse(greenroom("session", "queue", "list", session, "--json")) as { prompt: string; text: string }[];
  const id = (text: string) => queue.find((waiting) => waiting.text === text)?.prompt ?? "";
  greenroom("session", "queue", "move", session, id("from the socket"), "--before", id("from the other browser"));
  for (const page of [ada, ben]) await expect.poll(() => waiting(page)).toEqual(["from the socket", "from the other browser", "from the command line"]);
  await shoot(ben, "session-together");
});

it("a network that is cut and a server that is killed lose nothing of it", async () => {
  expectComplaint(/ERR_|WebSocket/);
  net.cut();
  await ada.locator("[data-testid=connection][data-state=waiting]").waitFor();
  await server.kill();
  await socket.closed;
  keepHeard();
  await ben.locator("[data-testid=connection]:not([data-state=live])").waitFor();
  server = await run(words, AT, server.data);
  token = localToken();
  await live(ben);
  await hear();
  expect(await waiting(ben)).toEqual(["from the socket", "from the other browser", "from the command line"]);
  await ben.getByRole("button", { name: "Stop", exact: true }).click();
  await expect.poll(() => ended(ben, "completed")).toBe(4);
  expect(await ended(ben, "stopped")).toBe(1);
  net.mend();
  await live(ada);
  await expect.poll(() => ended(ada, "completed")).toBe(4);
});

it("all four have the same in the end", async () => {
  const text = async (page: Page, what: string) => page.getByTestId(what).allInnerTexts();
  for (const what of ["prompt", "turn-end"]) expect(await text(ada, what)).toEqual(await text(ben, what));
  const answers = ["hello", "from the socket", "from the other browser", "from the command line"];
  for (const page of [ada, ben]) {
    const said = (await text(page, "assistant-text")).filter((text) => text.includes("Answer to:"));
    expect(said.map((text) => text.trim())).toEqual(answers.map((prompt) => `Answer to: ${prompt}`));
  }
  const { head_seq: head } = await api(`/sessions/${session}`);
  await expect.poll(() => printed.at(-1)?.seq).toBe(head);
  await expect.poll(() => socket.entries.at(-1)?.seq).toBe(head);
  keepHeard();
  expect(heard.map(({ seq }) => seq), "no gap and no repeat").toEqual(Array.from({ length: head }, (_, index) => index + 1));
  expect(printed).toEqual(heard);
});
