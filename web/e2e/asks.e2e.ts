/** The agent asks people: a question and leave to run a command, answered at the page by whoever takes part. */
import type { Page } from "playwright-core";
import { afterAll, beforeAll, expect, it } from "vitest";
import { accessible } from "./world/access";
import { installation, type Installation } from "./world/installation";
import { shoot } from "./world/shots";

let home: Installation;
let ada: Page;
let ben: Page;

beforeAll(async () => {
  home = await installation("--permissions", "ask bash git push *;ask bash touch *");
  home.addRepository("askery", { "README.md": "Orders.\n", ".greenroom/environment.toml": "# Nothing but what the machine has.\n" });
  ada = await home.person("Ada Appleton", "ada");
  ben = await home.person("Ben Birnbaum", "ben");
});
afterAll(() => home?.end());

const ended = (page: Page, count: number) => expect.poll(() => page.locator("[data-testid=turn-end][data-outcome=completed]").count()).toBe(count);
const open = (page: Page) => page.locator("[data-testid=ask][data-open=true]");
const prompt = async (text: string) => {
  await ada.getByLabel("Prompt", { exact: true }).fill(text);
  await ada.keyboard.press("Control+Enter");
};

it("a question is shown to everybody, and the list says that it waits", async () => {
  await ada.getByLabel("Repository").selectOption("askery");
  await prompt("ask what you need");
  await ada.waitForURL("**/sessions/*");
  await open(ada).getByText("Where should the orders be kept?").waitFor();
  expect(await ada.getByTestId("working").count(), "it does not look like work").toBe(0);
  await ben.goto(home.origin);
  await ben.locator("main [data-testid=session-status][data-status=asking]").waitFor();
  await shoot(ben, "sessions-asking");
  await ben.goto(ada.url());
  await open(ben).getByTestId("ask-left").getByText("10 min left").waitFor();
  await shoot(ben, "session-question");
});

it("it is answered with nothing but the keyboard, and the first answer counts", async () => {
  const answer = open(ben).getByRole("button", { name: "Answer" });
  expect(await answer.isDisabled(), "not before each question is answered").toBe(true);
  await open(ben).getByRole("radio", { name: "PostgreSQL" }).focus();
  await ben.keyboard.press("Space");
  await open(ben).getByRole("checkbox", { name: "Tests" }).focus();
  await ben.keyboard.press("Space");
  await ben.keyboard.press("Tab");
  await ben.keyboard.press("Space");
  await answer.focus();
  await ben.keyboard.press("Enter");
  for (const page of [ada, ben]) {
    await page.getByTestId("ask-end").getByText("Ben Birnbaum answered: Database: PostgreSQL · Checks: Tests; Linter").waitFor();
    await ended(page, 1);
    expect(await open(page).count()).toBe(0);
    expect(await page.getByTestId("tool-card").count(), "the question is no call beside its card").toBe(0);
  }
  await accessible(ada, "an answered question");
});

it("leave names the command, is denied with a reason, or given for the session", async () => {
  await prompt("run: cd . && touch leave.txt");
  await open(ada).getByText("touch leave.txt", { exact: true }).first().waitFor();
  await shoot(ada, "session-leave");
  await open(ada).getByLabel("What the agent should know").fill("not in this repository");
  await open(ada).getByRole("button", { name: "Deny" }).click();
  await ada.getByTestId("ask-end").getByText("Ada Appleton denied it: not in this repository").waitFor();
  await ended(ada, 2);

  await prompt("run: git push --dry-run");
  await open(ben).getByText("bash git push *").waitFor();
  await open(ben).getByRole("button", { name: "Always in this session" }).click();
  await ada.getByTestId("ask-end").getByText("Ben Birnbaum allowed it for this session.").waitFor();
  await ended(ada, 3);
  await prompt("run: git push --dry-run origin");
  await ended(ada, 4);
  expect(await open(ada).count(), "it is not asked again").toBe(0);
});

it("a stop ends the wait, and a page that is loaded again shows how it ended", async () => {
  await prompt("ask again");
  await open(ada).waitFor();
  await ada.reload();
  await open(ada).getByText("Where should the orders be kept?").waitFor();
  await ada.getByRole("button", { name: "Stop" }).click();
  await ada.getByTestId("ask-end").last().getByText("The turn ended before anybody answered.").waitFor();
  expect(await open(ada).count()).toBe(0);
});
