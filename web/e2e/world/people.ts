/** People at browsers: Chromium, a context for each person, and what every page of theirs must keep to. */
import { existsSync } from "node:fs";
import { type Browser, type BrowserContext, chromium, type ConsoleMessage, type Page } from "playwright-core";
import { afterAll, afterEach, expect, inject } from "vitest";
import { keepPicture } from "./shots";

export const served = inject("served");
export const PASSWORD = "a long enough password";
const FLAGS = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"];
const WIDE = { width: 1440, height: 900 };
export const PHONE = { width: 390, height: 844 };

let browser: Promise<Browser> | undefined;
const pages: Page[] = [];
const complaints: string[] = [];
const allowed: RegExp[] = [];

afterEach(async ({ task }) => {
  if (task.result?.state === "fail") await Promise.all(pages.map((page, index) => keepPicture(page, `failed-${index + 1}`)));
  const found = complaints.splice(0).filter((text) => !allowed.some((pattern) => pattern.test(text)));
  allowed.length = 0;
  expect(found, "errors in the browser's console").toEqual([]);
});
afterAll(async () => (await browser)?.close());

/** In the running test the console may say this. */
export function expectComplaint(pattern: RegExp): void {
  allowed.push(pattern);
}

export interface Options {
  viewport?: { width: number; height: number };
  proxy?: string;
  /** A touch screen, whose Enter is a new line. */
  isPhone?: boolean;
}

/** A browser of its own: nothing is shared with anyone else's. */
export async function visitor({ isPhone = false, viewport = isPhone ? PHONE : WIDE, proxy }: Options = {}): Promise<Page> {
  browser ??= launch();
  const context = await (await browser).newContext({
    baseURL: served.origin,
    viewport,
    isMobile: isPhone,
    hasTouch: isPhone,
    reducedMotion: "reduce",
    // Chromium leaves loopback out of a proxy unless told not to.
    ...(proxy ? { proxy: { server: proxy, bypass: "<-loopback>" } } : {}),
  });
  context.setDefaultTimeout(15_000);
  return watched(context);
}

function launch(): Promise<Browser> {
  const names = [process.env.CHROMIUM, "/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"];
  const program = names.find((name) => name && existsSync(name));
  if (!program) throw new Error("Chromium is missing: install it (Debian: apt-get install chromium) or name it in CHROMIUM.");
  return chromium.launch({ executablePath: program, args: FLAGS });
}

async function watched(context: BrowserContext): Promise<Page> {
  const page = await context.newPage();
  pages.push(page);
  page.on("console", (message) => {
    if (message.type() === "error" && !isFirstQuestion(message)) complaints.push(`${message.text()} (${message.location().url})`);
  });
  page.on("pageerror", (error) => complaints.push(String(error)));
  return page;
}

/** The page asks once who is signed in; nobody is an answer, which Chromium counts as an error. */
function isFirstQuestion(message: ConsoleMessage): boolean {
  return message.location().url.endsWith("/api/v1/me") && message.text().includes("401");
}

let count = 0;

/** Adds a person; answers the one-time link. */
export async function invite(name: string, role = "member"): Promise<{ login: string; path: string }> {
  count += 1;
  const login = `${name.toLowerCase().replace(/[^a-z]+/g, ".")}.${process.pid}.${count}`;
  const added = await admin("/people", { login, name, email: `${login}@example.com`, role });
  return { login, path: added.sign_in_path };
}

/** A new person who is signed in, at the list of sessions. */
export async function person(name: string, options: Options & { role?: string } = {}): Promise<Page> {
  const { path } = await invite(name, options.role);
  const page = await visitor(options);
  await choosePassword(page, path);
  return page;
}

export async function choosePassword(page: Page, link: string): Promise<void> {
  await page.goto(link);
  await page.getByLabel("Password").fill(PASSWORD);
  await page.getByRole("button", { name: "Set password and sign in" }).click();
  await page.getByRole("heading", { name: "What should be changed?" }).waitFor();
}

/** A request in the name of this machine's own user. */
export async function admin(path: string, body?: unknown) {
  const response = await fetch(`${served.origin}/api/v1${path}`, {
    method: body === undefined ? "GET" : "POST",
    headers: { Authorization: `Bearer ${served.token}`, "Content-Type": "application/json" },
    body: body === undefined ? undefined : JSON.stringify(body),
  });
  if (!response.ok) throw new Error(`${path}: ${response.status} ${await response.text()}`);
  return response.json();
}
