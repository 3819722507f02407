import { expect, it } from "vitest";
import { hasNews, readOn, readsOf } from "../api/reads";
import type { Event, Frame, Readers, SessionView } from "../api/types";
import { seenText, typingText } from "./live";
import { reduceAll } from "./reduce";
import { initialState } from "./state";

const ada = { on_behalf_of: "per_ada", via: "person", name: "Ada", email: "ada@example.com" } as const;
const turn = (from: number, name: string): Frame[] => {
  const events: Event[] = [
    { type: "prompt_accepted", prompt: name, author: ada, text: name, delivery: "queue" },
    { type: "turn_started", turn: `t-${name}`, prompts: [name] },
  ];
  return events.map((event, index) => ({ type: "entry", entry: { seq: from + index, at_ms: 1, epoch: 1, event } }));
};
const hello = (head_seq: number): Frame => ({ type: "hello", protocol: 1, head_seq, epoch: 1 });
const read = (seq: number): Frame => ({ type: "read", session: "ses_1", seq });

it("what came between two visits begins at a mark, what comes while one looks does not", () => {
  const away = reduceAll(initialState(), [hello(4), read(2), ...turn(1, "seen"), ...turn(3, "missed")]);
  expect(away.newFrom).toBe("p:missed");
  const here = reduceAll(away, [read(4), ...turn(5, "own")]);
  expect(here.newFrom, "the mark stays for this visit").toBe("p:missed");
  const back = reduceAll(here, [hello(8), read(6), ...turn(7, "later")]);
  expect(back.newFrom).toBe("p:later");
  expect(reduceAll(back, [hello(8), read(8)]).newFrom).toBeNull();
});

it("who opens a session for the first time sees no mark", () => {
  expect(reduceAll(initialState(), [hello(2), read(0), ...turn(1, "all")]).newFrom).toBeNull();
});

it("at most two names are said, and the others counted", () => {
  expect(["", "Ada", "Ada,Ben", "Ada,Ben,Cleo"].map((names) => typingText(names.split(",").filter(Boolean)))).toEqual(["", "Ada is typing", "Ada and Ben are typing", "Ada and 2 others are typing"]);
  const readers: Readers = { readers: ["Ada", "Ben", "Cleo", "Dan"].map((name, index) => ({ person: name, name, seq: 9 - index })), more: 0 };
  expect(seenText(readers, 7, "Ada")).toBe("Seen by Ben and Cleo");
  expect(seenText(readers, 6, "Ada")).toBe("Seen by Ben, Cleo and 1 more");
  expect(seenText(readers, 9, "Ada"), "oneself does not count").toBe("");
});

it("there is news in a session that one began or opened before, until it is read", () => {
  const session = { id: "ses_1", created_by: "per_ada", news_seq: 5 } as SessionView;
  expect([hasNews(session, {}, "per_ada"), hasNews(session, {}, "per_ben")]).toEqual([true, false]);
  const reads = readsOf([{ session: "ses_1", seq: 4 }]);
  expect(hasNews(session, reads, "per_ben")).toBe(true);
  expect(hasNews(session, readOn(reads, { session: "ses_1", seq: 6 }), "per_ben")).toBe(false);
  expect(readOn({ ses_1: 6 }, { session: "ses_1", seq: 4 })).toEqual({ ses_1: 6 });
});
