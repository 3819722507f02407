/** The main paths with nothing but the keyboard: ask, fork, approve and merge, look at the machine. */
import type { Locator, Page } from "playwright-core";
import { beforeAll, expect, it } from "vitest";
import { person } from "./world/people";
import { addRepository, farmShop } from "./world/repositories";
import { shoot } from "./world/shots";

const REPOSITORY = "keys";
/** More stops than any page has before what is looked for. */
const STOPS = 80;
let ada: Page;
let session: string;

beforeAll(async () => {
  addRepository(REPOSITORY, farmShop({ ticks: 2, pauseMs: 10 }));
  ada = await person("Ada Keys");
});

/** Tab by tab from where the page is; whoever goes this way must see where they are. */
async function tabTo(page: Page, wanted: Locator): Promise<void> {
  for (let stop = 0; stop < STOPS; stop++) {
    await page.keyboard.press("Tab");
    const focused = await page.evaluate(() => {
      const element = document.activeElement;
      if (!element || element === document.body) return null;
      const box = element.getBoundingClientRect();
      // A field's border is on what holds it.
      const around = [element, element.closest("form")].flatMap((found) => (found ? [getComputedStyle(found)] : []));
      const isMarked = around.some((style) => (style.outlineStyle !== "none" && parseFloat(style.outlineWidth) > 0) || style.boxShadow !== "none");
      return { name: element.outerHTML.slice(0, 160), isShown: box.width > 0 && box.height > 0, isMarked };
    });
    if (focused) expect(focused, "where the keyboard is").toMatchObject({ isShown: true, isMarked: true });
    if (await wanted.evaluateAll((elements) => elements.some((element) => element === document.activeElement))) return;
  }
  throw new Error(`${STOPS} stops do not reach ${wanted}`);
}

/** On the platform's own way: a link or a button by Enter. */
async function press(page: Page, wanted: Locator): Promise<void> {
  await wanted.first().waitFor();
  await tabTo(page, wanted);
  await page.keyboard.press("Enter");
}

it("the first stop leads past the sidebar", async () => {
  await ada.goto("/");
  await ada.getByRole("heading", { name: "What should be changed?" }).waitFor();
  await ada.keyboard.press("Tab");
  await ada.getByRole("link", { name: "Skip to content" }).waitFor();
  await ada.keyboard.press("Enter");
  await ada.keyboard.press("Tab");
  const isInside = await ada.evaluate(() => document.querySelector("main")?.contains(document.activeElement));
  expect(isInside).toBe(true);
});

it("a session is asked for and its change opened", async () => {
  await ada.goto(`/?repository=${REPOSITORY}`);
  await ada.getByLabel("Prompt").waitFor();
  await tabTo(ada, ada.getByLabel("Prompt"));
  await ada.keyboard.type("make the failing test pass");
  await press(ada, ada.getByRole("button", { name: "Send" }));
  await ada.waitForURL("**/sessions/*");
  session = ada.url();
  await ada.locator("[data-testid=turn-end][data-outcome=completed]").waitFor({ timeout: 40_000 });
});

it("the views of a session are reached by arrow keys", async () => {
  await tabTo(ada, ada.getByRole("tab", { selected: true }));
  await ada.keyboard.press("End");
  await ada.getByTestId("session-facts").waitFor();
  await ada.keyboard.press("ArrowLeft");
  await ada.getByRole("tabpanel", { name: "Change" }).waitFor();
});

it("somebody else approves and merges", async () => {
  const ben = await person("Ben Keys");
  await ben.goto(session);
  await press(ben, ben.getByTestId("change-opened"));
  await ben.waitForURL("**/changes/*");
  await press(ben, ben.getByRole("button", { name: "Approve" }));
  await ben.getByTestId("review-state").getByText(/Approved by Ben Keys/).or(ben.getByText(/Ben Keys/)).first().waitFor();
  await expect.poll(() => ben.getByRole("button", { name: "Merge" }).isEnabled()).toBe(true);
  await press(ben, ben.getByRole("button", { name: "Merge" }));
  await ben.getByTestId("action-result").waitFor();
  await ben.getByText("Merged", { exact: false }).first().waitFor();
});

it("an ended turn is forked", async () => {
  await ada.goto(session);
  await press(ada, ada.getByRole("button", { name: "Fork from here" }));
  await ada.getByTestId("forked-from").waitFor();
});

it("settings and the machine are reached from the account", async () => {
  await ada.goto("/");
  await ada.getByRole("heading", { name: "What should be changed?" }).waitFor();
  await press(ada, ada.locator("button:visible", { hasText: "Account of" }));
  await press(ada, ada.getByRole("link", { name: "Settings" }));
  await ada.getByRole("heading", { name: "Settings" }).waitFor();
  await press(ada, ada.getByRole("link", { name: /what the machine can do/ }));
  await ada.getByTestId("capabilities").getByRole("listitem").first().waitFor();
  await shoot(ada, "machine-member");
});
