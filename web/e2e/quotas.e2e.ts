/** A quota: an administrator sets a person's, who is refused by it in words and sees where they stand. */
import type { Page } from "playwright-core";
import { beforeAll, expect, it } from "vitest";
import { choosePassword, expectComplaint, invite, person, served, visitor } from "./world/people";
import { addRepository, farmShop } from "./world/repositories";
import { shoot } from "./world/shots";

let boss: Page;
let ada: Page;
let ada_login: string;

beforeAll(async () => {
  addRepository("vineyard", farmShop({ ticks: 1, pauseMs: 1 }));
  boss = await person("Dana Damson", { role: "admin" });
  const { login, path } = await invite("Ada Appleton");
  ada_login = login;
  ada = await visitor();
  await choosePassword(ada, path);
});

const form = () => boss.getByRole("form", { name: "Set quotas" });
const usage = (page: Page) => page.getByTestId("quota-usage").getByRole("listitem");

async function choose(who: string): Promise<void> {
  await boss.goto("/settings");
  await boss.getByRole("button", { name: "Set quotas" }).click();
  await boss.getByLabel("For", { exact: true }).selectOption(who);
}

it("the form takes numbers and one word, for one person", async () => {
  await choose(ada_login);
  await form().getByLabel("Prompts a day").fill("one");
  await boss.getByRole("button", { name: "Save quotas" }).click();
  expect(await form().getByLabel("Prompts a day").evaluate((field: HTMLInputElement) => field.validity.patternMismatch)).toBe(true);
  await form().getByLabel("Prompts a day").fill("1");
  await form().getByLabel("US dollars a month").fill("12.5");
  await form().scrollIntoViewIfNeeded();
  await shoot(boss, "quota-form");
  await boss.getByRole("button", { name: "Save quotas" }).click();
  await form().waitFor({ state: "detached" });
  await choose(ada_login);
  await expect.poll(() => form().getByLabel("Prompts a day").inputValue()).toBe("1");
  expect(await form().getByLabel("US dollars a month").inputValue()).toBe("12.5");
  expect(await form().getByLabel("Open sessions").inputValue()).toBe("");
});

it("the person has their one prompt, and the next is refused with how to go on", async () => {
  await ada.goto(served.origin);
  await ada.getByLabel("Repository").selectOption("vineyard");
  await ada.getByLabel("Prompt").fill("hello");
  await ada.keyboard.press("Control+Enter");
  await ada.waitForURL("**/sessions/*");
  await ada.locator("[data-testid=turn-end][data-outcome=completed]").waitFor();
  expectComplaint(/429/);
  await ada.getByLabel("Prompt").fill("hello again");
  await ada.keyboard.press("Enter");
  await ada.getByText("You sent 1 prompt today, and may send 1 a day.").waitFor();
  await ada.getByText(/It begins anew in .*; an admin can change it/).waitFor();
  await shoot(ada, "quota-refused");
  await ada.goto(served.origin);
  await ada.getByLabel("Repository").selectOption("vineyard");
  await ada.getByLabel("Prompt").fill("hello from another session");
  await ada.keyboard.press("Control+Enter");
  await ada.getByTestId("problem").getByText("person_quota_reached").waitFor();
  expect(await ada.getByLabel("Prompt").inputValue(), "nothing typed is lost").toBe("hello from another session");
  await shoot(ada, "quota-refused-new");
});

it("their settings say where they stand, and others are not concerned", async () => {
  await ada.goto("/settings");
  const prompts = usage(ada).filter({ hasText: "Prompts today" });
  await prompts.getByText("1 of 1").waitFor();
  await prompts.getByText("Begins anew").waitFor();
  expect(await ada.getByRole("button", { name: "Set quotas" }).count(), "for administrators").toBe(0);
  await ada.getByTestId("quota-usage").scrollIntoViewIfNeeded();
  await shoot(ada, "quota-usage");
  await boss.goto("/settings");
  await usage(boss).filter({ hasText: "Prompts today" }).getByText("no limit").waitFor();
});

it("without a limit the prompt goes through", async () => {
  await choose(ada_login);
  await form().getByLabel("Prompts a day").fill("unlimited");
  await boss.getByRole("button", { name: "Save quotas" }).click();
  await form().waitFor({ state: "detached" });
  await ada.goto(served.origin);
  await ada.getByLabel("Prompt").fill("hello at last");
  await ada.keyboard.press("Control+Enter");
  await ada.waitForURL("**/sessions/*");
});
