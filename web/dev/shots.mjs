// Development only: pictures of every page from the mock, at two widths and in both lights, into the folder given (default /tmp/shots).
import { mkdirSync } from "node:fs";
import { chromium } from "playwright-core";

const base = process.env.BASE ?? "http://127.0.0.1:7878";
const out = process.argv[2] ?? "/tmp/shots";
mkdirSync(out, { recursive: true });
const browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium", args: ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"] });
const problems = [];

for (const [name, width, height, colorScheme] of [["wide-light", 1440, 900, "light"], ["wide-dark", 1440, 900, "dark"], ["phone-light", 390, 844, "light"], ["phone-dark", 390, 844, "dark"]]) {
  const context = await browser.newContext({ viewport: { width, height }, colorScheme, reducedMotion: "reduce" });
  const page = await context.newPage();
  page.on("console", (message) => ["error", "warning"].includes(message.type()) && problems.push(`${name}: ${message.text()}`));
  page.on("pageerror", (error) => problems.push(`${name}: ${error}`));
  const shot = async (what) => {
    await page.waitForTimeout(350);
    const wider = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
    if (wider > 0) problems.push(`${name}/${what}: ${wider} px wider than the screen`);
    await page.screenshot({ path: `${out}/${name}-${what}.png` });
  };
  await page.goto(`${base}/changes`);
  await page.getByLabel("Login").fill("ada");
  await page.getByLabel("Password").fill("wrong");
  await page.getByRole("button", { name: "Sign in" }).click();
  await page.getByRole("alert").waitFor();
  await shot("sign-in");
  await page.getByLabel("Password").fill("right password");
  await page.getByRole("button", { name: "Sign in" }).click();
  await page.getByTestId("changes").waitFor();
  await shot("changes");
  await page.goto(base);
  await page.getByTestId("sessions").waitFor();
  await shot("home");
  await page.getByLabel("Prompt").fill("Make the failing test pass");
  await page.getByRole("button", { name: "Send" }).click();
  await page.getByTestId("live-output").waitFor({ timeout: 20_000 });
  await page.getByLabel("Prompt").fill("Also say so in the changelog");
  await page.getByLabel("Prompt").press("Enter");
  await page.getByTestId("queued-prompt").waitFor();
  await shot("session-live");
  await page.getByTestId("turn-end").waitFor({ timeout: 40_000 });
  await shot("session-done");
  await page.getByTestId("start-timeline").locator("summary").click();
  await page.getByTestId("tool-card").and(page.locator("[data-tool=edit]")).getByRole("button").click();
  await page.getByTestId("start-timeline").scrollIntoViewIfNeeded();
  await page.waitForTimeout(800);
  await shot("session-opened");
  for (const tab of ["Diff", "Change", "Details"]) {
    await page.getByRole("tab", { name: tab }).click();
    await page.waitForTimeout(700);
    await shot(`session-${tab.toLowerCase()}`);
  }
  await page.goto(`${base}/changes`);
  await page.getByTestId("changes").getByText("Upgrade the router").click();
  await page.getByTestId("file-diff").first().waitFor();
  await page.waitForTimeout(800);
  await shot("change");
  await page.goto(`${base}/repositories`);
  await page.getByTestId("repositories").waitFor();
  await shot("repositories");
  await page.getByTestId("repositories").getByRole("link", { name: /^site/ }).click();
  await page.getByTestId("image").waitFor();
  await page.waitForTimeout(1500);
  await shot("repository");
  await page.goto(`${base}/settings`);
  await page.getByTestId("models").waitFor();
  await page.getByRole("button", { name: "Test" }).first().click();
  await page.getByText("answered").waitFor();
  await shot("settings");
  await page.getByRole("button", { name: /^Account of/ }).and(page.locator(":visible")).click();
  await shot("menu");
  await context.close();
}
await browser.close();
console.log(problems.length === 0 ? `pictures in ${out}` : problems.join("\n"));
