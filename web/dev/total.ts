/** A reporter that closes as cargo does, so that `cargo xtask test` can count: `test result: ok. 3 passed; 0 failed; 0 ignored`. */
import type { Reporter } from "vitest/node";

export const total: Reporter = {
  onTestRunEnd(modules, errors) {
    const count = { passed: 0, failed: errors.length, skipped: 0, pending: 0 };
    for (const module of modules) {
      // A file that could not be loaded holds no test that could fail.
      count.failed += module.errors().length;
      for (const test of module.children.allTests()) count[test.result().state] += 1;
    }
    const verdict = count.failed === 0 ? "ok" : "FAILED";
    console.log(`test result: ${verdict}. ${count.passed} passed; ${count.failed} failed; ${count.skipped + count.pending} ignored`);
  },
};
