/**
 * One session and four clients at once: two browsers, the command line and a bare WebSocket. A prompt from each, another
 * order, a network that is cut, a server that is killed and started again, a stop: all of them end up with the same.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { createInterface } from "node:readline";
import type { Page } from "playwright-core";
import { afterAll, beforeAll, expect, it } from "vitest";
import { type Installation, installation } from "./world/installation";
import { network, type Network } from "./world/network";
import { expectComplaint } from "./world/people";
import { PROGRAM } from "./world/program";
import { farmShop } from "./world/repositories";
import { shoot } from "./world/shots";
import { type Entry, listen, type Listener } from "./world/socket";

let server: Installation;
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
  server = await installation();
  net = await network(server.origin);
  server.addRepository("meadow", farmShop({ ticks: 1, pauseMs: 1 }));
  ada = await server.person("Ada Appleton", "ada", { proxy: net.address });
  ben = await server.person("Ben Birnbaum", "ben");
}, 120_000);

afterAll(async () => {
  follower?.kill();
  socket?.close();
  net?.close();
  await server?.end();
});

async function hear(): Promise<void> {
  socket = await listen(`${server.origin.replace("http", "ws")}/api/v1/sessions/${session}/socket`, server.token(), heard.at(-1)?.seq ?? 0);
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
  follower = spawn(PROGRAM, ["session", "follow", session, "--json"], { env: server.environment(), stdio: ["ignore", "pipe", "ignore"] });
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
  server.greenroom("session", "prompt", session, "from the command line", "--detach");
  await expect.poll(() => waiting(ada)).toEqual(["from the other browser", "from the command line"]);
  const command = { type: "prompt", text: "from the socket" };
  // Said twice, as after an answer that was lost: done once.
  for (let time = 0; time < 2; time += 1) socket.send({ type: "command", key: "the-socket-s-prompt", command });
  const receipts = () => socket.frames.filter(({ type }) => type === "receipt");
  await expect.poll(() => receipts().length).toBe(2);
  expect(receipts()[1]).toEqual(receipts()[0]);
  const order = ["from the other browser", "from the command line", "from the socket"];
  for (const page of [ada, ben]) await expect.poll(() => waiting(page)).toEqual(order);
  const queue = JSON.parse(server.greenroom("session", "queue", "list", session, "--json")) as { prompt: string; text: string }[];
  const id = (text: string) => queue.find((waiting) => waiting.text === text)?.prompt ?? "";
  server.greenroom("session", "queue", "move", session, id("from the socket"), "--before", id("from the other browser"));
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
  await server.restart();
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
  const { head_seq: head } = await server.api(`/sessions/${session}`);
  await expect.poll(() => printed.at(-1)?.seq).toBe(head);
  await expect.poll(() => socket.entries.at(-1)?.seq).toBe(head);
  keepHeard();
  expect(heard.map(({ seq }) => seq), "no gap and no repeat").toEqual(Array.from({ length: head }, (_, index) => index + 1));
  expect(printed).toEqual(heard);
});
