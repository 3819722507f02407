/** Snapshots, forks, services, the sync and refused hosts, as the log brings them. */
import { describe, expect, it } from "vitest";
import type { Author, Event, Frame, Usage } from "../api/types";
import { bytes, poolText } from "../lib/format";
import { reduceAll } from "./reduce";
import { forkRefusal, keptText, phaseText, syncedText, usedText } from "./say";
import { initialState, type SessionState, type SyncedItem, type Turn } from "./state";
import { AGAIN_MS, Pace } from "./warm";

const ada: Author = { on_behalf_of: "per_ada", via: "person", name: "Ada", email: "ada@example.com" };
const usage: Usage = { input_tokens: 1, output_tokens: 1, cache_read_tokens: 0, cache_write_tokens: 0, cost_microusd: 0, requests: 1 };

function fold(...events: Event[]): SessionState {
  const frames: Frame[] = events.map((event, index) => ({ type: "entry", entry: { seq: index + 1, at_ms: 1000 + index, epoch: 1, event } }));
  return reduceAll(initialState(), frames);
}
const turn = (id: string): Event[] => [
  { type: "prompt_accepted", prompt: `p${id}`, author: ada, text: "do it", delivery: "queue" },
  { type: "turn_started", turn: id, prompts: [`p${id}`] },
  { type: "turn_finished", turn: id, outcome: { kind: "completed" }, usage, duration_ms: 5 },
];
const taken = (snapshot: string, of: string, reason: "turn" | "exit" | "out_of_memory" = "turn"): Event => ({ type: "snapshot_taken", snapshot, reason, turn: of, freeze_us: 10, duration_ms: 3 });

describe("dead letters", () => {
  const problem = { code: "collector_unreachable" as const, message: "It did not take it.", hint: null, detail: null };
  const dead: Event = { type: "dead_letter_added", consumer: "collector", problem };
  it("stand until somebody has them tried again, and are no entry of the conversation", () => {
    const state = fold(...turn("t1"), dead, dead);
    expect([...state.deadLetters]).toEqual([["collector", problem]]);
    expect(state.order).toEqual(fold(...turn("t1")).order);
    expect(fold(dead, { type: "dead_letter_retried", consumer: "collector", by: "per_ada", name: "Ada" }).deadLetters.size).toBe(0);
    expect(fold(dead, { type: "dead_letter_settled", consumer: "collector" }).deadLetters.size).toBe(0);
    expect(fold(dead, { type: "dead_letter_settled", consumer: "forge" }).deadLetters.size).toBe(1);
  });
});

describe("snapshots", () => {
  it("a snapshot marks the turn whose work it holds", () => {
    const state = fold(...turn("t1"), taken("s1", "t1"));
    expect(state.turns.get("t1")?.snapshot).toMatchObject({ id: "s1", isDropped: false });
    expect(state.order.length, "it is no entry of the conversation").toBe(2);
  });

  it("a turn can be forked while the files it left are kept, also when an earlier turn left them", () => {
    const kept = fold(...turn("t1"), taken("s1", "t1"), ...turn("t2"));
    expect(forkRefusal(kept, "t2")).toBeNull();
    const dropped = fold(...turn("t1"), taken("s1", "t1"), ...turn("t2"), { type: "snapshot_dropped", snapshot: "s1" });
    expect(forkRefusal(dropped, "t1")).toContain("made room");
    expect(forkRefusal(dropped, "t2")).toContain("made room");
    expect(forkRefusal(fold(...turn("t1")), "t1"), "nothing was changed: the image's files").toBeNull();
  });

  it("a later copy of the same turn takes the place of one that was dropped; one of a full memory does not", () => {
    const again = fold(...turn("t1"), taken("s1", "t1"), taken("s2", "t1", "exit"), { type: "snapshot_dropped", snapshot: "s1" });
    expect(again.turns.get("t1")?.snapshot?.id).toBe("s2");
    expect(forkRefusal(again, "t1")).toBeNull();
    expect(fold(...turn("t1"), taken("s1", "t1", "out_of_memory")).turns.get("t1")?.snapshot).toBeNull();
  });

  it("files that only services wrote are not said to be the turn's", () => {
    const begun: Event[] = turn("t1").slice(0, 2);
    const ran = (name: string, input: object): Event[] => [
      { type: "assistant_message", turn: "t1", content: [{ type: "tool_call", id: "c1", name, input }], blocks: [], usage, stop_reason: "tool_use", model: "m" },
      { type: "tool_started", turn: "t1", call: "c1", name, title: name },
      { type: "tool_finished", turn: "t1", call: "c1", outcome: "succeeded", text: "", duration_ms: 1 },
    ];
    const serves: Event = { type: "service_changed", name: "db", state: "ready" };
    const said = (...events: Event[]) => keptText(fold(...begun, serves, ...events, taken("s1", "t1")).turns.get("t1") as Turn);
    expect(said()).toBe("what services wrote is kept");
    expect(said(...ran("read", { path: "a" }))).toBe("what services wrote is kept");
    expect(said(...ran("bash", { command: "ls", read_only: true }))).toBe("what services wrote is kept");
    expect(said(...ran("bash", { command: "make" }))).toBe("files kept");
    expect(said(...ran("a_new_tool", {}))).toBe("files kept");
    expect(keptText(fold(...begun, taken("s1", "t1")).turns.get("t1") as Turn), "there is no service").toBe("");
    expect(keptText(fold(...turn("t1")).turns.get("t1") as Turn)).toBe("");
  });

  it("a snapshot of a turn that this page never saw is kept and harms nothing", () => {
    expect(fold(taken("s1", "elsewhere")).snapshots.size).toBe(1);
    expect(fold({ type: "snapshot_dropped", snapshot: "unknown" }).headSeq).toBe(1);
  });
});

it("a forked session knows where it comes from", () => {
  const from = { session: "ses_a", turn: "t1", snapshot: null };
  const created: Event = { type: "session_created", repository: "rep", repository_name: "sample", title: "x", author: ada, branch: "b", base_branch: "main", budget: { tokens: 1, cost_microusd: 1, wall_ms: 1, tool_calls: 1 }, forked_from: from };
  expect(fold(created).forkedFrom).toEqual(from);
});

it("the sync says how many files it changed and which steps ran again", () => {
  const state = fold({ type: "synced", from: "a", to: "b", changed: ["x", "y"], changed_count: 300, rerun_steps: ["npm ci"] });
  const item = state.items.get("e1") as SyncedItem;
  expect(syncedText(item)).toBe("Synced with the base branch: 300 files changed, 1 step run again");
  expect(syncedText({ ...item, changedCount: 0, rerunSteps: [] })).toBe("Synced with the base branch: no file changed");
});

describe("services", () => {
  const changed = (state: "starting" | "ready" | "failed"): Event => ({ type: "service_changed", name: "db", state, problem: state === "failed" ? { code: "service_failed", message: "No." } : null });

  it("only a service that failed is told in the conversation", () => {
    const state = fold(changed("starting"), changed("ready"));
    expect(state.services.get("db")).toMatchObject({ state: "ready", problem: null });
    expect(state.order).toEqual([]);
    const failed = fold(changed("starting"), changed("failed"));
    expect(failed.items.get("e2")).toMatchObject({ kind: "notice", problem: { code: "service_failed" } });
  });

  it("services end with their sandbox", () => {
    expect(fold(changed("ready"), { type: "sandbox_changed", state: "stopped", image: null, commit: null, problem: null }).services.size).toBe(0);
  });
});

it("the start of a turn says what its sandbox was made from, and what the agent was told is shown", () => {
  const state = fold(...turn("t1").slice(0, 2), { type: "start_timeline", turn: "t1", marks: [], sandbox: "warm" }, { type: "notice_given", turn: "t1", text: "README.md was changed by the sync." });
  expect(state.turns.get("t1")?.sandbox).toBe("warm");
  expect(state.items.get("e4")).toMatchObject({ kind: "told", text: "README.md was changed by the sync." });
});

it("a sandbox that brings files back says so", () => {
  const state = fold({ type: "sandbox_changed", state: "restoring", image: "img", commit: null, problem: null });
  expect(phaseText(state.sandbox?.phase ?? "ready")).toBe("Bringing the files back");
});

it("refused hosts are counted, each once", () => {
  const state = fold({ type: "egress_denied", host: "a.example", port: 443 }, { type: "egress_denied", host: "a.example", port: 443, reason: "private_address" }, { type: "egress_denied", host: "a.example", port: 80, reason: "not_allowed" });
  expect([...state.denied.values()]).toEqual([
    { host: "a.example", port: 443, reason: "private_address", times: 2 },
    { host: "a.example", port: 80, reason: "not_allowed", times: 1 },
  ]);
  expect(state.items.get("e2")).toMatchObject({ text: "A connection to a.example:443 was refused: its name leads to an address that is not public." });
});

it("a repository is warmed at the first keystroke and then once in a while", () => {
  const pace = new Pace();
  expect([pace.isDue("a", 0), pace.isDue("a", 1), pace.isDue("b", 1), pace.isDue("a", AGAIN_MS - 1), pace.isDue("a", AGAIN_MS)]).toEqual([true, false, true, false, true]);
});

it("sizes and pools are told in words", () => {
  expect([0, 1023, 1536, 5 * 1024 ** 3, 250 * 1024 ** 2].map(bytes)).toEqual(["0 B", "1023 B", "1.5 KB", "5.0 GB", "250 MB"]);
  expect(poolText({ ready: 2, wanted: 3, preparing: 1, reserved: 0 })).toBe("2 ready of 3 wanted, 1 being prepared");
});

it("one request is one request", () => {
  expect(usedText(usage)).toBe("2 tokens (1 in, 1 out, 0 from cache) in 1 request");
  expect(usedText({ ...usage, requests: 2 })).toContain("in 2 requests");
  expect(usedText({ ...usage, requests: 0 })).toBe("Nothing yet");
  expect(usedText({ ...usage, input_tokens: 0, output_tokens: 0 })).toBe("1 request to a model that counts no tokens");
});
