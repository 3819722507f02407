import { describe, expect, it } from "vitest";
import { backoffMs } from "../session/connection";
import { ago, cost, count, duration, initials, plainTerminal, safeReturnPath, timelineRows } from "./format";
import { countDiff, withFileHeader } from "./patch";

describe("format", () => {
  it("times are said as people say them", () => {
    expect(ago(1000, 20_000)).toBe("just now");
    expect(ago(0, 5 * 60_000)).toBe("5 min ago");
    expect(ago(0, 26 * 3_600_000)).toBe("yesterday");
    expect(duration(999)).toBe("999 ms");
    expect(duration(59_960)).toBe("1 min 0 s");
    expect(duration(3_700_000)).toBe("1 h 1 min");
  });
  it("an unknown price is not shown as zero", () => {
    expect(cost(0)).toBe("");
    expect(cost(900)).toBe("< $0.01");
    expect(cost(1_230_000)).toBe("$1.23");
    expect(count(12_345)).toBe("12k");
  });
  it("terminal escapes disappear and progress lines show their last state", () => {
    expect(plainTerminal("\x1b[32mok\x1b[0m\r\n10%\r20%\rdone\n")).toBe("ok\ndone\n");
  });
  it("initials survive any name", () => {
    expect([initials("Ada Lovelace"), initials("bo"), initials(" ")]).toEqual(["AL", "B", "?"]);
  });
  it("only paths of this site are returned to after sign-in", () => {
    expect(safeReturnPath("/sessions/x?a=1")).toBe("/sessions/x?a=1");
    for (const bad of ["//evil.example", "/\\evil.example", "https://evil.example", undefined, "/sign-in"]) {
      expect(safeReturnPath(bad)).toBe("/");
    }
  });
  it("timeline marks are sorted and measured against the last", () => {
    const rows = timelineRows([{ stage: "first_token", at_us: 400 }, { stage: "committed", at_us: 100 }]);
    expect(rows.map((row) => [row.stage, row.share])).toEqual([["committed", 0.25], ["first_token", 1]]);
  });
});

describe("patch", () => {
  const hunk = "@@ -1,2 +1,2 @@\n a\n-b\n+c\n";
  it("a bare hunk gets file headers, a complete patch stays", () => {
    expect(withFileHeader("x.rs", hunk)).toBe(`--- a/x.rs\n+++ b/x.rs\n${hunk}`);
    const full = `diff --git a/x b/x\n--- a/x\n+++ b/x\n${hunk}`;
    expect(withFileHeader("x", full)).toBe(full);
  });
  it("header lines are not counted as changes", () => {
    expect(countDiff(`--- a/x\n+++ b/x\n${hunk}`)).toEqual({ additions: 1, deletions: 1 });
  });
});

it("waits between connections grow to a bound", () => {
  expect(backoffMs(0, 1)).toBe(400);
  expect(backoffMs(50, 1)).toBe(15_000);
  expect(backoffMs(3, 0)).toBe(1600);
});
