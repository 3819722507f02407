/** Whose prompts made which line, beside the diff: two people's, in one file that was there before them. */
import type { Page } from "playwright-core";
import { afterAll, beforeAll, expect, it } from "vitest";
import { type Installation, installation } from "./world/installation";
import { shoot } from "./world/shots";

let server: Installation;
let ada: Page;
let ben: Page;

beforeAll(async () => {
  server = await installation();
  server.addRepository("kitchen", { "AGENTS.md": "A cookery book.\n", "soup.txt": "water\n" });
  ada = await server.person("Ada Appleton", "ada");
  ben = await server.person("Ben Birnbaum", "ben");
}, 120_000);

afterAll(() => server?.end());

const turns = (page: Page, count: number) => expect.poll(() => page.locator("[data-testid=turn-end][data-outcome=completed]").count()).toBe(count);

/** What is said of each group of lines: who, and the lines. */
const told = (page: Page) =>
  page.getByTestId("blame").locator("li").evaluateAll((parts) => parts.map((part) => [part.getAttribute("data-kind"), part.querySelector("p")?.textContent?.replace(/^Lines? [\d–]+ /, ""), part.querySelector("pre")?.textContent]));

it("each line names who asked for it, and the lines that were there name nobody's prompt", async () => {
  await ada.getByLabel("Prompt").fill("run: printf 'leek\\nsalt\\n' >> soup.txt");
  await ada.keyboard.press("Control+Enter");
  await ada.waitForURL("**/sessions/*");
  await turns(ada, 1);
  await ben.goto(ada.url());
  await ben.getByLabel("Prompt").fill("run: sed -i '2i celery' soup.txt");
  await ben.keyboard.press("Control+Enter");
  await turns(ben, 2);
  await ben.getByRole("tab", { name: "Diff" }).click();
  const ask = ben.getByRole("button", { name: "Who asked for which line" });
  await ask.focus();
  await ben.keyboard.press("Enter");
  const asks = { ada: "Ada Appleton: “run: printf 'leek\\nsalt\\n' >> soup.txt”", ben: "Ben Birnbaum: “run: sed -i '2i celery' soup.txt”" };
  await expect.poll(() => told(ben)).toEqual([
    ["before_session", "before the session: Farmer, “A shop with a failing test”", "water"],
    ["prompts", asks.ben, "celery"],
    ["prompts", asks.ada, "leek\nsalt"],
  ]);
  await ben.getByTestId("blame").scrollIntoViewIfNeeded();
  await shoot(ben, "session-blame");
});

it("the keyboard goes through the lines and out again, and closes them", async () => {
  await ben.getByRole("button", { name: "Hide who asked" }).focus();
  await ben.keyboard.press("Tab");
  expect(await ben.evaluate(() => document.activeElement?.getAttribute("aria-label"))).toBe("Lines of soup.txt");
  await ben.keyboard.press("Shift+Tab");
  await ben.keyboard.press("Enter");
  await ben.getByTestId("blame").waitFor({ state: "detached" });
});
