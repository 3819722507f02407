/** The list of sessions, frame by frame. */
import { expect, it } from "vitest";
import { applyLine, concernsArchived } from "./sessions-stream";
import type { SessionView } from "./types";

const view = (id: string, created_at_ms: number, head_seq = 1): SessionView => ({ id, created_at_ms, head_seq, title: `${id} at ${head_seq}` }) as SessionView;
const said = (list: readonly SessionView[] | undefined) => list?.map((session) => session.title);

it("a snapshot replaces the list, and nothing is known before the first", () => {
  expect(applyLine(undefined, { type: "changed", session: view("a", 1) })).toBeUndefined();
  expect(said(applyLine([view("old", 1)], { type: "snapshot", sessions: [view("b", 2), view("a", 1)] }))).toEqual(["b at 1", "a at 1"]);
});

it("a line is replaced where it stands, never by an older one", () => {
  const list = [view("b", 2, 5), view("a", 1, 5)];
  expect(said(applyLine(list, { type: "changed", session: view("a", 1, 6) }))).toEqual(["b at 5", "a at 6"]);
  expect(said(applyLine(list, { type: "changed", session: view("a", 1, 4) }))).toEqual(["b at 5", "a at 5"]);
});

it("a new session stands by its age, and the list keeps its length", () => {
  const list = [view("c", 3), view("a", 1)];
  expect(said(applyLine(list, { type: "changed", session: view("d", 4) }))).toEqual(["d at 1", "c at 1", "a at 1"]);
  expect(said(applyLine(list, { type: "changed", session: view("b", 2) }))).toEqual(["c at 1", "b at 1", "a at 1"]);
  const full = Array.from({ length: 200 }, (_, at) => view(`s${at}`, 1000 - at));
  expect(applyLine(full, { type: "changed", session: view("new", 2000) })).toHaveLength(200);
  expect(applyLine(full, { type: "removed", session: "s7" })).toHaveLength(199);
});

it("the archived ones are asked for again when one comes or goes, not at every change", () => {
  const archived = (id: string): SessionView => ({ ...view(id, 1), is_archived: true });
  const known = [archived("a")];
  expect(concernsArchived(known, { type: "changed", session: archived("b") })).toBe(true);
  expect(concernsArchived(known, { type: "changed", session: view("a", 1) })).toBe(true);
  expect(concernsArchived(known, { type: "removed", session: "a" })).toBe(true);
  expect(concernsArchived(known, { type: "changed", session: view("c", 1) })).toBe(false);
  expect(concernsArchived(undefined, { type: "removed", session: "c" })).toBe(false);
});
