/** Sessions that a session's agent begins: on the page of their parent and their own, in lists, and when they are stopped. */
import type { Page } from "playwright-core";
import { afterAll, beforeAll, expect, it } from "vitest";
import { type Installation, installation } from "./world/installation";
import { shoot } from "./world/shots";

let here: Installation;
let ada: Page;

beforeAll(async () => {
  here = await installation();
  here.addRepository("orchard", { ".greenroom/environment.toml": "# Nothing but what the machine has.\n", "a.txt": "a\n" });
  ada = await here.person("Ada Appleton", "ada");
});

afterAll(() => here.end());

const family = () => ada.getByRole("region", { name: "Sessions of this work" });
/** By the beginning of its title: the parent's title holds its children's prompts. */
const line = (title: string) => family().getByRole("link", { name: new RegExp(`^${title}`) });

it("the page of a session shows those that it began, as they come and end", async () => {
  await ada.getByLabel("Repository").selectOption("orchard");
  await ada.getByLabel("Prompt").fill("begin: climb the pear tree slowly | count the apples");
  await ada.keyboard.press("Control+Enter");
  await ada.waitForURL("**/sessions/*");
  await ada.locator("[data-testid=turn-end][data-outcome=completed]").waitFor();
  expect(await ada.getByText("A session was begun in orchard: ").count()).toBe(2);
  await ada.getByText("A session that was begun here has done its work.").waitFor();
  await ada.goto(`${ada.url()}?tab=details`);
  await line("climb the pear tree slowly").locator("[data-status=running]").waitFor();
  await line("count the apples").locator("[data-status=idle]").waitFor();
  await family().scrollIntoViewIfNeeded();
  await shoot(ada, "session-family");
});

it("a child leads back to its parent, and is marked in lists", async () => {
  const parent = ada.url();
  await line("count the apples").click();
  await ada.getByTestId("parent-link").getByText("begin: climb").waitFor();
  await shoot(ada, "session-child");
  await ada.getByTestId("parent-link").click();
  await ada.waitForURL(new URL(parent).pathname.replace(/^/, "**"));
  await ada.goto(here.origin);
  const rows = ada.getByTestId("sessions").getByRole("listitem");
  await expect.poll(() => rows.getByTestId("child-mark").count()).toBe(2);
  await shoot(ada, "home-children");
  await ada.goto(parent);
});

it("who archives a session is asked what becomes of its children, and has them stopped", async () => {
  const asked = ada.getByRole("region", { name: "Archive" }).getByRole("group", { name: "Sessions begun here" });
  await asked.getByText("A session that was begun here is at work.").waitFor();
  await asked.scrollIntoViewIfNeeded();
  await shoot(ada, "session-archive-children");
  await asked.getByRole("button", { name: "Stop them" }).click();
  await asked.waitFor({ state: "detached" });
  await line("climb the pear tree slowly").locator("[data-status=idle]").waitFor();
  await ada.getByRole("button", { name: "Archive this session" }).click();
  await ada.getByRole("button", { name: "Bring it back" }).waitFor();
});
