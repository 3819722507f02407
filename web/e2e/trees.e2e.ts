/** What each step changed, files put back to one with a look at it first, and forward again. */
import type { Page } from "playwright-core";
import { afterAll, beforeAll, expect, it } from "vitest";
import { accessible } from "./world/access";
import { type Installation, installation } from "./world/installation";
import { shoot } from "./world/shots";

let server: Installation;
let ada: Page;

const ended = (count: number) => expect.poll(() => ada.locator("[data-testid=turn-end][data-outcome=completed]").count()).toBe(count);

async function ask(prompt: string, turns: number): Promise<void> {
  await ada.getByLabel("Prompt").fill(prompt);
  await ada.keyboard.press("Control+Enter");
  await ended(turns);
}

const step = (index: number) => ada.getByTestId("step").nth(index);

beforeAll(async () => {
  server = await installation();
  server.addRepository("nursery", { "AGENTS.md": "Trees for sale.\n" });
  ada = await server.person("Ada Appleton", "ada");
}, 120_000);

afterAll(() => server?.end());

it("a step says what it changed, and shows it by keyboard", async () => {
  await ada.getByLabel("Prompt").fill("run: printf 'oak\\nash\\n' > trees.txt");
  await ada.keyboard.press("Control+Enter");
  await ada.waitForURL("**/sessions/*");
  await ended(1);
  await ask("run: sed -i s/ash/elm/ trees.txt; echo fig > fruit.txt", 2);
  await step(0).getByText("Changed 1 file").waitFor();
  await step(1).getByText("Changed 2 files").waitFor();
  await step(1).getByRole("button").first().focus();
  await ada.keyboard.press("Enter");
  await step(1).getByText("fruit.txt").waitFor();
  await step(1).getByText("trees.txt").waitFor();
  await accessible(ada, "a step's diff");
  await shoot(ada, "session-step");
});

it("a turn shows all that it changed", async () => {
  await ada.getByTestId("turn-diff").first().click();
  const turn = ada.getByTestId("turn-end").first();
  await turn.getByText("trees.txt").waitFor();
  await turn.getByRole("button", { name: "Put the files back to its end" }).waitFor();
  await ada.getByTestId("turn-diff").first().click();
});

it("what would change is shown before the files are put back, and then they are", async () => {
  await step(0).getByRole("button").first().click();
  await step(0).getByRole("button", { name: "Put the files back to here" }).click();
  const asked = ada.getByTestId("put-back");
  await asked.getByText("fruit.txt").waitFor();
  await accessible(ada, "a look before files are put back");
  await shoot(ada, "session-put-back");
  await asked.getByRole("button", { name: "Put the files back" }).click();
  await ada.getByTestId("revert").getByText(/Ada Appleton put the files back to step \d+: 2 files changed/).waitFor();
  await ada.getByRole("tab", { name: "Diff" }).click();
  const diff = ada.getByRole("tabpanel", { name: "Diff" });
  await diff.getByText("trees.txt").waitFor();
  expect(await diff.getByText("fruit.txt").count()).toBe(0);
});

it("the newest is gone forward to as long as nothing else was done", async () => {
  await ada.getByRole("tab", { name: "Conversation" }).click();
  // The agent is told that files were put back, and this model answers that.
  await ask("well then", 3);
  await ask("run: echo more >> trees.txt", 4);
  await expect.poll(() => ada.getByTestId("turn-diff").count()).toBe(3);
  await ada.getByTestId("turn-diff").last().click();
  const end = ada.getByTestId("turn-end").last();
  await end.getByRole("button", { name: "Put the files back to before this turn" }).click();
  await ada.getByTestId("put-back").last().getByRole("button", { name: "Put the files back" }).click();
  const forward = ada.getByRole("button", { name: /^Go forward again/ });
  await forward.waitFor();
  await accessible(ada, "files that were put back");
  await shoot(ada, "session-reverted");
  await forward.click();
  await expect.poll(() => ada.getByTestId("revert").count()).toBe(3);
  await ada.getByTestId("revert").last().getByText("1 file changed").waitFor();
});
