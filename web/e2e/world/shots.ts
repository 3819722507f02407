/**
 * Pictures of a page as it is now: at two widths and in both lights, kept in `artifacts/screenshots/`. What is pictured
 * must fit the screen and be usable by everybody.
 */
import { mkdirSync } from "node:fs";
import { fileURLToPath } from "node:url";
import type { Page } from "playwright-core";
import { expect } from "vitest";
import { accessible } from "./access";

const FOLDER = fileURLToPath(new URL("../../../artifacts/screenshots/", import.meta.url));
const SIZES = [
  { width: 1440, height: 900 },
  { width: 390, height: 844 },
];

export async function shoot(page: Page, name: string, sizes = SIZES): Promise<void> {
  const before = page.viewportSize();
  for (const size of sizes) {
    await page.setViewportSize(size);
    await fits(page, name);
    for (const light of ["light", "dark"] as const) {
      await page.emulateMedia({ colorScheme: light });
      await keepPicture(page, `${name}-${size.width}-${light}`);
      await accessible(page, `${name}-${size.width}-${light}`);
    }
  }
  await page.emulateMedia({ colorScheme: null });
  if (before) await page.setViewportSize(before);
}

export async function keepPicture(page: Page, name: string): Promise<void> {
  mkdirSync(FOLDER, { recursive: true });
  await page.screenshot({ path: `${FOLDER}${name}.png`, animations: "disabled" });
}

/** Nothing is wider than the screen. */
export async function fits(page: Page, name: string): Promise<void> {
  const wider = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
  expect(wider, `${name}: pixels wider than the screen`).toBeLessThanOrEqual(0);
}
