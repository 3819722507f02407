/** Two people and their browsers at one session: who is here, who types, what is typed where, what is new. */
import type { Page } from "playwright-core";
import { afterAll, beforeAll, expect, it } from "vitest";
import { accessible } from "./world/access";
import { network, type Network } from "./world/network";
import { choosePassword, expectComplaint, invite, PASSWORD, person, served, visitor } from "./world/people";
import { addRepository, farmShop } from "./world/repositories";
import { shoot } from "./world/shots";

let net: Network;
let ada: Page;
/** Another browser of hers. */
let phone: Page;
let ben: Page;

beforeAll(async () => {
  addRepository("meadow", farmShop({ ticks: 1, pauseMs: 1 }));
  const { login, path } = await invite("Ada Appleton");
  net = await network(served.origin);
  ada = await visitor({ proxy: net.address });
  await choosePassword(ada, path);
  phone = await visitor({ isPhone: true });
  await phone.goto("/sign-in");
  await phone.getByLabel("Login").fill(login);
  await phone.getByLabel("Password").fill(PASSWORD);
  await phone.getByRole("button", { name: "Sign in" }).click();
  await phone.getByRole("heading", { name: "What should be changed?" }).waitFor();
  ben = await person("Ben Birnbaum");
});

afterAll(() => net.close());

const box = (page: Page) => page.getByLabel("Prompt");
const live = (page: Page) => page.locator("[data-testid=connection][data-state=live]").waitFor();
const turns = (page: Page, count: number) => expect.poll(() => page.locator("[data-testid=turn-end][data-outcome=completed]").count()).toBe(count);

it("what is typed for a new session appears in one's other browser, and goes when it is sent", async () => {
  await ada.goto(served.origin);
  await ada.getByLabel("Repository").selectOption("meadow");
  await box(ada).pressSequentially("hello");
  await expect.poll(() => box(phone).inputValue()).toBe("hello");
  expect(await box(ben).inputValue(), "another person's box").toBe("");
  await ada.keyboard.press("Control+Enter");
  await ada.waitForURL("**/sessions/*");
  await turns(ada, 1);
  await expect.poll(() => box(phone).inputValue()).toBe("");
});

it("who opens the session is seen at once by who is there", async () => {
  expect(await ada.getByTestId("presence").count(), "alone").toBe(0);
  await ben.goto(ada.url());
  await live(ben);
  for (const page of [ada, ben]) await page.getByRole("button", { name: "2 people here" }).waitFor();
  await phone.goto(ada.url());
  await live(phone);
  await ada.getByRole("button", { name: "2 people here" }).click();
  await ada.getByTestId("present-person").getByText("Ben Birnbaum").waitFor();
  expect(await ada.getByTestId("present-person").count(), "two browsers are one person").toBe(2);
  await accessible(ada, "people here");
  await shoot(ada, "session-people");
  await ada.keyboard.press("Escape");
});

it("typing is seen by the other person, the text only by oneself", async () => {
  await box(ada).pressSequentially("half a sentence");
  await ben.getByTestId("typing").getByText("Ada Appleton is typing").waitFor();
  expect(await ada.getByTestId("typing").count(), "not told to oneself").toBe(0);
  await shoot(ben, "session-typing");
  await expect.poll(() => box(phone).inputValue()).toBe("half a sentence");
  expect(await box(ben).inputValue()).toBe("");
  // It passes by itself.
  await ben.getByTestId("typing").waitFor({ state: "detached" });
});

it("a draft is there when the session is opened elsewhere, and edited there it comes back", async () => {
  await phone.reload();
  await expect.poll(() => box(phone).inputValue()).toBe("half a sentence");
  await box(phone).fill("hello from the phone");
  await expect.poll(() => box(ada).inputValue()).toBe("hello from the phone");
  await phone.getByRole("button", { name: "Send" }).click();
  await turns(ada, 2);
  for (const page of [ada, phone]) await expect.poll(() => box(page).inputValue()).toBe("");
});

it("who has seen the end is said, and what came while one was away is marked", async () => {
  await ada.getByTestId("seen-by").getByText("Seen by Ben Birnbaum").waitFor();
  await ben.goto(served.origin);
  const line = ben.getByTestId("sessions").locator("li").first();
  await line.waitFor();
  expect(await line.getByTestId("news-dot").count(), "all is read").toBe(0);
  await ada.getByRole("button", { name: "2 people here" }).waitFor({ state: "detached" });
  await box(ada).fill("hello again");
  await ada.keyboard.press("Enter");
  await turns(ada, 3);
  await line.getByTestId("news-dot").waitFor();
  await shoot(ben, "sessions-news");
  await line.getByRole("link").click();
  await turns(ben, 3);
  expect(await ben.getByTestId("new-mark").count()).toBe(1);
  const after = ben.getByTestId("new-mark").locator("xpath=following::*[@data-testid='prompt']");
  expect(await after.allInnerTexts()).toEqual([expect.stringContaining("hello again")]);
  await shoot(ben, "session-new-mark");
  await ben.goto(served.origin);
  await ben.getByTestId("sessions").waitFor();
  await expect.poll(() => ben.getByTestId("sessions").getByTestId("news-dot").count()).toBe(0);
});

it("two browsers that type apart lose nothing: one text wins, the other is offered", async () => {
  const session = ada.url();
  await phone.goto(served.origin);
  await ada.goto(session);
  await live(ada);
  expectComplaint(/ERR_|WebSocket/);
  net.cut();
  await ada.locator("[data-testid=connection][data-state=waiting]").waitFor();
  await box(ada).fill("typed in the train");
  await phone.goto(session);
  await live(phone);
  await box(phone).fill("typed on the phone");
  await expect.poll(async () => (await phone.evaluate((id) => fetch(`/api/v1/sessions/${id}/draft`).then((answer) => answer.json()), session.split("/").at(-1))).text).toBe("typed on the phone");
  net.mend();
  await ada.getByTestId("draft-offer").getByText("typed in the train").waitFor();
  expect(await box(ada).inputValue()).toBe("typed on the phone");
  await shoot(ada, "session-draft-offer");
  await ada.getByRole("button", { name: "Put it back" }).click();
  await expect.poll(() => box(phone).inputValue()).toBe("typed in the train");
});

it("who signs out is gone at once", async () => {
  expectComplaint(/401|WebSocket/);
  await ben.goto(ada.url());
  await live(ben);
  await ada.getByRole("button", { name: "2 people here" }).waitFor();
  await ben.evaluate(() => fetch("/api/v1/sign-out", { method: "POST", headers: { "X-Greenroom": "1" } }));
  await ada.getByRole("button", { name: "2 people here" }).waitFor({ state: "detached" });
});
