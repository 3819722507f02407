import { describe, expect, it } from "vitest";
import type { Answer, Asked, Event, Frame, Opening } from "../api/types";
import { askKey, opened, reduceAll } from "./reduce";
import { answerText, waitText } from "./say-asks";
import { type AskItem, initialState, NO_USAGE, type SessionState } from "./state";

const of: Asked = { kind: "questions", questions: [{ header: "Colour", text: "Which?", options: [{ label: "red" }, { label: "blue" }], is_multiple: false, takes_text: true }] };
const leave: Asked = { kind: "permission", permission: "bash", title: "Run `make`", subjects: ["make"], grants: [] };
const started: Event = { type: "turn_started", turn: "t1", prompts: [] };
const openedAsk = (ask: string, call: string, what: Asked = of): Event => ({ type: "ask_opened", turn: "t1", ask, call, of: what, expires_at_ms: 600_000 });
const answered = (ask: string, answer: Answer): Event => ({ type: "ask_answered", turn: "t1", ask, answer, by: "per_ada", name: "Ada" });
const finished: Event = { type: "turn_finished", turn: "t1", outcome: { kind: "stopped" }, usage: NO_USAGE, duration_ms: 1 };
const blue: Answer = { kind: "chosen", answers: [{ chosen: ["blue"], text: "it is calm" }] };

function play(...events: Event[]): SessionState {
  const frames = events.map((event, index): Frame => ({ type: "entry", entry: { seq: index + 1, at_ms: 0, epoch: 1, event } }));
  return reduceAll(initialState("ses_1"), frames);
}
const item = (state: SessionState, call: string) => state.items.get(askKey(call)) as AskItem;

describe("asks", () => {
  it("are open until the first answer, which says who and what", () => {
    expect(item(play(started, openedAsk("a1", "c1")), "c1").end).toBe(null);
    const state = play(started, openedAsk("a1", "c1"), answered("a1", blue));
    expect(answerText(item(state, "c1"))).toBe("Ada answered: blue; it is calm");
    expect(state.newsSeq, "an ask is news").toBe(2);
  });
  it("end by time, and with their turn", () => {
    const state = play(started, openedAsk("a1", "c1"), { type: "ask_expired", turn: "t1", ask: "a1" }, openedAsk("a2", "c2", leave), finished);
    expect(answerText(item(state, "c1"))).toBe("Nobody answered in time.");
    expect(answerText(item(state, "c2"))).toBe("The turn ended before anybody answered.");
  });
  it("tell leave and its denial in words", () => {
    const said = (answer: Answer) => answerText(item(play(started, openedAsk("a1", "c1", leave), answered("a1", answer)), "c1"));
    expect(said({ kind: "once" })).toBe("Ada allowed it once.");
    expect(said({ kind: "always" })).toBe("Ada allowed it for this session.");
    expect(said({ kind: "deny", feedback: "use just" })).toBe("Ada denied it: use just");
    expect(said({ kind: "deny" })).toBe("Ada denied it.");
  });
  it("that are open are shown to whoever opens a long session at its end", () => {
    const standing = [started, openedAsk("a1", "c1")].map((event, index) => ({ seq: index + 3, at_ms: 0, epoch: 1, event }));
    const opening: Opening = { type: "snapshot", from_seq: 90, head_seq: 90, standing, usage: NO_USAGE, prompters: [], queue: [] };
    const state = opened(opening);
    expect(state.order).toEqual([askKey("c1")]);
    // An answer to one that is not shown any more is no surprise.
    expect(play(started, answered("a9", blue)).order).toEqual([]);
  });
  it("say how long they wait", () => {
    expect([waitText(0), waitText(1), waitText(59_500), waitText(600_000), waitText(3 * 3_600_000)]).toEqual(["time is up", "1 s left", "1 min left", "10 min left", "3 h left"]);
  });
});
