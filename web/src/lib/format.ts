/** Numbers, times and names as people read them. Pure; the present moment is an argument. */
import type { ImageKept, PoolView, SandboxStart, StartStage, TimelineMark, Usage } from "../api/types";

export function ago(atMs: number, nowMs: number): string {
  const seconds = Math.max(0, Math.round((nowMs - atMs) / 1000));
  if (seconds < 45) return "just now";
  const minutes = Math.round(seconds / 60);
  if (minutes < 60) return `${minutes} min ago`;
  const hours = Math.round(minutes / 60);
  if (hours < 24) return `${hours} h ago`;
  const days = Math.round(hours / 24);
  if (days < 7) return days === 1 ? "yesterday" : `${days} days ago`;
  return new Date(atMs).toLocaleDateString(undefined, { day: "numeric", month: "short", year: "numeric" });
}

export function duration(ms: number): string {
  if (ms < 1000) return `${Math.round(ms)} ms`;
  if (ms < 59_950) return `${(ms / 1000).toFixed(1)} s`;
  const seconds = Math.round(ms / 1000);
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ${seconds % 60} s`;
  return `${Math.floor(seconds / 3600)} h ${Math.floor((seconds % 3600) / 60)} min`;
}

export function count(value: number): string {
  if (value < 1000) return String(value);
  if (value < 10_000) return `${(value / 1000).toFixed(1)}k`;
  if (value < 1_000_000) return `${Math.round(value / 1000)}k`;
  return `${(value / 1_000_000).toFixed(1)}M`;
}

/** `1 file`, `2 files`, `12k files`. */
export function counted(value: number, thing: string): string {
  return `${count(value)} ${thing}${value === 1 ? "" : "s"}`;
}

/** Of memory and disk: powers of 1024 under the names people read. */
export function bytes(value: number): string {
  const units = ["B", "KB", "MB", "GB", "TB"];
  let size = Math.max(0, value);
  let unit = 0;
  while (size >= 1024 && unit < units.length - 1) {
    size /= 1024;
    unit += 1;
  }
  return `${unit === 0 || size >= 100 ? Math.round(size) : size.toFixed(1)} ${units[unit]}`;
}

/** What a repository's warm sandboxes are doing. */
export function poolText(pool: Pick<PoolView, "ready" | "preparing" | "reserved" | "wanted">): string {
  const parts = [pool.wanted === 0 && pool.ready === 0 ? "None wanted now" : `${pool.ready} ready of ${pool.wanted} wanted`, pool.preparing > 0 && `${pool.preparing} being prepared`, pool.reserved > 0 && `${pool.reserved} kept for people who are writing`];
  return parts.filter(Boolean).join(", ");
}

/** What a repository's warm sandboxes hold of the machine; empty where none is there or the machine does not count it. */
export function poolCost(pool: Pick<PoolView, "memory_bytes" | "disk_bytes">): string {
  const held = [typeof pool.memory_bytes === "number" && `${bytes(pool.memory_bytes)} of memory`, typeof pool.disk_bytes === "number" && `${bytes(pool.disk_bytes)} of disk`].filter(Boolean);
  return held.length === 0 ? "" : `They hold ${held.join(" and ")}.`;
}

/** Why an image is still there. */
export function keptText(kept: ImageKept, nowMs: number): string {
  switch (kept.because) {
    case "newest":
      return "New sessions start from it";
    case "among_newest":
      return `Among the ${kept.of} newest good ones, which are kept`;
    case "in_use":
      return "Kept as long as a session's files may stand on it";
    case "for_its_log":
      return `Its log is kept for ${counted(Math.max(0, Math.ceil((kept.until_ms - nowMs) / DAY_MS)), "more day")}`;
  }
}

const DAY_MS = 24 * 60 * 60 * 1000;

/** Empty when the model's price is not known: no data is not zero. */
export function cost(microusd: number): string {
  if (microusd === 0) return "";
  const dollars = microusd / 1_000_000;
  return dollars < 0.01 ? "< $0.01" : `$${dollars.toFixed(2)}`;
}

export function totalTokens(usage: Usage): number {
  return usage.input_tokens + usage.output_tokens + usage.cache_read_tokens + usage.cache_write_tokens;
}

export function usageText(usage: Usage): string {
  if (totalTokens(usage) === 0) return cost(usage.cost_microusd);
  return [counted(totalTokens(usage), "token"), cost(usage.cost_microusd)].filter(Boolean).join(" · ");
}

export const STAGE_NAMES: Record<StartStage, string> = {
  queued: "Left the queue",
  committed: "Prompt saved",
  model_called: "Model called",
  first_token: "First token",
  claimed: "Sandbox claimed",
  restored: "Files restored",
  synced: "Synced with base",
};

/** What a turn's sandbox was made from: the reason for most of its wait. */
export const SANDBOX_STARTS: Record<SandboxStart, string> = {
  running: "sandbox was running",
  warm: "warm sandbox",
  blank: "sandbox from a blank",
  cold: "cold sandbox",
};

export function microseconds(us: number): string {
  return us < 10_000 ? `${(us / 1000).toFixed(1)} ms` : duration(us / 1000);
}

/** Marks in the order they happened, with the share of the whole at which each ends. */
export function timelineRows(marks: readonly TimelineMark[]): { stage: StartStage; atUs: number; share: number }[] {
  const sorted = [...marks].sort((a, b) => a.at_us - b.at_us);
  const end = Math.max(1, sorted.at(-1)?.at_us ?? 1);
  return sorted.map((mark) => ({ stage: mark.stage, atUs: mark.at_us, share: mark.at_us / end }));
}

/** Terminal output as plain text: escape sequences go, a carriage return overwrites its line. */
export function plainTerminal(text: string): string {
  const bare = text.replace(/\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\-_])/g, "");
  if (!bare.includes("\r")) return bare;
  return bare
    .replace(/\r\n/g, "\n")
    .split("\n")
    .map((line) => line.split("\r").filter(Boolean).at(-1) ?? "")
    .join("\n");
}

export function initials(name: string): string {
  const words = name.trim().split(/\s+/).filter(Boolean);
  const letters = [words[0], words.length > 1 ? words.at(-1) : undefined].map((word) => [...(word ?? "")][0] ?? "");
  return letters.join("").toUpperCase() || "?";
}

export function firstLine(text: string, longest = 160): string {
  const line = text.trim().split("\n", 1)[0] ?? "";
  return line.length > longest ? `${line.slice(0, longest - 1)}…` : line;
}

/** A path of this site, or "/": never another site's address. */
export function safeReturnPath(path: string | undefined): string {
  return path && /^\/(?![/\\])/.test(path) && !path.startsWith("/sign-in") ? path : "/";
}
