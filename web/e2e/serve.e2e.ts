/** A new installation: the first admin, the first repository, and a prompt before there is a model. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Page } from "playwright-core";
import { afterAll, beforeAll, expect, it } from "vitest";
import { choosePassword, visitor } from "./world/people";
import { type Running, run } from "./world/program";
import { farmShop, makeRepository } from "./world/repositories";
import { shoot } from "./world/shots";

const source = mkdtempSync(join(tmpdir(), "greenroom-e2e-source-"));
const FIRST = /^Choose a password for the first admin.*: (\S+)$/;
let server: Running;
let admin: Page;

beforeAll(async () => {
  makeRepository(source, farmShop({ ticks: 1, pauseMs: 1 }));
  server = await run(["serve", "--listen", "127.0.0.1:0"], FIRST);
  admin = await visitor();
});
afterAll(async () => {
  await server.end();
  rmSync(source, { recursive: true, force: true });
});

it("the printed link makes the first admin, who is told what to do first", async () => {
  const link = server.lines.map((line) => FIRST.exec(line)?.[1]).find(Boolean) ?? "";
  await choosePassword(admin, link);
  await admin.getByText("No repository yet").waitFor();
  await admin.getByText("No session yet").waitFor();
  await shoot(admin, "empty");
});

it("a repository is added on the page and its build watched to the end", async () => {
  await admin.getByRole("link", { name: "Add a repository" }).click();
  await admin.getByRole("button", { name: "Add" }).click();
  await admin.getByLabel("Name").fill("first");
  await admin.getByLabel("Path or URL").fill(source);
  await admin.getByRole("button", { name: "Add repository" }).click();
  await admin.locator("[data-testid=image][data-state=ready]").waitFor({ timeout: 40_000 });
  await admin.locator("[data-testid=build-log][data-state=finished]").getByText("The orchard is ready").waitFor();
});

it("without a model a prompt ends with the command that adds one", async () => {
  await admin.getByRole("link", { name: "New session" }).last().click();
  await admin.getByLabel("Prompt").fill("make the failing test pass");
  await admin.getByRole("button", { name: "Send" }).click();
  const end = admin.locator("[data-testid=turn-end][data-outcome=failed]");
  await end.getByText(/greenroom model add/).waitFor();
  expect(await end.getByTestId("problem").innerText()).toContain("model_not_configured");
  await shoot(admin, "session-failed");
});
