import { describe, expect, it } from "vitest";
import type { Author, Entry, Event, Frame, Opening, Usage } from "../api/types";
import { before, opened, reduceAll, withPast } from "./reduce";
import { type BlockItem, initialState, type SessionState } from "./state";

const ada: Author = { on_behalf_of: "per_ada", via: "person", name: "Ada", email: "ada@example.com" };
const used = (requests: number): Usage => ({
  input_tokens: requests,
  output_tokens: 0,
  cache_read_tokens: 0,
  cache_write_tokens: 0,
  cost_microusd: 0,
  requests,
});
const created = {
  type: "session_created",
  repository: "rep_1",
  repository_name: "sample",
  title: "first title",
  author: ada,
  branch: "greenroom/x",
  base_branch: "main",
  budget: { tokens: 1, cost_microusd: 1, wall_ms: 1, tool_calls: 1 },
} as Event;
const answered = (n: number): Event[] => [
  { type: "prompt_accepted", prompt: `p${n}`, author: ada, text: `prompt ${n}`, delivery: "queue" },
  { type: "turn_started", turn: `t${n}`, prompts: [`p${n}`] },
  {
    type: "assistant_message",
    turn: `t${n}`,
    content: [{ type: "text", text: `answer ${n}` }],
    blocks: [`b${n}`],
    stop_reason: "end_turn",
    usage: used(1),
    model: "m",
  },
  { type: "turn_finished", turn: `t${n}`, outcome: { kind: "completed" }, usage: used(1), duration_ms: 1 },
];

/** Title and waiting prompt are old; the rest are turns of four entries. */
const events: Event[] = [
  created,
  { type: "title_changed", title: "second title" },
  ...answered(1),
  ...answered(2),
  { type: "prompt_accepted", prompt: "waits", author: ada, text: "later", delivery: "queue" },
  ...answered(3),
  ...answered(4),
];
const log: Entry[] = events.map((event, index) => ({ seq: index + 1, at_ms: index, epoch: 1, event }));
const frames = (entries: Entry[]): Frame[] => entries.map((entry) => ({ type: "entry", entry }));
const whole = reduceAll(initialState(), [...frames(log), { type: "caught_up", seq: log.length }]);

/** As the server gives it: the waiting prompt and what made the session stand. */
function openingAt(from: number): Opening {
  const standing = log.filter(({ seq, event }) => seq < from && (seq <= 2 || (event.type === "prompt_accepted" && event.prompt === "waits")));
  const usage = used(log.filter(({ seq, event }) => seq < from && event.type === "assistant_message").length);
  const queue = [{ prompt: "waits", author: ada, text: "later", delivery: "queue" as const, is_held: false }];
  return { type: "snapshot", from_seq: from, head_seq: log.length, standing, usage, prompters: [ada], queue };
}

function windowed(from: number): SessionState {
  const rest = frames(log.slice(from - 1));
  return reduceAll(initialState(), [openingAt(from), ...rest, { type: "caught_up", seq: log.length }]);
}

/** What does not depend on how much of the past is shown. */
function present({ title, repository, branch, queue, running, usage, headSeq, hasGap, isCaughtUp }: SessionState) {
  return { title, repository, branch, queue, running, usage, headSeq, hasGap, isCaughtUp };
}

describe("a session opened near its end", () => {
  it("shows the present as one that was read whole", () => {
    const state = windowed(12);
    expect(present(state)).toEqual(present(whole));
    expect(state.firstSeq).toBe(12);
    expect(state.order).toEqual(["p:p3", "b:b3", "e15", "p:p4", "b:b4", "e19"]);
  });

  it("is the whole one when all pages were loaded", () => {
    let opening = openingAt(16);
    let kept = log.slice(15);
    let state = windowed(16);
    for (const [from, to] of [[8, 15], [3, 7], [1, 2]] as const) {
      const page = log.slice(from - 1, to);
      kept = [...page, ...kept];
      opening = before(opening, page);
      state = withPast(state, opening, kept);
      expect(present(state)).toEqual(present(whole));
    }
    expect(state).toEqual(whole);
  });

  it("has the queue in the order and the hold that it has now", () => {
    const two = { prompt: "p9", author: ada, text: "first now", delivery: "insert" as const, is_held: true };
    const opening: Opening = { ...openingAt(16), queue: [two, ...openingAt(16).queue] };
    const accepted: Entry = { seq: 15, at_ms: 1, epoch: 1, event: { type: "prompt_accepted", prompt: "p9", author: ada, text: "old words", delivery: "queue" } };
    const rest = frames(log.slice(15));
    const state = reduceAll(initialState(), [{ ...opening, standing: [...opening.standing, accepted] }, ...rest, { type: "caught_up", seq: log.length }]);
    expect(state.queue).toEqual(["p9", "waits"]);
    expect(state.prompts.get("p9")).toMatchObject({ text: "first now", delivery: "insert", isHeld: true });
    const page = log.slice(11, 15);
    expect(withPast(state, before(opening, page), [...page, ...log.slice(15)]).queue).toEqual(["p9", "waits"]);
  });

  it("keeps what is on its way when more of the past comes", () => {
    const open: Event[] = [
      { type: "prompt_accepted", prompt: "p5", author: ada, text: "more", delivery: "queue" },
      { type: "turn_started", turn: "t5", prompts: ["p5"] },
      { type: "block_opened", turn: "t5", block: "b5", kind: "text" },
    ];
    const more = open.map((event, index): Entry => ({ seq: log.length + 1 + index, at_ms: 1, epoch: 1, event }));
    const live = reduceAll(windowed(16), [...frames(more), { type: "delta", block: "b5", offset: 0, text: "on its way" }]);
    const page = log.slice(11, 15);
    const state = withPast(live, before(openingAt(16), page), [...page, ...log.slice(15), ...more]);
    expect((state.items.get("b:b5") as BlockItem).body.text).toBe("on its way");
    expect(state.order.slice(0, 3)).toEqual(["p:p3", "b:b3", "e15"]);
  });

  it("tells what is new since the last visit, and goes on telling it when more of the past comes", () => {
    const rest = frames(log.slice(11));
    const told: Frame[] = [{ type: "hello", protocol: 1, head_seq: log.length, epoch: 1 }, { type: "read", session: "ses_1", seq: 15 }];
    const state = reduceAll(initialState(), [...told, openingAt(12), ...rest]);
    expect(state.newFrom).toBe("p:p4");
    const page = log.slice(6, 11);
    expect(withPast(state, before(openingAt(12), page), [...page, ...log.slice(11)]).newFrom).toBe("p:p4");
  });

  it("counts what was left out as received, and an opening replaces what was there", () => {
    const state = reduceAll(windowed(16), [{ type: "omitted", through_seq: log.length + 3 }]);
    const next: Entry = { seq: log.length + 4, at_ms: 1, epoch: 1, event: { type: "title_changed", title: "newest" } };
    const after = reduceAll(state, frames([next]));
    expect([after.hasGap, after.title]).toEqual([false, "newest"]);
    expect(reduceAll(after, [openingAt(12)])).toEqual(opened(openingAt(12)));
  });
});
