/** Signing in and out, what is refused and what is not there, a phone. */
import type { Page } from "playwright-core";
import { beforeAll, expect, it } from "vitest";
import { choosePassword, expectComplaint, invite, PASSWORD, person, PHONE, served, visitor } from "./world/people";
import { accessible } from "./world/access";
import { fits, shoot } from "./world/shots";

let cleo: Page;
let login: string;

beforeAll(async () => {
  const invited = await invite("Cleo Cox");
  login = invited.login;
  cleo = await visitor();
  await choosePassword(cleo, invited.path);
  expect(await (await visitor()).goto(invited.path)).toBeTruthy();
});

it("reloading keeps a person signed in, signing out ends it", async () => {
  await cleo.reload();
  await cleo.getByRole("heading", { name: "What should be changed?" }).waitFor();
  await cleo.locator("button:visible", { hasText: "Account of" }).click();
  await shoot(cleo, "menu");
  await cleo.getByRole("button", { name: "Sign out" }).click();
  await cleo.getByRole("heading", { name: "Sign in" }).waitFor();
  await cleo.goto("/changes");
  await cleo.getByRole("heading", { name: "Sign in" }).waitFor();
});

it("a wrong password is refused in words, the right one leads to where the person was going", async () => {
  expectComplaint(/401.*sign-in/);
  await cleo.getByLabel("Login").fill(login);
  await cleo.getByLabel("Password").fill("not this one");
  await cleo.getByRole("button", { name: "Sign in" }).click();
  await cleo.getByTestId("problem").waitFor();
  await shoot(cleo, "sign-in");
  await cleo.getByLabel("Password").fill(PASSWORD);
  await cleo.keyboard.press("Enter");
  await cleo.getByRole("heading", { name: "Changes" }).waitFor();
  expect(new URL(cleo.url()).pathname).toBe("/changes");
});

it("a used link says so", async () => {
  expectComplaint(/40\d.*sign-in\/link/);
  const { path } = await invite("Dora Dunn");
  const page = await visitor();
  await choosePassword(page, path);
  // The page that is signed in may still be asking.
  await page.goto("about:blank");
  await page.context().clearCookies();
  await page.goto(path);
  await page.getByLabel("Password").fill(PASSWORD);
  await page.getByRole("button", { name: "Set password and sign in" }).click();
  await page.getByTestId("problem").waitFor();
});

it("what some people could not use is noticed", async () => {
  await cleo.goto("/changes");
  await cleo.getByRole("heading", { name: "Changes" }).waitFor();
  await accessible(cleo, "as it is");
  const spoil = (html: string) => cleo.evaluate((html) => document.querySelector("main")?.insertAdjacentHTML("beforeend", html), html);
  await spoil('<p style="color:#999;background:#aaa">pale</p>');
  await expect(accessible(cleo, "pale")).rejects.toThrow(/color-contrast/);
  await cleo.reload();
  await cleo.getByRole("heading", { name: "Changes" }).waitFor();
  await spoil("<button></button>");
  await expect(accessible(cleo, "nameless")).rejects.toThrow(/button-name/);
});

it("what is not there is said in words", async () => {
  expectComplaint(/40[04]|WebSocket/);
  await cleo.goto("/nowhere");
  await cleo.getByText("There is no page at this address.").waitFor();
  await cleo.goto("/changes/chg_00000000000000000000000000");
  await cleo.getByTestId("problem").waitFor();
  await cleo.goto("/repositories/no.such");
  await cleo.getByTestId("problem").first().waitFor();
  await cleo.goto("/sessions/ses_00000000000000000000000000");
  await cleo.getByTestId("problem").waitFor();
  await cleo.goto("/sessions/nonsense");
  await cleo.getByTestId("problem").waitFor();
  await shoot(cleo, "session-unknown");
});

it("a member is not offered what only an admin may do", async () => {
  await cleo.goto("/repositories");
  await cleo.getByTestId("repositories").waitFor();
  expect(await cleo.getByRole("button", { name: "Add" }).count()).toBe(0);
});

it("a viewer can watch but not ask", async () => {
  const viewer = await person("Vera Vine", { role: "viewer" });
  await viewer.getByText("As a viewer you can watch").waitFor();
  expect(await viewer.getByLabel("Prompt").count()).toBe(0);
  await viewer.getByTestId("sessions").getByRole("link").first().click();
  await viewer.locator("[data-testid=connection][data-state=live]").waitFor();
  await viewer.getByText("As a viewer you can watch").waitFor();
});

it("an admin adds a repository whose source does not exist and reads why not", async () => {
  expectComplaint(/\/repositories\)/);
  const admin = await person("Edda Elm", { role: "admin" });
  await admin.goto("/repositories");
  await admin.getByRole("button", { name: "Add" }).click();
  await admin.getByLabel("Name").fill("nothing");
  await admin.getByLabel("Path or URL").fill("/no/such/folder");
  await admin.getByRole("button", { name: "Add repository" }).click();
  await admin.getByTestId("problem").waitFor();
  await shoot(admin, "repository-refused");
  await admin.goto("/settings");
  await admin.getByRole("heading", { name: "Settings" }).waitFor();
  await admin.getByTestId("people").waitFor();
  await shoot(admin, "settings");
});

it("on a phone a prompt is sent by touch, and every view fits", async () => {
  const page = await person("Finn Fig", { isPhone: true });
  await page.getByLabel("Repository").selectOption("sample");
  await page.getByLabel("Prompt").fill("hello\nfrom a phone");
  await page.getByRole("button", { name: "Send" }).tap();
  await page.waitForURL("**/sessions/*");
  await page.locator("[data-testid=turn-end][data-outcome=completed]").waitFor();
  for (const tab of ["Diff", "Change", "Details", "Conversation"]) {
    await page.getByRole("tab", { name: tab }).tap();
    await page.getByRole("tabpanel", { name: tab }).waitFor();
    await fits(page, tab);
  }
  await page.getByRole("link", { name: "Back to sessions" }).tap();
  await page.getByRole("button", { name: "Account of Finn Fig" }).tap();
  await page.getByRole("link", { name: "Settings" }).waitFor();
  await shoot(page, "menu-phone", [PHONE]);
  await page.keyboard.press("Escape");
  for (const address of ["/", "/changes", "/repositories", "/repositories/sample", "/settings"]) {
    await page.goto(served.origin + address);
    await page.getByRole("heading", { level: 1 }).waitFor();
    await fits(page, address);
  }
});
