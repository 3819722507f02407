/** A session that is private, and the links that let another person in: to look, to take part, and not any more. */
import type { Page } from "playwright-core";
import { beforeAll, expect, it } from "vitest";
import { accessible } from "./world/access";
import { choosePassword, expectComplaint, invite, PASSWORD, person, served, visitor } from "./world/people";
import { addRepository, farmShop } from "./world/repositories";
import { shoot } from "./world/shots";

let ada: Page;
let ben: Page;
let ben_login: string;
let details: string;

beforeAll(async () => {
  addRepository("hedge", farmShop({ ticks: 1, pauseMs: 1 }));
  ada = await person("Ada Appleton");
  const { login, path } = await invite("Ben Birnbaum");
  ben_login = login;
  ben = await visitor();
  await choosePassword(ben, path);
});

const live = (page: Page) => page.locator("[data-testid=connection][data-state=live]").waitFor();
const problem = (page: Page, text: string | RegExp) => page.getByTestId("problem").getByText(text).first().waitFor();

/** Answers the address of a new link. */
async function makeLink(kind: string): Promise<string> {
  const before = await ada.getByTestId("share-link").locator("pre").allInnerTexts();
  await ada.getByLabel("What for").selectOption(kind);
  await ada.getByRole("button", { name: "Make link" }).click();
  await expect.poll(async () => (await ada.getByTestId("share-link").locator("pre").allInnerTexts()).join() !== before.join()).toBe(true);
  return ada.getByTestId("share-link").locator("pre").innerText();
}

it("a session that is made private leaves others' lists and is not there for them", async () => {
  await ada.goto(served.origin);
  await ada.getByLabel("Repository").selectOption("hedge");
  await ada.getByLabel("Prompt").fill("hello behind the hedge");
  await ada.keyboard.press("Control+Enter");
  await ada.waitForURL("**/sessions/*");
  details = `${ada.url()}?tab=details`;
  await ada.locator("[data-testid=turn-end][data-outcome=completed]").waitFor();
  const line = ben.locator("main").getByText("hello behind the hedge");
  await line.first().waitFor();
  await ada.goto(details);
  await ada.getByLabel("Open for").selectOption("none");
  await line.first().waitFor({ state: "detached" });
  await ada.getByText("Only participants, and administrators, can see it.").waitFor();
  expectComplaint(/404/);
  expectComplaint(/WebSocket/);
  await ben.goto(details);
  await problem(ben, "There is no such session.");
  await ben.goto(served.origin);
});

it("a link to look leads over the sign-in to a page that only shows", async () => {
  // What Ben's page still asked for.
  expectComplaint(/404/);
  const link = await makeLink("view");
  expect(new URL(link).hash.length, "no server sees what is behind it").toBeGreaterThan(40);
  await accessible(ada, "people and links");
  await shoot(ada, "session-sharing");
  // In a browser that is not signed in.
  const elsewhere = await visitor();
  await elsewhere.goto(link);
  await elsewhere.getByLabel("Login").fill(ben_login);
  expect(elsewhere.url(), "the secret has left the address").not.toContain(new URL(link).hash.slice(1));
  await elsewhere.getByLabel("Password").fill(PASSWORD);
  await elsewhere.getByRole("button", { name: "Sign in" }).click();
  await elsewhere.waitForURL("**/sessions/*");
  await elsewhere.getByText("You can look at this session, not take part in it. Ask Ada Appleton").waitFor();
  expect(await elsewhere.getByLabel("Prompt").count(), "no prompt box").toBe(0);
  expect(await elsewhere.getByRole("button", { name: "Fork from here" }).count()).toBe(0);
  await elsewhere.getByTestId("assistant-text").getByText("I am a script that stands in for a model").waitFor();
  await shoot(elsewhere, "session-looking");
  expectComplaint(/403/);
  const status = await elsewhere.evaluate(async () => {
    const id = location.pathname.split("/").at(-1);
    const body = JSON.stringify({ key: "by-hand", command: { type: "prompt", text: "let me" } });
    const headers = { "X-Greenroom": "1", "Content-Type": "application/json" };
    const answer = await fetch(`/api/v1/sessions/${id}/commands`, { method: "POST", headers, body });
    const told = await answer.json();
    return (told.error ?? told.problem)?.code;
  });
  expect(status, "the server says so too").toBe("not_allowed");
  await elsewhere.goto("about:blank");
});

it("a link to take part gives the prompt box, and what is asked is seen by both", async () => {
  const link = await makeLink("take_part");
  await ben.goto(link);
  await ben.waitForURL("**/sessions/*");
  await live(ben);
  await ada.getByTestId("participants").getByText("Ben Birnbaum").first().waitFor();
  await ben.getByLabel("Prompt").fill("hello, may I?");
  await ben.keyboard.press("Enter");
  for (const page of [ada, ben]) await page.getByTestId("prompt").getByText("hello, may I?").waitFor();
  await expect.poll(() => ben.locator("[data-testid=turn-end][data-outcome=completed]").count()).toBe(2);
});

it("who is here only by links is out at once when they are revoked, and is told why", async () => {
  expectComplaint(/404/);
  for (let left = 2; left > 0; left -= 1) {
    await ada.getByTestId("share-links").getByRole("button", { name: "Revoke" }).first().click();
    await expect.poll(() => ada.getByTestId("share-links").getByRole("button", { name: "Revoke" }).count()).toBe(left - 1);
  }
  await ben.locator("[data-testid=connection][data-state=refused]").waitFor();
  await problem(ben, "The session was deleted, or you take no part in it any more.");
  expect(await ben.getByLabel("Prompt").count(), "no prompt box").toBe(0);
  await ada.getByTestId("participants").getByText("Ben Birnbaum").first().waitFor({ state: "detached" });
  await shoot(ben, "session-revoked");
});

it("an owner adds somebody for good, and makes them less", async () => {
  await ada.getByLabel("Person", { exact: true }).selectOption({ label: `Ben Birnbaum (${ben_login})` });
  await ada.getByRole("button", { name: "Add", exact: true }).click();
  await ada.getByTestId("participants").getByText("Ben Birnbaum").first().waitFor();
  await ben.goto(details.replace(/\?.*/, ""));
  await live(ben);
  await ben.getByLabel("Prompt").waitFor();
  await ada.getByLabel("Role of Ben Birnbaum").selectOption("viewer");
  await ben.getByTestId("looking-only").waitFor();
  expect(await ben.getByLabel("Prompt").count()).toBe(0);
});
