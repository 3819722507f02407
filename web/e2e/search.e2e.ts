/** Finding sessions by their words, and only those that one may see; archived ones leave the list and come back. */
import type { Page } from "playwright-core";
import { beforeAll, expect, it } from "vitest";
import { person, served } from "./world/people";
import { addRepository, farmShop } from "./world/repositories";
import { shoot } from "./world/shots";

let ada: Page;
let ben: Page;
let open: string;

beforeAll(async () => {
  addRepository("cellar", farmShop({ ticks: 1, pauseMs: 1 }));
  ada = await person("Ada Appleton");
  ben = await person("Ben Birnbaum");
});

const box = (page: Page) => page.getByRole("searchbox", { name: "Search sessions" });
const found = (page: Page) => page.getByTestId("found").getByRole("link");
const listed = (page: Page, words: string) => page.getByTestId("sessions").getByText(words);

async function ask(prompt: string): Promise<string> {
  await ada.goto(served.origin);
  await ada.getByLabel("Repository").selectOption("cellar");
  await ada.getByLabel("Prompt").fill(prompt);
  await ada.keyboard.press("Control+Enter");
  await ada.waitForURL("**/sessions/*");
  await ada.locator("[data-testid=turn-end][data-outcome=completed]").waitFor();
  return ada.url();
}

it("words of prompts and answers find their sessions, marked, and the slash key leads there", async () => {
  open = await ask("hello, is the quince jelly on its shelf?");
  const hidden = await ask("hello, is the quince brandy under the floor?");
  await ada.goto(`${hidden}?tab=details`);
  await ada.getByLabel("Open for").selectOption("none");
  await ada.getByText("Only participants, and administrators, can see it.").waitFor();
  await ada.goto(served.origin);
  await ada.getByRole("heading", { name: "Sessions", level: 2 }).first().click();
  await ada.keyboard.press("/");
  await ada.keyboard.type("quince");
  await expect.poll(() => found(ada).count()).toBe(2);
  const marks = ada.getByTestId("found").locator("mark");
  expect(new Set(await marks.allInnerTexts())).toEqual(new Set(["quince"]));
  await shoot(ada, "search");
});

it("what the asker may not see is not found", async () => {
  await box(ben).fill("quince");
  await expect.poll(() => found(ben).count()).toBe(1);
  expect(await found(ben).innerText()).toContain("jelly");
  await box(ben).fill("quince brandy");
  await ben.getByTestId("found").getByText("Nothing found").waitFor();
  await shoot(ben, "search-nothing");
  await box(ben).press("Escape");
  await listed(ben, "quince jelly").first().waitFor();
});

it("an archived session leaves everybody's list, is found as such, and comes back", async () => {
  await ada.goto(`${open}?tab=details`);
  await ada.getByRole("button", { name: "Archive this session" }).click();
  await ada.getByRole("button", { name: "Bring it back" }).waitFor();
  await listed(ben, "quince jelly").waitFor({ state: "detached" });
  await box(ben).fill("quince");
  await found(ben).getByText("archived").waitFor();
  await shoot(ben, "search-archived");
  await box(ben).press("Escape");
  await ben.getByRole("button", { name: "Archived" }).click();
  await ben.getByRole("heading", { name: "Archived sessions" }).waitFor();
  await listed(ben, "quince jelly").waitFor();
  await shoot(ben, "sessions-archived");
  await ben.getByRole("button", { name: "Show the others" }).click();
  await ada.getByRole("button", { name: "Bring it back" }).click();
  await ada.getByRole("button", { name: "Archive this session" }).waitFor();
  await listed(ben, "quince jelly").waitFor();
  await ben.getByRole("button", { name: "Archived" }).click();
  await ben.getByText("No archived session").waitFor();
  await shoot(ben, "sessions-none-archived");
});
