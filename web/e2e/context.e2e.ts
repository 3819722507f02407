/** What the model sees of a conversation: the panel, a summary that a person asks for, and its line in the conversation. */
import type { Page } from "playwright-core";
import { beforeAll, expect, it } from "vitest";
import { accessible } from "./world/access";
import { person, served } from "./world/people";
import { addRepository, farmShop } from "./world/repositories";
import { shoot } from "./world/shots";

let ada: Page;

beforeAll(async () => {
  addRepository("pantry", farmShop({ ticks: 1, pauseMs: 1 }));
  ada = await person("Ada Appleton");
});

const ended = (page: Page, count: number) => expect.poll(() => page.locator("[data-testid=turn-end][data-outcome=completed]").count()).toBe(count);

it("the panel shows the parts of what the model sees", async () => {
  await ada.goto(served.origin);
  await ada.getByLabel("Repository").selectOption("pantry");
  await ada.getByLabel("Prompt").fill("hello");
  await ada.keyboard.press("Control+Enter");
  await ada.waitForURL("**/sessions/*");
  await ended(ada, 1);
  await ada.getByRole("tab", { name: "Details" }).click();
  const panel = ada.getByTestId("context");
  await panel.getByText("What the model sees").click();
  await panel.getByRole("cell", { name: "System prompt" }).waitFor();
  await panel.getByText("What sending it costs is not known for this model.").waitFor();
  await panel.getByRole("cell", { name: "Next request" }).scrollIntoViewIfNeeded();
  await shoot(ada, "session-context");
});

it("a summary is asked for, is one line of the conversation, and unfolds by keyboard", async () => {
  await ada.getByRole("button", { name: "Summarise now" }).click();
  await ended(ada, 2);
  await ada.getByTestId("context").getByRole("cell", { name: "Summary" }).waitFor();
  await ada.getByRole("tab", { name: "Conversation" }).click();
  const line = ada.getByTestId("compaction");
  await line.getByText("From here on the model sees a summary").waitFor();
  expect(await line.getByText("Nothing was deleted").isVisible()).toBe(false);
  await line.locator("summary").focus();
  await ada.keyboard.press("Enter");
  await line.getByText("Nothing was deleted").waitFor();
  await line.getByRole("heading", { name: "Goal" }).waitFor();
  await accessible(ada, "an open summary");
  await shoot(ada, "session-compaction");
});

it("the session goes on from it", async () => {
  await ada.getByLabel("Prompt").fill("make the failing test pass");
  await ada.keyboard.press("Control+Enter");
  await ended(ada, 3);
});
