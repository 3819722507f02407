/** The whole loop through the page: a prompt, live work in two browsers, a change, its review by another, the merge. */
import type { Page } from "playwright-core";
import { beforeAll, expect, it } from "vitest";
import { admin, choosePassword, served, visitor } from "./world/people";
import { addRepository, BROKEN, farmShop, FIXED, withClone } from "./world/repositories";
import { shoot } from "./world/shots";

const PROMPT = "make the failing test pass";
// A name with a dot: its page's address looks like that of a file.
const REPOSITORY = "farm.shop";
let asker: Page;
let reviewer: Page;
let session: string;

beforeAll(async () => {
  addRepository(REPOSITORY, farmShop({ ticks: 12, pauseMs: 100 }));
  asker = await visitor();
  reviewer = await visitor();
});

const link = (name: string): string => {
  const found = served.links[name];
  if (!found) throw new Error(`the demo printed no link for ${name}`);
  return found;
};
const card = (page: Page, tool: string) => page.locator(`[data-testid=tool-card][data-tool=${tool}]`);

it("a one-time link lets each of the two choose a password, and shows the sessions", async () => {
  await asker.goto(link("Demo Asker"));
  await shoot(asker, "choose-password");
  await choosePassword(asker, link("Demo Asker"));
  await choosePassword(reviewer, link("Demo Reviewer"));
  await asker.getByTestId("sessions").getByText(PROMPT, { exact: false }).first().waitFor();
  await shoot(asker, "sessions");
});

it("the repository is listed with its environment ready and its build's output", async () => {
  await asker.getByRole("link", { name: "Repositories" }).click();
  await asker.getByTestId("repositories").getByText(REPOSITORY, { exact: true }).click();
  await asker.locator("[data-testid=image][data-state=ready]").waitFor();
  await asker.getByTestId("build-log").getByText("The orchard is ready").waitFor();
  await shoot(asker, "repository");
  await asker.reload();
  await asker.getByRole("heading", { name: REPOSITORY }).waitFor();
  await asker.getByRole("link", { name: "New session" }).last().click();
});

it("a prompt starts a session that both see live at the same time", async () => {
  await asker.getByLabel("Repository").selectOption(REPOSITORY);
  await asker.getByLabel("Prompt").fill(PROMPT);
  await asker.getByRole("button", { name: "Send" }).click();
  await asker.waitForURL("**/sessions/*");
  session = asker.url();
  await reviewer.goto(session);
  for (const page of [asker, reviewer]) {
    await page.locator("[data-testid=connection][data-state=live]").waitFor();
    await page.getByTestId("prompt").getByText("Demo Asker").waitFor();
    await page.getByTestId("live-output").getByText("weighing crate").waitFor();
    await page.getByRole("button", { name: "Stop" }).waitFor();
  }
  await shoot(asker, "session-live");
});

it("the turn ends in both browsers with the same conversation", async () => {
  for (const page of [asker, reviewer]) {
    await page.locator("[data-testid=turn-end][data-outcome=completed]").waitFor({ timeout: 40_000 });
    await page.getByTestId("change-opened").waitFor();
    await page.getByTestId("start-timeline").waitFor();
  }
  const told = await Promise.all([asker, reviewer].map((page) => page.getByTestId("assistant-text").allInnerTexts()));
  expect(told[0]).toEqual(told[1]);
  expect(told[0]?.at(-1)).toContain(FIXED);
});

it("tool cards show what was read, run and edited", async () => {
  expect(await card(asker, "glob").count()).toBeGreaterThan(0);
  const run = card(asker, "bash").first();
  await run.getByRole("button").first().click();
  await run.getByTestId("tool-output").getByText("AssertionError: 253 != 750").waitFor();
  await run.getByText("Exit status 1.").waitFor();
  const edit = card(asker, "edit").last();
  await edit.getByRole("button").first().click();
  await edit.getByText(FIXED).waitFor();
  await edit.scrollIntoViewIfNeeded();
  await shoot(asker, "session-tools");
});

it("the diff of the working tree is beside the conversation", async () => {
  await asker.getByRole("tab", { name: "Diff" }).click();
  const panel = asker.getByRole("tabpanel", { name: "Diff" });
  await panel.getByText("pricing.py").waitFor();
  await panel.getByText(FIXED).waitFor();
  await shoot(asker, "session-diff");
  await asker.getByRole("tab", { name: "Details" }).click();
  await asker.getByTestId("session-facts").waitFor();
  await shoot(asker, "session-details");
  await asker.getByRole("tab", { name: "Conversation" }).click();
});

it("whoever asked cannot approve, and is told why", async () => {
  const page = await asker.context().newPage();
  await page.goto(session);
  await page.getByTestId("change-opened").click();
  await page.waitForURL("**/changes/*");
  expect(await page.getByRole("button", { name: "Approve" }).isDisabled()).toBe(true);
  await page.getByText("Your own work is in this change: another person must approve it.").waitFor();
  expect(await page.getByRole("button", { name: "Merge" }).isDisabled()).toBe(true);
  await page.getByText(/1 more approval is needed/).waitFor();
  expect(await page.getByTestId("commit").innerText()).toContain("Demo Asker");
  await page.getByTestId("file-diff").getByText(FIXED).waitFor();
  await shoot(page, "change-own");
  await page.close();
});

it("the other approves and merges it, and the first page says so without being asked", async () => {
  await reviewer.getByTestId("change-opened").click();
  await reviewer.getByRole("button", { name: "Approve" }).click();
  await reviewer.getByTestId("review-state").getByText("Approved: 1 of 1 needed.").waitFor();
  await asker.getByTestId("change-approved").getByText("Approved by Demo Reviewer").waitFor();
  await reviewer.getByRole("button", { name: "Merge" }).click();
  await reviewer.getByTestId("review-state").getByText(/^Merged as /).waitFor();
  await asker.getByTestId("change-merged").getByText("Merged by Demo Reviewer").waitFor();
  await asker.getByRole("tab", { name: "Change" }).click();
  await asker.getByTestId("review-state").getByText(/^Merged as /).waitFor();
  await shoot(reviewer, "change-merged");
  await shoot(asker, "session-merged");
});

it("an ordinary clone holds the fix, in the name of the one who asked", async () => {
  const { secret, login } = await admin("/tokens", { name: "clone" });
  withClone(REPOSITORY, login, secret, ({ git, read }) => {
    expect(read("pricing.py")).toContain(FIXED);
    expect(read("pricing.py")).not.toContain(BROKEN);
    const authors = git("log", "--no-merges", "-1", "--format=%an <%ae>", "--", "pricing.py");
    expect(authors).toBe("Demo Asker <asker@demo.invalid>");
  });
});

it("the lists say that it is merged", async () => {
  await asker.goto("/changes");
  await asker.getByTestId("changes").getByText("Merged").first().waitFor();
  await shoot(asker, "changes");
  await asker.goto("/");
  await asker.getByTestId("sessions").getByText(REPOSITORY).first().waitFor();
});
