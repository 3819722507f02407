/** What surrounds a conversation: a sandbox made ready while typing, a preview on its own origin, forks, the machine. */
import type { Page } from "playwright-core";
import { beforeAll, expect, it } from "vitest";
import { admin, expectComplaint, person, served } from "./world/people";
import { addRepository, farmShop } from "./world/repositories";
import { shoot } from "./world/shots";

/** A shop with a page: what it says, what it sees of a request, and a script that tries to reach the product. */
const SHOP = `import http.server


class Shop(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        seen = "".join(f"{name}: {value}\\n" for name, value in self.headers.items())
        body = f"<!doctype html><title>Shop</title><h1>Apples</h1><pre>{seen}</pre>".encode()
        self.send_response(200)
        self.send_header("content-type", "text/html")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


http.server.HTTPServer(("127.0.0.1", 8000), Shop).serve_forever()
`;
const RECIPE = `[[services]]
name = "shop"
run = "exec python3 shop.py"
ready = { port = 8000, within_seconds = 30 }

[[ports]]
port = 8000
name = "Shop window"

[[ports]]
port = 8001
name = "Closed shutter"

[[checks]]
name = "Prices add up"
run = "python3 -m py_compile pricing.py"

[[checks]]
name = "Every test"
run = "python3 -m unittest"
optional = true
`;
let ada: Page;
let origin: string;

beforeAll(async () => {
  addRepository("market", { ...farmShop({ ticks: 2, pauseMs: 10 }), "shop.py": SHOP, ".greenroom/environment.toml": RECIPE });
  ada = await person("Ada Ashby");
});

it("the first keystroke asks for a sandbox, once, and says when it is there", async () => {
  const asked: string[] = [];
  ada.on("request", (request) => request.url().endsWith("/warm") && asked.push(new URL(request.url()).pathname));
  await ada.goto("/?repository=market");
  await ada.getByLabel("Prompt").pressSequentially("hel");
  await ada.locator("[data-testid=warm]:is([data-state=ready], [data-state=preparing])").waitFor();
  await ada.getByLabel("Prompt").pressSequentially("lo");
  expect(asked).toEqual(["/api/v1/repositories/market/warm"]);
  await ada.keyboard.press("Control+Enter");
  await ada.waitForURL("**/sessions/*");
  origin = ada.url();
  await ada.locator("[data-testid=turn-end][data-outcome=completed]").waitFor();
});

it("a declared service is up and its page opens in a tab of its own, on another origin", async () => {
  await ada.goto(`${origin}?tab=details`);
  // Looking at a port starts the sandbox where the turn needed none.
  const port = ada.getByTestId("ports").getByRole("listitem").filter({ hasText: "Shop window" });
  const [shop] = await Promise.all([ada.context().waitForEvent("page"), port.getByRole("link", { name: /^Open Shop window/ }).click()]);
  await shop.getByRole("heading", { name: "Apples" }).waitFor({ timeout: 40_000 });
  const address = new URL(shop.url());
  expect(address.origin).not.toBe(new URL(served.origin).origin);
  expect(address.hostname).toMatch(/^8000--[0-9a-z]{26}\.localhost$/);
  expect(address.search, "the ticket is not in the address").toBe("");
  const seen = await shop.locator("pre").innerText();
  expect(seen).not.toMatch(/greenroom_|x-greenroom|grt_/i);
  const stolen = await shop.evaluate(async (product) => {
    const answer = await fetch(`${product}/api/v1/me`, { credentials: "include" }).then((response) => response.text(), () => "refused");
    return { answer, cookies: document.cookie };
  }, served.origin);
  expect(stolen).toEqual({ answer: "refused", cookies: "" });
  expectComplaint(/CORS|ERR_FAILED|Failed to load resource/);
  await shop.close();
  await ada.locator("[data-testid=services] [data-state=ready]").waitFor();
  await ada.getByTestId("ports").getByText("listening").first().waitFor();
  await shoot(ada, "session-environment");
});

it("a port that nothing listens on says so, and the page opens by itself once something does", async () => {
  const port = ada.getByTestId("ports").getByRole("listitem").filter({ hasText: "Closed shutter" });
  const [page] = await Promise.all([ada.context().waitForEvent("page"), port.getByRole("link", { name: "Open" }).click()]);
  await page.getByRole("heading", { name: "Nothing listens on port 8001 yet" }).waitFor();
  await shoot(page, "preview-closed");
  expectComplaint(/502/);
  const id = new URL(origin).pathname.split("/").at(-1);
  await admin(`/sessions/${id}/exec`, { command: "setsid python3 -m http.server 8001 --bind 127.0.0.1 >/dev/null 2>&1 </dev/null &" });
  await page.getByRole("heading", { name: "Directory listing for /" }).waitFor();
  await page.close();
});

it("somebody else's browser is not let into a preview by its address alone", async () => {
  const id = new URL(origin).pathname.split("_").at(-1);
  const ben = await person("Ben Bell");
  expectComplaint(/401/);
  await ben.goto(`http://8000--${id}.localhost:${new URL(served.origin).port}/`);
  await ben.getByRole("heading", { name: "This preview is not open to you" }).waitFor();
});

it("an ended turn is forked into a session that says where it comes from", async () => {
  await ada.goto(origin);
  await ada.getByRole("button", { name: "Fork from here" }).click();
  await ada.getByTestId("forked-from").waitFor();
  expect(ada.url()).not.toBe(origin);
  await ada.getByTestId("assistant-text").first().waitFor();
  await shoot(ada, "session-forked");
  await ada.getByLabel("Prompt").fill("make the failing test pass");
  await ada.getByRole("button", { name: "Send" }).click();
  await ada.locator("[data-testid=turn-end]").nth(1).waitFor({ timeout: 40_000 });
  await ada.getByTestId("forked-from").getByRole("link").click();
  await ada.waitForURL(origin);
});

it("a repository's page shows what its image holds, why it is kept, and what its recipe declares", async () => {
  await ada.goto("/repositories/market");
  await ada.getByTestId("image-kept").getByText("New sessions start from it").waitFor();
  await ada.getByTestId("layers").getByRole("listitem").first().waitFor();
  await ada.getByTestId("checks").locator("[data-passed=true]", { hasText: "Prices add up" }).waitFor();
  await ada.getByTestId("checks").getByText("Failed: exit code 1; it is optional, so the image is good all the same").waitFor();
  await ada.getByTestId("declared-services").getByText("Up when port 8000 listens, within 30 s.").waitFor();
  await ada.getByTestId("declared-ports").getByText("Shop window").waitFor();
  await shoot(ada, "repository-contents");
});

it("earlier builds stay with their logs and say why they are kept", async () => {
  await ada.goto("/repositories/market");
  await ada.getByRole("button", { name: "Rebuild image" }).click();
  const images = ada.getByTestId("images").getByRole("listitem");
  await expect.poll(() => images.count()).toBe(2);
  await ada.locator("[data-testid=image][data-state=ready]").waitFor({ timeout: 40_000 });
  await images.filter({ hasText: "Among the 3 newest good ones, which are kept" }).getByRole("link").click();
  await ada.locator("[data-testid=build-log][data-state=finished]").waitFor();
  await expect.poll(() => ada.getByTestId("build-log").innerText()).toContain("pricing");
  await shoot(ada, "repository-earlier");
});

it("the list of sessions follows what others do, and is not asked for again and again", async () => {
  const asked: string[] = [];
  ada.on("request", (request) => new URL(request.url()).pathname === "/api/v1/sessions" && request.method() === "GET" && asked.push(request.url()));
  await ada.goto("/");
  await ada.getByTestId("sessions").getByRole("link").first().waitFor();
  const before = await ada.getByTestId("sessions").getByRole("link").count();
  const eve = await person("Eve Elder");
  await eve.goto("/?repository=market");
  await eve.getByLabel("Prompt").fill("hello from somebody else");
  await eve.getByRole("button", { name: "Send" }).click();
  const line = ada.getByTestId("sessions").getByRole("link", { name: /hello from somebody else/ });
  await line.locator("[data-testid=session-status][data-status=idle]").waitFor();
  expect(await ada.getByTestId("sessions").getByRole("link").count()).toBe(before + 1);
  await eve.waitForURL("**/sessions/*");
  await eve.getByRole("tab", { name: "Details" }).click();
  await eve.locator("[data-testid=turn-end]").waitFor();
  await eve.getByRole("button", { name: "Delete session" }).click();
  await eve.getByRole("button", { name: "Delete for good" }).click();
  await line.waitFor({ state: "detached" });
  expect(asked.length, "once, before the stream was there").toBeLessThanOrEqual(1);
});

it("the machine's page shows what sandboxes hold, and a viewer may look", async () => {
  const viewer = await person("Vera Vale", { role: "viewer" });
  await viewer.setViewportSize({ width: 1440, height: 500 });
  await viewer.goto("/settings");
  await viewer.getByRole("link", { name: /what the machine can do/ }).click();
  await viewer.getByTestId("sandboxes-now").getByText(/of \d+/).first().waitFor();
  expect(await viewer.locator("#main").evaluate((main) => main.scrollTop), "a page begins at its top").toBe(0);
  await viewer.getByTestId("disk").getByText("Free").waitFor();
  await viewer.getByTestId("pools").getByText("market").waitFor();
  await viewer.getByTestId("capabilities").getByRole("listitem").first().waitFor();
  expect(await viewer.getByTestId("retention").count(), "what goes by itself is for admins").toBe(0);
  await shoot(viewer, "machine");
});

it("an admin sees what goes by itself and what went last", async () => {
  const root = await person("Rhea Rowe", { role: "admin" });
  await root.goto("/settings/machine");
  const retention = root.getByTestId("retention");
  await retention.getByText("Archived sessions").waitFor();
  expect(await retention.getByRole("listitem").allInnerTexts()).toContainEqual(expect.stringMatching(/Rows of statistics\s+removed after 730 days/));
  await root.request.post(`${served.origin}/api/v1/retention/run`, { headers: { origin: served.origin, "x-greenroom": "1" } });
  await root.reload();
  await retention.getByText("Last pass just now").waitFor();
  await shoot(root, "machine-admin");
});

it("an admin allows a host and takes it back", async () => {
  const root = await person("Root Reed", { role: "admin" });
  await root.goto("/repositories/market");
  await root.getByLabel("Allow a host").fill("api.example.com");
  await root.getByRole("button", { name: "Allow", exact: true }).click();
  await root.getByTestId("egress-additions").getByText("api.example.com").waitFor();
  await shoot(root, "repository-network");
  await root.getByRole("button", { name: "Remove api.example.com" }).click();
  await root.getByTestId("egress-additions").waitFor({ state: "detached" });
});
