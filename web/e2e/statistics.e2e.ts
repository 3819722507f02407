/** Figures of what happened: counted as it happens, and what nobody knows is said and not shown as zero. */
import type { Page } from "playwright-core";
import { afterAll, beforeAll, expect, it } from "vitest";
import { type Installation, installation } from "./world/installation";
import { shoot } from "./world/shots";

let server: Installation;
let ada: Page;
let ben: Page;

beforeAll(async () => {
  server = await installation();
  server.addRepository("kitchen", { "AGENTS.md": "A cookery book.\n" });
  server.addRepository("a-repository-with-quite-a-long-name-for-a-narrow-screen", { "AGENTS.md": "Long.\n" });
  ada = await server.person("Ada Appleton", "ada");
  ben = await server.person("Ben Birnbaum", "ben");
}, 120_000);

afterAll(() => server?.end());

async function ask(page: Page, repository: string, prompt: string, outcome = "completed"): Promise<void> {
  await page.goto(server.origin);
  await page.getByLabel("Repository").selectOption(repository);
  await page.getByLabel("Prompt").fill(prompt);
  await page.keyboard.press("Control+Enter");
  await page.waitForURL("**/sessions/*");
  await page.locator(`[data-testid=turn-end][data-outcome=${outcome}]`).waitFor();
}

const figure = (name: string) => ada.getByTestId("figures").locator("div").filter({ has: ada.locator("dt", { hasText: new RegExp(`^${name}$`) }) }).locator("dd");
const rows = (label: string) => ada.getByRole("region", { name: label }).getByRole("row").allInnerTexts().then((texts) => texts.map((text) => text.split("\t")));

it("before anything happened the page says so", async () => {
  await ada.goto(`${server.origin}/settings`);
  await ada.getByRole("link", { name: /Figures/ }).click();
  await ada.getByText("Nothing happened yet").waitFor();
  await shoot(ada, "statistics-empty");
});

it("turns, failures, tools and tokens are counted, and an unknown price is not zero", async () => {
  await ask(ada, "kitchen", "run: echo soup");
  await ask(ada, "kitchen", "run: exit 3");
  await ask(ben, "a-repository-with-quite-a-long-name-for-a-narrow-screen", "hello");
  await ask(ben, "kitchen", "fail please", "failed");
  await expect
    .poll(async () => {
      await ada.goto(`${server.origin}/settings/statistics`);
      return figure("Turns").allInnerTexts();
    })
    .toEqual(["4", "1 failed"]);
  expect(await figure("Cost").allInnerTexts()).toEqual(["Not known", "no model with a known price"]);
  expect(await figure("People").allInnerTexts()).toEqual(["2", "in 4 sessions"]);
  expect(await figure("Changes").allInnerTexts()).toEqual(["0", "merged of 0 opened"]);
  // Five requests: two for each command, one for the answer.
  expect(await figure("Tokens").first().innerText()).toBe("6.2k");
  const tools = await rows("Figures by tool");
  expect(tools[1]?.slice(0, 3)).toEqual(["bash", "2", "1"]);
  await shoot(ada, "statistics");
});

it("by repository and by person, with the keyboard", async () => {
  const first = (all: string[][]) => all.slice(1).map((cells) => cells.slice(0, 4));
  await expect.poll(async () => first(await rows("Figures by repository"))).toEqual([
    ["kitchen", "3", "3", "1"],
    ["a-repository-with-quite-a-long-name-for-a-narrow-screen", "1", "1", "0"],
  ]);
  await ada.getByLabel("Counted by").focus();
  await ada.keyboard.press("ArrowDown");
  await expect.poll(async () => first(await rows("Figures by person"))).toEqual([
    ["Ada Appleton", "2", "2", "0"],
    ["Ben Birnbaum", "2", "2", "1"],
  ]);
  await ada.getByLabel("Counted by").scrollIntoViewIfNeeded();
  await shoot(ada, "statistics-people");
});

it("the bars' figures are in a table too", async () => {
  const summary = ada.getByText("As a table");
  await summary.focus();
  await ada.keyboard.press("Enter");
  const days = await rows("Figures by day");
  expect(days.slice(1).map((cells) => cells[2])).toEqual(["4"]);
  await ada.getByLabel("Range").selectOption("365");
  await ada.getByText("Turns by day").scrollIntoViewIfNeeded();
  await shoot(ada, "statistics-year");
});
