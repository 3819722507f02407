/** While a turn runs: prompts that wait, a network that breaks, and the stop button, seen from two browsers. */
import type { Page } from "playwright-core";
import { afterAll, beforeAll, expect, it } from "vitest";
import { network, type Network } from "./world/network";
import { expectComplaint, person, served } from "./world/people";
import { addRepository, farmShop } from "./world/repositories";
import { shoot } from "./world/shots";

const LONG_TITLE = "make the failing test pass, and keep in mind that every_crate_of_the_orchard_is_weighed_before_it_is_sold so this takes a while";
let net: Network;
let ada: Page;
let ben: Page;

beforeAll(async () => {
  addRepository("orchard", farmShop({ ticks: 5000, pauseMs: 40 }));
  net = await network(served.origin);
  ada = await person("Ada Appleton", { proxy: net.address });
  ben = await person("Ben Birnbaum");
});
afterAll(() => net.close());

const crates = async (page: Page): Promise<number[]> => {
  const text = await page.getByTestId("live-output").last().innerText();
  return [...text.matchAll(/weighing crate (\d+)/g)].map((match) => Number(match[1]));
};
const upTo = (end: number) => Array.from({ length: end }, (_, index) => index + 1);
const live = (page: Page) => page.locator("[data-testid=connection][data-state=live]").waitFor();

it("a prompt is sent with nothing but the keyboard", async () => {
  await ada.goto(served.origin);
  await ada.getByLabel("Repository").selectOption("orchard");
  await ada.getByLabel("Prompt").focus();
  await ada.keyboard.type("hello");
  await ada.keyboard.press("Control+Enter");
  await ada.waitForURL("**/sessions/*");
  await ada.locator("[data-testid=turn-end][data-outcome=completed]").waitFor();
  await ada.getByTestId("assistant-text").getByText("I am a script that stands in for a model").waitFor();
});

it("someone who was there before sees the next prompt and its output as it comes", async () => {
  await ben.goto(ada.url());
  await live(ben);
  await ben.getByTestId("assistant-text").waitFor();
  await ada.getByLabel("Prompt").focus();
  await ada.keyboard.type(LONG_TITLE);
  await ada.keyboard.press("Enter");
  for (const page of [ada, ben]) {
    await page.getByTestId("prompt").getByText(LONG_TITLE).waitFor();
    await expect.poll(async () => (await crates(page)).length, { timeout: 15_000 }).toBeGreaterThan(5);
  }
  await ben.locator("aside [aria-current=page]").locator("[data-testid=session-status][data-status=running]").waitFor();
  await shoot(ada, "session-running");
});

it("a second prompt waits, can be changed by its author and withdrawn", async () => {
  await ben.getByLabel("Prompt").fill("then weigh the pears");
  await ben.keyboard.press("Enter");
  const waiting = ada.getByTestId("queued-prompt");
  await waiting.getByText("then weigh the pears").waitFor();
  expect(await waiting.getByRole("button", { name: "Edit while it waits" }).count(), "not hers to edit").toBe(0);
  await ben.getByRole("button", { name: "Edit while it waits" }).click();
  await ben.getByLabel("Edit", { exact: true }).fill("then weigh the plums");
  await ben.getByRole("button", { name: "Save" }).click();
  await waiting.getByText("then weigh the plums").waitFor();
  await shoot(ben, "session-queue");
  await ben.getByRole("button", { name: "Withdraw" }).click();
  await waiting.waitFor({ state: "detached" });
});

it("waiting prompts change places by buttons and by keyboard, and not against the rules", async () => {
  const texts = (page: Page) => page.getByTestId("queued-prompt").locator("p.whitespace-pre-wrap").allInnerTexts();
  const row = (page: Page, text: string) => page.getByTestId("queued-prompt").filter({ hasText: text });
  for (const [page, text] of [[ben, "plums"], [ada, "apples"], [ben, "pears"], [ben, "quinces"]] as const) {
    await page.getByLabel("Prompt").fill(text);
    await page.keyboard.press("Enter");
    await row(ada, text).waitFor();
  }
  await expect.poll(() => texts(ben)).toEqual(["plums", "apples", "pears", "quinces"]);
  expect(await row(ben, "pears").getByRole("button", { name: "Move up" }).isDisabled(), "not ahead of hers").toBe(true);
  expect(await row(ben, "apples").getByRole("button", { name: "Move" }).count(), "hers").toBe(0);
  await row(ben, "quinces").getByRole("button", { name: "Move up" }).click();
  for (const page of [ada, ben]) await expect.poll(() => texts(page)).toEqual(["plums", "apples", "quinces", "pears"]);
  await row(ben, "plums").getByRole("button", { name: "Move down" }).focus();
  for (const order of [["apples", "plums", "quinces", "pears"], ["apples", "quinces", "plums", "pears"]]) {
    await ben.keyboard.press("Alt+ArrowDown");
    await expect.poll(() => texts(ben)).toEqual(order);
    await expect.poll(() => row(ben, "plums").locator(":focus").count(), { message: "the keyboard stays with it" }).toBe(1);
  }
  await row(ben, "pears").getByRole("button", { name: "Join the running turn" }).click();
  await ada.locator("[data-testid=queued-prompt][data-delivery=insert]").getByText("pears").waitFor();
  await shoot(ben, "session-queue-order");
  for (const [page, text] of [[ben, "plums"], [ben, "pears"], [ben, "quinces"], [ada, "apples"]] as const) {
    await row(page, text).getByRole("button", { name: "Withdraw" }).click();
    await row(page, text).waitFor({ state: "detached" });
  }
});

it("a broken network loses nothing and repeats nothing", async () => {
  expectComplaint(/ERR_|WebSocket/);
  net.cut();
  await ada.locator("[data-testid=connection][data-state=waiting]").waitFor();
  await shoot(ada, "session-offline");
  await ada.getByLabel("Prompt").fill("sent while offline");
  await ada.getByRole("button", { name: "Send" }).click();
  const seen = (await crates(ben)).length;
  await expect.poll(async () => (await crates(ben)).length).toBeGreaterThan(seen + 20);
  net.mend();
  await live(ada);
  await expect.poll(async () => (await crates(ada)).length).toBeGreaterThan(seen + 20);
  for (const page of [ada, ben]) {
    const numbers = await crates(page);
    expect(numbers).toEqual(upTo(numbers.length));
    await page.getByTestId("queued-prompt").getByText("sent while offline").waitFor();
    expect(await page.getByTestId("queued-prompt").count()).toBe(1);
  }
  expect(await ada.getByTestId("prompt").count()).toBe(2);
  expect(await ada.getByTestId("tool-card").count()).toBe(await ben.getByTestId("tool-card").count());
  await ada.getByRole("button", { name: "Withdraw" }).click();
  await ben.getByTestId("queued-prompt").waitFor({ state: "detached" });
});

it("a page that is loaded again shows the running turn from its beginning", async () => {
  await ada.reload();
  await live(ada);
  await expect.poll(async () => (await crates(ada)).length).toBeGreaterThan(20);
  const numbers = await crates(ada);
  expect(numbers).toEqual(upTo(numbers.length));
});

it("the stop button ends the turn at once, for everyone", async () => {
  await ada.getByRole("button", { name: "Stop" }).click();
  for (const page of [ada, ben]) {
    await page.locator("[data-testid=turn-end][data-outcome=stopped]").waitFor();
    await page.locator("[data-testid=tool-card][data-tool=bash][data-outcome=cancelled]").waitFor();
    await page.getByTestId("notice").getByText("Ada Appleton").waitFor();
    expect(await page.getByRole("button", { name: "Stop" }).count()).toBe(0);
  }
  await shoot(ben, "session-stopped");
});

it("a stopped session takes the next prompt", async () => {
  await ben.getByLabel("Prompt").fill("hello again");
  await ben.keyboard.press("Enter");
  await expect.poll(() => ada.locator("[data-testid=turn-end][data-outcome=completed]").count()).toBe(2);
});

it("a stop can hold back what waits, and whoever may prompt releases it", async () => {
  await ada.getByLabel("Prompt").fill(LONG_TITLE);
  await ada.keyboard.press("Enter");
  await ada.getByTestId("live-output").waitFor();
  await ben.getByLabel("Prompt").fill("hello for later");
  await ben.keyboard.press("Enter");
  await ada.getByTestId("queued-prompt").getByText("hello for later").waitFor();
  await ada.getByRole("button", { name: "Stop and hold" }).click();
  for (const page of [ada, ben]) {
    await expect.poll(() => page.locator("[data-testid=turn-end][data-outcome=stopped]").count()).toBe(2);
    await page.locator("[data-testid=queued-prompt][data-held]").waitFor();
    await page.getByTestId("notice").getByText("Ada Appleton held back").waitFor();
    expect(await page.getByRole("button", { name: "Stop" }).count()).toBe(0);
  }
  await shoot(ben, "session-held");
  await ben.getByRole("button", { name: "Release" }).click();
  await expect.poll(() => ada.locator("[data-testid=turn-end][data-outcome=completed]").count()).toBe(3);
  expect(await ada.getByTestId("queue").count()).toBe(0);
});

it("a session is renamed, for everyone", async () => {
  await ada.getByRole("tab", { name: "Details" }).click();
  await ada.getByRole("button", { name: "Rename" }).click();
  await ada.getByLabel("Title").fill("Weigh the whole orchard");
  await ada.keyboard.press("Enter");
  await ben.getByRole("heading", { name: "Weigh the whole orchard" }).waitFor();
  await ada.getByRole("tab", { name: "Conversation" }).click();
});
