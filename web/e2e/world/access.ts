/** Whether people who see little, hear the page read out, or use no mouse can use it: axe-core's rules (WCAG 2.2, A and AA). */
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import type { AxeResults, RunOptions } from "axe-core";
import type { Page } from "playwright-core";
import { expect } from "vitest";

const AXE = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const OPTIONS: RunOptions = { runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"], resultTypes: ["violations"] };

/** The page as it is now holds nothing that axe-core calls serious or critical. */
export async function accessible(page: Page, name: string): Promise<void> {
  // The policy of the page allows no script of others: evaluating is no script of the page.
  await page.evaluate(AXE);
  const results: AxeResults = await page.evaluate((options) => (globalThis as unknown as { axe: { run(options: RunOptions): Promise<AxeResults> } }).axe.run(options), OPTIONS);
  expect(results.passes.length + results.inapplicable.length, `${name}: axe-core looked at nothing`).toBeGreaterThan(0);
  const grave = results.violations.filter((found) => found.impact === "serious" || found.impact === "critical");
  const said = grave.flatMap((found) => found.nodes.map((node) => `${found.id}: ${node.target.join(" ")}\n    ${node.failureSummary?.split("\n").slice(1).join(" ")}`));
  expect(said, `${name}: ${page.url()} ${grave.map((found) => found.id).join(", ")}`).toEqual([]);
}
