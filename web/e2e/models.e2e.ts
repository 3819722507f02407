/** Which model answers, and how hard it thinks: chosen with the first prompt and beside later ones, in everybody's sight. */
import type { Page } from "playwright-core";
import { afterAll, beforeAll, expect, it } from "vitest";
import { type Installation, installation } from "./world/installation";
import { shoot } from "./world/shots";

let server: Installation;
let ada: Page;
let ben: Page;

beforeAll(async () => {
  server = await installation("--models-fallback", "scribe");
  const [scribe] = await server.api("/models");
  server.greenroom("model", "add", "fast", "--provider", "openai_chat", "--model", "fast-scribe", "--base-url", scribe.base_url, "--no-key");
  server.greenroom("model", "add", "plain", "--provider", "openai_chat", "--model", "gpt-4.1", "--base-url", scribe.base_url, "--no-key");
  server.greenroom("model", "add", "away", "--provider", "openai_chat", "--model", "away", "--base-url", "http://127.0.0.1:9/v1", "--no-key");
  server.addRepository("kitchen", { "AGENTS.md": "A cookery book.\n" });
  ada = await server.person("Ada Appleton", "ada");
  ben = await server.person("Ben Birnbaum", "ben");
}, 120_000);

afterAll(() => server?.end());

const ended = (page: Page) => page.locator("[data-testid=turn-end][data-outcome=completed]");

it("a session begins with the model and effort that were chosen", async () => {
  await ada.goto(server.origin);
  await ada.getByLabel("Model").selectOption("plain");
  expect(await ada.getByLabel("Effort").count(), "this one cannot be asked").toBe(0);
  await ada.getByLabel("Model").selectOption("fast");
  await ada.getByLabel("Effort").selectOption("high");
  await shoot(ada, "models-home");
  await ada.getByLabel("Prompt").fill("hello");
  await ada.keyboard.press("Control+Enter");
  await ada.waitForURL("**/sessions/*");
  await ended(ada).waitFor();
  expect(await ada.getByLabel("Model").inputValue()).toBe("fast");
  expect(await ada.getByLabel("Effort").inputValue()).toBe("high");
});

it("another one is chosen beside the prompt, and everybody sees it", async () => {
  await ben.goto(ada.url());
  await ended(ben).waitFor();
  await ada.getByLabel("Model").focus();
  await ada.getByLabel("Model").selectOption("scribe");
  for (const page of [ada, ben]) {
    await page.getByText("Ada Appleton chose scribe for the next turns.").waitFor();
    await expect.poll(() => page.getByLabel("Model").inputValue()).toBe("scribe");
    expect(await page.getByLabel("Effort").inputValue()).toBe("");
  }
  await ben.getByLabel("Effort").selectOption("low");
  await ada.getByText("Ben Birnbaum chose scribe, effort low for the next turns.").waitFor();
  await shoot(ada, "models-session");
});

it("when a model gives out, the page says which one goes on", async () => {
  await ada.getByLabel("Model").selectOption("away");
  await ada.getByText("chose away for the next turns").waitFor();
  await ada.getByLabel("Prompt").fill("are you there?");
  await ada.keyboard.press("Enter");
  await ada.getByTestId("notice").getByText("openai_chat/scribe goes on instead of openai_chat/away").waitFor({ timeout: 45_000 });
  await expect.poll(() => ended(ada).count()).toBe(2);
  await shoot(ada, "models-fallback");
});

it("what the installation knows of its models is on the settings' page", async () => {
  await ada.goto(`${server.origin}/settings`);
  const rows = ada.getByTestId("models").getByRole("listitem");
  await rows.filter({ hasText: "scribe" }).filter({ hasText: "Fallback 1" }).waitFor();
  expect(await rows.filter({ hasText: "gpt-4.1" }).innerText()).toContain("tokens of context");
});
