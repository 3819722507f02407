/** A session leaves as one file and comes back as another session. */
import { readFileSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Page } from "playwright-core";
import { beforeAll, expect, it } from "vitest";
import { accessible } from "./world/access";
import { expectComplaint, person } from "./world/people";
import { addRepository, farmShop } from "./world/repositories";
import { shoot } from "./world/shots";

let ada: Page;
const file = join(tmpdir(), `archive-${process.pid}.greenroom`);

beforeAll(async () => {
  addRepository("attic", farmShop({ ticks: 1, pauseMs: 1 }));
  ada = await person("Ada Atwood");
});

it("a session is exported from its details", async () => {
  await ada.goto("/?repository=attic");
  await ada.getByLabel("Prompt").fill("hello from the attic");
  await ada.getByLabel("Prompt").press("Control+Enter");
  await ada.waitForURL("**/sessions/*");
  await ada.locator("[data-testid=turn-end][data-outcome=completed]").waitFor();
  await ada.goto(`${ada.url()}?tab=details`);
  const link = ada.getByRole("link", { name: "Export this session" });
  await link.scrollIntoViewIfNeeded();
  await shoot(ada, "session-export");
  const [download] = await Promise.all([ada.waitForEvent("download"), link.click()]);
  expect(download.suggestedFilename()).toBe("hello-from-the-attic.greenroom");
  await download.saveAs(file);
  expect(readFileSync(file).length).toBeGreaterThan(100);
});

it("what is no export is refused in words, and an export becomes a session of one's own", async () => {
  await ada.goto("/");
  await ada.getByRole("button", { name: "Import" }).click();
  const form = ada.getByRole("form", { name: "Import a session" });
  const bad = `${file}.bad`;
  writeFileSync(bad, "hello");
  await form.getByLabel("Exported session").setInputFiles(bad);
  expectComplaint(/422/);
  await form.getByRole("button", { name: "Import" }).click();
  await form.getByText("The file is no whole export of a session").waitFor();
  await accessible(ada, "importing a session");
  await shoot(ada, "session-import");
  await form.getByLabel("Exported session").setInputFiles(file);
  await form.getByRole("button", { name: "Import" }).click();
  await ada.waitForURL("**/sessions/*");
  await ada.getByTestId("imported-from").getByText("Ada Atwood").waitFor();
  await ada.getByText("hello from the attic").first().waitFor();
  await ada.locator("[data-testid=turn-end][data-outcome=completed]").waitFor();
  await shoot(ada, "session-imported");
});
