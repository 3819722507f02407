/** A collector of traces that refuses: the session says so, and somebody has it tried again. */
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import type { Page } from "playwright-core";
import { afterAll, beforeAll, expect, it } from "vitest";
import { type Installation, installation } from "./world/installation";
import { shoot } from "./world/shots";

let collector: Server;
let isRefusing = true;
let taken = 0;
let server: Installation;
let ada: Page;

beforeAll(async () => {
  collector = createServer((request, response) => {
    request.resume().on("end", () => {
      if (!isRefusing) taken += 1;
      response.writeHead(isRefusing ? 403 : 200, { "Content-Type": "application/x-protobuf" }).end();
    });
  });
  await new Promise<void>((resolve) => collector.listen(0, "127.0.0.1", resolve));
  const { port } = collector.address() as AddressInfo;
  server = await installation("--otlp-endpoint", `http://127.0.0.1:${port}`, "--delivery-seconds", "1");
  server.addRepository("kitchen", { "AGENTS.md": "A cookery book.\n" });
  ada = await server.person("Ada Appleton", "ada");
}, 120_000);

afterAll(async () => {
  await server?.end();
  collector?.close();
});

const notice = () => ada.getByTestId("dead-letters");
const retry = () => notice().getByRole("button", { name: "Try again: the collector of traces" });

it("what could not be delivered for too long is a notice in the session, which says what to do", async () => {
  await ada.getByLabel("Prompt").fill("hello");
  await ada.keyboard.press("Control+Enter");
  await ada.waitForURL("**/sessions/*");
  await notice().getByText("Traces of this session were not delivered.").waitFor();
  await notice().getByText("See that it runs and that its address in the settings is right, then try again.").waitFor();
  await notice().getByText("collector_unreachable").waitFor();
  await shoot(ada, "session-dead-letter");
  await ada.reload();
  await notice().getByText("Traces of this session were not delivered.").waitFor();
});

it("tried again while it still refuses, the notice comes back", async () => {
  await retry().click();
  await ada.getByText("Ada Appleton has the collector of traces told again.").waitFor();
  await retry().waitFor();
  expect(taken).toBe(0);
});

it("when the collector takes it, the notice goes, by the keyboard alone", async () => {
  isRefusing = false;
  await retry().focus();
  await ada.keyboard.press("Enter");
  await notice().waitFor({ state: "detached" });
  await expect.poll(() => taken).toBeGreaterThan(0);
  await shoot(ada, "session-delivered");
});
