/** Folds what is told of the trees of steps: which call changed what, and files that were put back. */
import type { Event } from "../api/types";
import type { Draft } from "./reduce-draft";
import { toolKey } from "./reduce-work";
import type { RevertItem } from "./state";

type Told<T extends Event["type"]> = Extract<Event, { type: T }>;
interface Base {
  key: string;
  atMs: number;
  turn: string | null;
}

/** It can come after its turn's end. */
export function keepStep(draft: Draft, event: Told<"step_tree">, base: Base): void {
  changeRevert(draft, (item) => (item.done ? { ...item, done: { ...item.done, forward: null } } : item));
  const { step, files, additions, deletions } = event;
  const mark = { step, files, additions, deletions };
  if (event.of.kind === "outside") {
    // The first one is how the files were before.
    if (event.from != null) draft.put({ ...base, kind: "step", step: mark });
    return;
  }
  const { turn, calls } = event.of;
  const last = draft.now.items.get(toolKey(calls.at(-1) ?? ""));
  if (last?.kind === "tool") draft.put({ ...last, step: mark });
  const steps = draft.now.turns.get(turn)?.steps;
  draft.changeTurn(turn, { steps: { from: steps ? steps.from : (event.from ?? null), last: step } });
}

export function beginRevert(draft: Draft, event: Told<"revert_requested">, base: Base): void {
  draft.put({ ...base, kind: "revert", to: event.to, name: event.name, done: null, isOver: false });
  draft.set({ revert: base.key });
}

export function finishRevert(draft: Draft, event: Told<"reverted">, base: Base): void {
  const open = revertAt(draft);
  for (const item of draft.now.items.values()) {
    if (item.kind === "revert" && item.done?.forward != null) draft.put({ ...item, done: { ...item.done, forward: null } });
  }
  const key = open && !open.isOver && !open.done ? open.key : base.key;
  const done = { from: event.from, changedCount: event.changed_count, forward: event.forward ?? null };
  draft.put({ ...base, ...(open?.key === key ? { atMs: open.atMs, turn: open.turn } : {}), key, kind: "revert", to: event.to, name: event.name, done, isOver: true });
  draft.set({ revert: key });
}

export function failRevert(draft: Draft, event: Told<"revert_failed">, base: Base): void {
  changeRevert(draft, (item) => ({ ...item, isOver: true }));
  draft.put({ ...base, kind: "notice", tone: "bad", text: event.problem.message, problem: event.problem });
}

function revertAt(draft: Draft): RevertItem | undefined {
  const item = draft.now.items.get(draft.now.revert ?? "");
  return item?.kind === "revert" ? item : undefined;
}

function changeRevert(draft: Draft, change: (item: RevertItem) => RevertItem): void {
  const item = revertAt(draft);
  if (item) draft.put(change(item));
}
