import { describe, expect, it } from "vitest";
import type { Author, Event, Frame, Problem, TurnOutcome, Usage } from "../api/types";
import { reduce, reduceAll } from "./reduce";
import { type BlockItem, initialState, type SessionState, type ToolItem } from "./state";

const ada: Author = { on_behalf_of: "per_ada", via: "person", name: "Ada", email: "ada@example.com" };
const usage: Usage = { input_tokens: 10, output_tokens: 5, cache_read_tokens: 0, cache_write_tokens: 0, cost_microusd: 100, requests: 1 };

function entries(from: number, ...events: Event[]): Frame[] {
  return events.map((event, index) => ({ type: "entry", entry: { seq: from + index, at_ms: 1000 + index, epoch: 1, event } }));
}
const accepted = (prompt: string, text = "do it"): Event => ({ type: "prompt_accepted", prompt, author: ada, text, delivery: "queue" });
const turn = (id: string, ...prompts: string[]): Event => ({ type: "turn_started", turn: id, prompts });
const opened = (block: string): Event => ({ type: "block_opened", turn: "t1", block, kind: "text" });
const fold = (...frames: Frame[]): SessionState => reduceAll(initialState(), frames);
const textOf = (state: SessionState, block: string) => (state.items.get(`b:${block}`) as BlockItem | undefined)?.body.text;
const tool = (state: SessionState, call: string) => state.items.get(`t:${call}`) as ToolItem;

const started = entries(1, accepted("p1"), turn("t1", "p1"), opened("b1"));

describe("prompts", () => {
  it("a prompt waits until a turn takes it", () => {
    const waiting = fold(...entries(1, accepted("p1")));
    expect(waiting.queue).toEqual(["p1"]);
    expect(waiting.order).toEqual([]);
    const taken = reduceAll(waiting, entries(2, turn("t1", "p1")));
    expect(taken.queue).toEqual([]);
    expect(taken.order).toEqual(["p:p1"]);
    expect(taken.running).toBe("t1");
  });

  it("a waiting prompt can be edited and withdrawn", () => {
    const edited = fold(...started, ...entries(4, accepted("p2"), { type: "prompt_edited", prompt: "p2", text: "better", by: "per_ada" }));
    expect(edited.prompts.get("p2")).toMatchObject({ text: "better", isEdited: true, status: "queued" });
    const withdrawn = reduceAll(edited, entries(6, { type: "prompt_withdrawn", prompt: "p2", by: "per_ada" }));
    expect(withdrawn.queue).toEqual([]);
    expect(withdrawn.order).not.toContain("p:p2");
  });

  it("waiting prompts change places and delivery, and are held and released", () => {
    const three = reduceAll(fold(...started), entries(4, accepted("p2"), accepted("p3"), accepted("p4")));
    const by = "per_ada";
    const first = reduceAll(three, entries(7, { type: "prompt_moved", prompt: "p4", before: "p2", by }));
    expect(first.queue).toEqual(["p4", "p2", "p3"]);
    const last = reduceAll(first, entries(8, { type: "prompt_moved", prompt: "p4", before: null, by }, { type: "delivery_set", prompt: "p2", delivery: "insert", by }));
    expect(last.queue).toEqual(["p2", "p3", "p4"]);
    expect(last.prompts.get("p2")?.delivery).toBe("insert");
    const held = reduceAll(last, entries(10, { type: "queue_held", by, name: "Ada" }, accepted("p5")));
    expect(held.queue.map((id) => held.prompts.get(id)?.isHeld)).toEqual([true, true, true, false]);
    const released = reduceAll(held, entries(12, { type: "queue_released", by, name: "Ada" }));
    expect(released.queue.some((id) => released.prompts.get(id)?.isHeld)).toBe(false);
  });

  it("an inserted prompt appears inside the running turn", () => {
    const state = fold(...started, ...entries(4, accepted("p2"), { type: "prompt_inserted", turn: "t1", prompt: "p2" }));
    expect(state.items.get("p:p2")).toMatchObject({ turn: "t1", wasInserted: true });
    expect(state.queue).toEqual([]);
  });
});

describe("sequence", () => {
  it("an entry that comes twice is applied once", () => {
    const state = fold(...started, ...started);
    expect(state.headSeq).toBe(3);
    expect(state.order).toEqual(["p:p1", "b:b1"]);
  });

  it("a missing entry is noticed and nothing after it is applied", () => {
    const state = fold(...started, ...entries(5, accepted("p9")));
    expect(state.hasGap).toBe(true);
    expect(state.headSeq).toBe(3);
    const again = reduce(state, { type: "hello", protocol: 1, head_seq: 5, epoch: 1 });
    expect(again.hasGap).toBe(false);
  });

  it("the given state is never changed", () => {
    const before = fold(...started);
    const copy = structuredClone(before);
    reduceAll(before, [{ type: "delta", block: "b1", offset: 0, text: "x" }, ...entries(4, accepted("p2"))]);
    expect(before).toEqual(copy);
  });

  it("frames in one batch give the same state as one by one", () => {
    const frames: Frame[] = [...started, { type: "delta", block: "b1", offset: 0, text: "héllo" }, ...entries(4, { type: "block_text", block: "b1", offset: 0, text: "héllo" })];
    expect(frames.reduce(reduce, initialState())).toEqual(fold(...frames));
  });
});

describe("streamed text", () => {
  it("deltas and logged text that overlap are shown once, counted in bytes of UTF-8", () => {
    const state = fold(
      ...started,
      { type: "delta", block: "b1", offset: 0, text: "naïve " },
      ...entries(4, { type: "block_text", block: "b1", offset: 0, text: "naïve " }),
      { type: "delta", block: "b1", offset: 4, text: "ve 🌱" },
      { type: "delta", block: "b1", offset: 7, text: "🌱 ok" },
    );
    expect(textOf(state, "b1")).toBe("naïve 🌱 ok");
  });

  it("text beyond a gap waits for the gap to be filled", () => {
    const gap = fold(...started, { type: "delta", block: "b1", offset: 5, text: " world" });
    expect(textOf(gap, "b1")).toBe("");
    const filled = reduceAll(gap, entries(4, { type: "block_text", block: "b1", offset: 0, text: "hello" }));
    expect(textOf(filled, "b1")).toBe("hello world");
  });

  it("a reset withdraws what the block showed", () => {
    const state = fold(...started, { type: "delta", block: "b1", offset: 0, text: "half" }, ...entries(4, { type: "block_reset", block: "b1" }));
    expect(textOf(state, "b1")).toBeUndefined();
  });

  it("the committed message replaces its blocks, and late deltas do not touch it", () => {
    const state = fold(
      ...started,
      { type: "delta", block: "b1", offset: 0, text: "Hell" },
      ...entries(4, {
        type: "assistant_message",
        turn: "t1",
        content: [{ type: "text", text: "Hello." }, { type: "tool_call", id: "c1", name: "bash", input: { command: "ls" } }],
        blocks: ["b1", "b2"],
        stop_reason: "tool_use",
        usage,
        model: "m",
      }),
      { type: "delta", block: "b1", offset: 4, text: "XX" },
    );
    expect(textOf(state, "b1")).toBe("Hello.");
    expect(tool(state, "c1")).toMatchObject({ name: "bash", isStarted: false, outcome: null });
    expect(state.usage).toEqual(usage);
  });

  it("an open block that the message does not name is withdrawn", () => {
    const state = fold(...started, ...entries(4, opened("b2"), { type: "assistant_message", turn: "t1", content: [{ type: "text", text: "B" }], blocks: ["b2"], stop_reason: "end_turn", usage, model: "m" }));
    expect(textOf(state, "b1")).toBeUndefined();
    expect(textOf(state, "b2")).toBe("B");
  });
});

describe("tools", () => {
  const run: Event = { type: "tool_started", turn: "t1", call: "c1", name: "bash", title: "cargo test" };

  it("live output is shown while it runs and gives way to the result", () => {
    const running = fold(...started, ...entries(4, run), { type: "output", call: "c1", offset: 0, text: "ab" }, { type: "output", call: "c1", offset: 1, text: "bc" });
    expect(tool(running, "c1").output.text).toBe("abc");
    const done = reduceAll(running, entries(5, { type: "tool_finished", turn: "t1", call: "c1", outcome: "failed", text: "exit 1", display: null, duration_ms: 40 }));
    expect(tool(done, "c1")).toMatchObject({ outcome: "failed", text: "exit 1", durationMs: 40 });
    expect(tool(done, "c1").output.text).toBe("");
  });

  it("output beyond a gap is shown: it is only a preview", () => {
    const state = fold(...started, ...entries(4, run), { type: "output", call: "c1", offset: 100, text: "end" });
    expect(tool(state, "c1").output.text).toBe("end");
  });

  it("output of a very long run keeps its end", () => {
    const state = fold(...started, ...entries(4, run), { type: "output", call: "c1", offset: 0, text: "x".repeat(300_000) + "END" });
    expect(tool(state, "c1").output.text.endsWith("END")).toBe(true);
    expect(tool(state, "c1").output.text.length).toBeLessThan(200_000);
  });
});

describe("turns", () => {
  it("a retry is over once the model answers", () => {
    const problem: Problem = { code: "model_overloaded", message: "Busy." };
    const waiting = fold(...started, ...entries(4, { type: "model_retry", turn: "t1", attempt: 2, wait_ms: 500, problem }));
    expect(waiting.items.get("e4")).toMatchObject({ kind: "retry", isOver: false });
    const over = reduceAll(waiting, entries(5, { type: "model_requested", turn: "t1", model: "m", attempt: 2 }));
    expect(over.items.get("e4")).toMatchObject({ isOver: true });
  });

  it("another model is chosen for the next turns, and the next of a chain goes on with this one", () => {
    const chosen = fold(...started, ...entries(4, { type: "model_chosen", model: "fast", effort: "high", by: "per_ada", name: "Ada" }));
    expect(chosen).toMatchObject({ model: "fast", effort: "high" });
    expect(chosen.items.get("e4")).toMatchObject({ kind: "notice", text: "Ada chose fast, effort high for the next turns." });
    const back = reduceAll(chosen, entries(5, { type: "model_chosen", by: "per_ada", name: "Ada" }));
    expect(back).toMatchObject({ model: null, effort: null });
    const problem: Problem = { code: "model_overloaded", message: "Busy." };
    const retry: Event = { type: "model_retry", turn: "t1", attempt: 1, wait_ms: 5, problem };
    const fallen = reduceAll(back, entries(6, retry, { type: "model_fallback", turn: "t1", from: "a/one", to: "b/two", problem }));
    expect(fallen.items.get("e6")).toMatchObject({ isOver: true });
    expect(fallen.items.get("e7")).toMatchObject({ tone: "warn", text: "Busy. b/two goes on instead of a/one." });
  });

  it("a small job counts for the session", () => {
    const state = fold(...started, ...entries(4, { type: "small_job_done", job: "title", model: "s", usage }));
    expect(state.usage).toEqual(usage);
  });

  it("a finished turn keeps its outcome, usage and timeline", () => {
    const marks = [{ stage: "committed" as const, at_us: 900 }];
    const outcome: TurnOutcome = { kind: "failed", problem: { code: "model_unreachable", message: "No." } };
    const state = fold(...started, ...entries(4, { type: "start_timeline", turn: "t1", marks }, { type: "turn_finished", turn: "t1", outcome, usage, duration_ms: 12 }));
    expect(state.running).toBeNull();
    expect(state.turns.get("t1")).toMatchObject({ marks, outcome, usage });
    expect(state.items.get("e5")).toMatchObject({ kind: "turn_end", outcome });
  });

  it("an interrupted turn says what was cut off", () => {
    const state = fold(...started, ...entries(4, { type: "turn_interrupted", turn: "t1", open_calls: ["c1"] }));
    expect(state.items.get("e4")).toMatchObject({ kind: "notice", text: expect.stringContaining("One tool call was cut off") });
  });

  it("a change is opened, approved and merged", () => {
    const state = fold(
      ...started,
      ...entries(
        4,
        { type: "change_opened", change: "chg", number: 3, title: "Fix", branch: "b", commit: "c", author: ada },
        { type: "change_approved", change: "chg", number: 3, by: "per_bo", name: "Bo" },
        { type: "change_merged", change: "chg", number: 3, commit: "d", by: "per_bo", name: "Bo" },
      ),
    );
    expect(state.change).toEqual({ id: "chg", number: 3, title: "Fix", state: "merged" });
    expect(state.items.get("e6")).toMatchObject({ what: "merged", title: "Fix", byName: "Bo" });
  });

  it("events of a newer server are passed over", () => {
    const state = fold(...started, ...entries(4, { type: "not_yet_invented" } as unknown as Event, accepted("p2")));
    expect(state.headSeq).toBe(5);
    expect(state.queue).toEqual(["p2"]);
  });
});

it("two thousand entries fold quickly", () => {
  const events: Event[] = Array.from({ length: 2000 }, (_, i) => ({ type: "tool_started", turn: "t1", call: `c${i}`, name: "read", title: "x" }));
  const from = performance.now();
  expect(fold(...started, ...entries(4, ...events)).order.length).toBe(2002);
  expect(performance.now() - from).toBeLessThan(500);
});

describe("what the model sees", () => {
  const compacted = (turnId: string, summary = "## Goal\nGreen."): Event => ({
    type: "context_compacted",
    turn: turnId,
    reason: "window_full",
    summary,
    kept: 2,
    carried: 1,
    tokens_before: 180_000,
    tokens_after: 30_000,
    usage,
    model: "m",
  });
  const begun: Event = { type: "compaction_started", turn: "t1", reason: "window_full", tokens: 180_000 };

  it("a summary is one entry from its beginning to its end, and is paid for", () => {
    const going = fold(...started, ...entries(4, begun));
    expect(going.items.get("e4")).toMatchObject({ kind: "compaction", done: null, isOver: false });
    const done = reduceAll(going, entries(5, compacted("t1")));
    expect(done.order).toEqual(going.order);
    expect(done.items.get("e4")).toMatchObject({ done: { summary: "## Goal\nGreen.", tokensAfter: 30_000 } });
    expect(done.usage).toEqual(usage);
    expect(done.turns.get("t1")?.usage).toEqual(usage);
  });

  it("one that came to nothing says so, and the next is another entry", () => {
    const again = fold(...started, ...entries(4, begun, begun, compacted("t1")));
    expect(again.items.get("e4")).toMatchObject({ done: null, isOver: true });
    expect(again.items.get("e5")).toMatchObject({ isOver: false, done: { tokensAfter: 30_000 } });
    const outcome: TurnOutcome = { kind: "stopped" };
    const stopped = fold(...started, ...entries(4, begun, { type: "turn_finished", turn: "t1", outcome, usage, duration_ms: 1 }));
    expect(stopped.items.get("e4")).toMatchObject({ done: null, isOver: true });
  });

  it("a summary of which only the end is known, and outputs that gave way, are shown", () => {
    const state = fold(...started, ...entries(4, compacted("t1"), { type: "context_pruned", turn: "t1", calls: ["a", "b"], tokens: 12_000 }));
    expect(state.items.get("e4")).toMatchObject({ kind: "compaction", done: { tokensAfter: 30_000 } });
    expect(state.items.get("e5")).toMatchObject({ kind: "notice", text: expect.stringContaining("2 older outputs") as string });
  });
});
