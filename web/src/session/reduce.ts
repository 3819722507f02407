/**
 * Folds the frames of a session's stream into its state. Pure: no clock, no network. Entries are applied once, by their
 * sequence number; ephemeral frames (`delta`, `output`) only ever add what the log has not brought yet.
 */
import type { DenyReason, Entry, Event, Frame, Opening, Usage } from "../api/types";
import { Draft } from "./reduce-draft";
import { beginRevert, failRevert, finishRevert, keepStep } from "./reduce-trees";
import { applyMessage, blockKey, finishTool, growBlock, growOutput, newBlock, startTool } from "./reduce-work";
import { childEndText, choiceText, CONSUMER_NAMES, denyText, peopleText, prunedText } from "./say";
import { type AskItem, type ChangeItem, type CompactionItem, initialState, NO_USAGE, type NoticeItem, type SessionState, type Snapshot } from "./state";
import { addUsage, subtractUsage } from "./usage";

export function reduce(state: SessionState, frame: Frame): SessionState {
  return reduceAll(state, [frame]);
}

/** Many frames at once cost one copy of the collections. */
export function reduceAll(state: SessionState, frames: readonly Frame[]): SessionState {
  const draft = new Draft(state);
  for (const frame of frames) applyFrame(draft, frame);
  return draft.finish();
}

function applyFrame(draft: Draft, frame: Frame): void {
  switch (frame.type) {
    case "hello":
      draft.set({ isCaughtUp: draft.now.headSeq >= frame.head_seq, hasGap: false, missed: { after: null, upTo: frame.head_seq } });
      return;
    case "read":
      // The first one after `hello`: from before this visit.
      if (draft.now.missed.after === null) draft.set({ missed: { ...draft.now.missed, after: frame.seq }, newFrom: null });
      return;
    case "snapshot":
      draft.set({ ...opened(frame), missed: draft.now.missed });
      return;
    case "omitted":
      draft.set({ headSeq: Math.max(draft.now.headSeq, frame.through_seq) });
      return;
    case "caught_up":
      settleQueue(draft);
      draft.set({ isCaughtUp: true });
      return;
    case "entry":
      applyEntry(draft, frame.entry);
      return;
    case "delta":
      growBlock(draft, frame.block, frame.offset, frame.text);
      return;
    case "output":
      growOutput(draft, frame.call, frame.offset, frame.text);
      return;
    default:
      // Receipts, resume and errors belong to the connection; unknown frames of a newer server are not for us.
      return;
  }
}

/** The present of a session without its past: what stands of it is folded as it was told, and only its prompts and open asks are shown. */
export function opened(opening: Opening): SessionState {
  const draft = new Draft(initialState());
  for (const entry of opening.standing) takeEntry(draft, entry);
  const { now } = draft;
  const isKept = (key: string) => ["prompt", "ask"].includes(now.items.get(key)?.kind ?? "");
  const order = now.order.filter(isKept);
  return {
    ...now,
    headSeq: opening.from_seq - 1,
    firstSeq: opening.from_seq,
    order,
    items: new Map([...now.items].filter(([key]) => isKept(key))),
    usage: opening.usage,
    settled: opening.queue,
    prompters: new Map(opening.prompters.map((author) => [author.on_behalf_of, author.name])),
  };
}

/**
 * The state with more of the past: everything is folded again from the earlier beginning. What is only on its way (streamed
 * text, output of running tools) is kept as it is.
 */
export function withPast(current: SessionState, opening: Opening, entries: readonly Entry[]): SessionState {
  const draft = new Draft({ ...opened(opening), missed: current.missed });
  for (const entry of entries) takeEntry(draft, entry);
  for (const [key, item] of current.items) {
    const isOnItsWay = item.kind === "tool" ? item.outcome === null : (item.kind === "text" || item.kind === "thinking") && !item.isDone;
    if (isOnItsWay && draft.now.items.has(key)) draft.put(item);
  }
  const { headSeq, isCaughtUp, hasGap, settled, queue } = current;
  const waiting = queue.flatMap((id) => current.prompts.get(id) ?? []);
  const prompts = new Map([...draft.now.prompts, ...waiting.map((prompt) => [prompt.id, prompt] as const)]);
  return { ...draft.finish(), headSeq, isCaughtUp, hasGap, settled, queue, prompts };
}

/** How waiting prompts were moved and held back before the window is not told one by one. */
function settleQueue(draft: Draft): void {
  const { settled } = draft.now;
  if (!settled) return;
  for (const { prompt, text, delivery, is_held } of settled) draft.changePrompt(prompt, { text, delivery, isHeld: is_held });
  draft.set({ queue: settled.map(({ prompt }) => prompt), settled: null });
}

/** The opening as it is with this page, which comes before it. */
export function before(opening: Opening, page: readonly Entry[]): Opening {
  const from = page[0]?.seq ?? 1;
  let { usage } = opening;
  for (const { event } of page) if (event.type === "assistant_message" || event.type === "context_compacted") usage = subtractUsage(usage, event.usage);
  return { ...opening, from_seq: from, standing: opening.standing.filter((entry) => entry.seq < from), usage };
}

function applyEntry(draft: Draft, entry: Entry): void {
  const { headSeq } = draft.now;
  if (entry.seq <= headSeq) return;
  if (entry.seq > headSeq + 1) {
    draft.set({ hasGap: true });
    return;
  }
  draft.set({ headSeq: entry.seq });
  takeEntry(draft, entry);
}

/** Wherever in the log it is. */
function takeEntry(draft: Draft, entry: Entry): void {
  const last = draft.now.order.length;
  applyEvent(draft, entry.event, entry.at_ms, entry.seq);
  if (NEWS.has(entry.event.type)) draft.set({ newsSeq: entry.seq });
  const { newFrom, missed, order } = draft.now;
  const isMissed = missed.after !== null && missed.after > 0 && entry.seq > missed.after && entry.seq <= missed.upTo;
  if (isMissed && newFrom === null && order.length > last) draft.set({ newFrom: order[last] ?? null });
}

/** As the server counts what is news. */
const NEWS: ReadonlySet<string> = new Set(["session_created", "prompt_accepted", "turn_finished", "ask_opened", "change_opened", "change_updated", "change_approved", "change_merged"]);

function without<K, V>(map: ReadonlyMap<K, V>, key: K): ReadonlyMap<K, V> {
  return new Map([...map].filter(([other]) => other !== key));
}

function applyEvent(draft: Draft, event: Event, atMs: number, seq: number): void {
  const base = { key: `e${seq}`, atMs, turn: draft.now.running };
  switch (event.type) {
    case "session_created":
      return draft.set({
        title: event.title,
        repository: event.repository_name,
        branch: event.branch,
        baseBranch: event.base_branch,
        model: event.model ?? null,
        effort: event.effort ?? null,
        author: event.author,
        forkedFrom: event.forked_from ?? null,
        importedFrom: event.imported_from ?? null,
        parent: event.parent?.session ?? null,
      });
    case "title_changed":
      return draft.set({ title: event.title });
    case "model_chosen":
      draft.set({ model: event.model ?? null, effort: event.effort ?? null });
      return draft.put(notice(base, "info", `${event.name} chose ${choiceText(event.model, event.effort)} for the next turns.`));
    case "model_fallback":
      endRetries(draft, event.turn);
      return draft.put(notice(base, "warn", `${event.problem.message} ${event.to} goes on instead of ${event.from}.`));
    case "small_job_done":
      return draft.set({ usage: addUsage(draft.now.usage, event.usage) });
    case "prompt_accepted":
      draft.putPrompt({
        id: event.prompt,
        author: event.author,
        text: event.text,
        files: event.attachments ?? [],
        delivery: event.delivery,
        atMs,
        status: "queued",
        isEdited: false,
        isHeld: false,
      });
      return draft.set({ queue: [...draft.now.queue, event.prompt] });
    case "prompt_edited":
      return draft.changePrompt(event.prompt, { text: event.text, isEdited: true });
    case "prompt_withdrawn":
      draft.changePrompt(event.prompt, { status: "withdrawn" });
      return draft.set({ queue: draft.now.queue.filter((id) => id !== event.prompt) });
    case "delivery_set":
      return draft.changePrompt(event.prompt, { delivery: event.delivery });
    case "prompt_moved":
      return draft.set({ queue: moved(draft.now.queue, event.prompt, event.before ?? null) });
    case "queue_held":
      holdQueue(draft, true);
      return draft.put(notice(base, "info", `${event.name} held back what waits.`));
    case "queue_released":
      holdQueue(draft, false);
      return draft.put(notice(base, "info", `${event.name} released what was held back.`));
    case "commands_begun":
      return draft.put(notice(base, "info", `${event.by.name} runs commands in the sandbox.`));
    case "files_marked":
      // For `blame`, which asks the server.
      return;
    case "step_tree":
      return keepStep(draft, event, base);
    case "revert_requested":
      return beginRevert(draft, event, base);
    case "revert_begun":
      // Of interest to who goes on after a restart.
      return;
    case "reverted":
      return finishRevert(draft, event, base);
    case "revert_failed":
      return failRevert(draft, event, base);
    case "participant_changed":
    case "team_access_changed":
    case "share_link_revoked":
      draft.set({ peopleSeq: seq });
      return draft.put(notice(base, "info", peopleText(event)));
    case "turn_started":
      draft.putTurn({
        id: event.turn,
        startedAtMs: atMs,
        model: null,
        isStopping: false,
        usage: NO_USAGE,
        marks: [],
        sandbox: null,
        outcome: null,
        firstPrompt: event.prompts[0] ?? null,
        hasWritten: false,
        steps: null,
        snapshot: null,
      });
      draft.set({ running: event.turn });
      for (const prompt of event.prompts) takePrompt(draft, prompt, event.turn, false);
      return;
    case "prompt_inserted":
      return takePrompt(draft, event.prompt, event.turn, true);
    case "model_requested":
      endRetries(draft, event.turn);
      return draft.changeTurn(event.turn, { model: event.model });
    case "model_retry":
      endRetries(draft, event.turn);
      return draft.put({
        ...base,
        kind: "retry",
        attempt: event.attempt,
        waitMs: event.wait_ms,
        problem: event.problem,
        isOver: false,
      });
    case "block_opened":
      endRetries(draft, event.turn);
      return draft.put(newBlock(event.block, event.kind, event.turn, atMs));
    case "block_text":
      return growBlock(draft, event.block, event.offset, event.text);
    case "block_reset":
      return draft.remove(blockKey(event.block));
    case "assistant_message":
      draft.set({ usage: addUsage(draft.now.usage, event.usage) });
      addTurnUsage(draft, event.turn, event.usage);
      return applyMessage(draft, event.turn, event.content, event.blocks, atMs);
    case "tool_started":
      return startTool(draft, event, atMs);
    case "tool_finished":
      return finishTool(draft, event, atMs);
    case "notice_given":
      return draft.put({ ...base, turn: event.turn, kind: "told", text: event.text });
    case "context_pruned":
      return draft.put(notice({ ...base, turn: event.turn }, "info", prunedText(event.calls.length, event.tokens)));
    case "compaction_requested":
      return draft.put(notice({ ...base, turn: event.turn }, "info", `${event.author.name} asked for a summary.`));
    case "compaction_started":
      endCompaction(draft, event.turn);
      return draft.put({ ...base, turn: event.turn, kind: "compaction", reason: event.reason, tokensBefore: event.tokens, done: null, isOver: false });
    case "context_compacted": {
      draft.set({ usage: addUsage(draft.now.usage, event.usage) });
      addTurnUsage(draft, event.turn, event.usage);
      const key = openCompaction(draft, event.turn)?.key ?? base.key;
      const done = { summary: event.summary, tokensAfter: event.tokens_after, usage: event.usage };
      return draft.put({ ...base, key, turn: event.turn, kind: "compaction", reason: event.reason, tokensBefore: event.tokens_before, done, isOver: false });
    }
    case "artifact_published":
      return draft.put({ ...base, turn: event.turn, kind: "artifact", session: draft.now.id, file: event.file, title: event.title, description: event.description ?? null });
    case "todo_changed":
      return draft.set({ todo: event.items });
    case "sandbox_changed":
      return applySandbox(draft, event, base);
    case "synced":
      return draft.put({
        ...base,
        kind: "synced",
        from: event.from,
        to: event.to,
        changed: event.changed,
        changedCount: event.changed_count,
        rerunSteps: event.rerun_steps,
      });
    case "snapshot_taken":
      return keepSnapshot(draft, { id: event.snapshot, reason: event.reason, turn: event.turn ?? null, atMs, isDropped: false, hasServices: draft.now.services.size > 0 });
    case "snapshot_dropped": {
      const known = draft.now.snapshots.get(event.snapshot);
      return known && keepSnapshot(draft, { ...known, isDropped: true });
    }
    case "service_changed":
      return applyService(draft, event, base);
    case "egress_denied":
      countDenied(draft, event.host, event.port, event.reason ?? null);
      return draft.put(notice(base, "warn", `A connection to ${event.host}:${event.port} was refused${event.reason == null ? "" : `: ${denyText(event.reason)}`}.`));
    case "start_timeline":
      return draft.changeTurn(event.turn, { marks: event.marks, sandbox: event.sandbox ?? null });
    case "change_opened":
      draft.set({ change: { id: event.change, number: event.number, title: event.title, state: "open" } });
      return draft.put(changeItem(base, "opened", event, event.author.name, event.title));
    case "change_updated":
      return draft.put(changeItem(base, "updated", event, null, draft.now.change?.title ?? ""));
    case "change_approved":
      return draft.put(changeItem(base, "approved", event, event.name, draft.now.change?.title ?? ""));
    case "change_merged": {
      const { change } = draft.now;
      draft.set({ change: { id: event.change, number: event.number, title: change?.title ?? "", state: "merged" } });
      return draft.put(changeItem(base, "merged", event, event.name, change?.title ?? ""));
    }
    case "session_archived":
    case "session_unarchived": {
      const isArchived = event.type === "session_archived";
      draft.set({ isArchived });
      return draft.put(notice(base, "info", isArchived ? `${event.name} archived this session.` : `${event.name} brought this session back.`));
    }
    case "child_spawned":
      draft.set({ familySeq: seq });
      return draft.put(notice(base, "info", `A session was begun in ${event.request.repository}: ${event.request.title}`));
    case "child_messaged":
      return draft.set({ familySeq: seq });
    case "child_ended":
      draft.set({ familySeq: seq });
      return draft.put(notice(base, event.end.outcome === "completed" ? "info" : "warn", childEndText(event.end)));
    case "children_stop_requested":
    case "children_released":
      draft.set({ familySeq: seq });
      return draft.put(notice(base, "info", event.type === "children_released" ? `${event.name} lets the sessions begun here go on alone.` : `${event.name} has the sessions begun here stopped.`));
    case "dead_letter_added":
      return draft.set({ deadLetters: new Map([...draft.now.deadLetters, [event.consumer, event.problem]]) });
    case "dead_letter_retried":
      draft.set({ deadLetters: without(draft.now.deadLetters, event.consumer) });
      return draft.put(notice(base, "info", `${event.name} has ${CONSUMER_NAMES[event.consumer]} told again.`));
    case "dead_letter_settled":
      return draft.set({ deadLetters: without(draft.now.deadLetters, event.consumer) });
    case "ask_opened":
      return draft.put({ ...base, key: askKey(event.call), turn: event.turn, kind: "ask", ask: event.ask, call: event.call, of: event.of, expiresAtMs: event.expires_at_ms, end: null });
    case "ask_answered":
      return endAsks(draft, (item) => item.ask === event.ask, { kind: "answered", answer: event.answer, name: event.name });
    case "ask_expired":
      return endAsks(draft, (item) => item.ask === event.ask, { kind: "expired" });
    case "stop_requested":
      draft.changeTurn(event.turn, { isStopping: true });
      return draft.put(notice(base, "info", `${event.name} asked to stop.`));
    case "turn_interrupted":
      return draft.put(notice(base, "warn", interruptedText(event.open_calls.length)));
    case "turn_finished":
      endAsks(draft, () => true, { kind: "ended" });
      return finishTurn(draft, event, base);
    default:
      return unknownEvent(event);
  }
}

/** A newer server may know events that this page does not: they are passed over. */
function unknownEvent(_event: never): void {}

function takePrompt(draft: Draft, id: string, turn: string, wasInserted: boolean): void {
  draft.changePrompt(id, { status: "taken" });
  const prompt = draft.now.prompts.get(id);
  if (!prompt) return;
  const prompters = new Map(draft.now.prompters).set(prompt.author.on_behalf_of, prompt.author.name);
  draft.set({ queue: draft.now.queue.filter((queued) => queued !== id), prompters });
  draft.put({ kind: "prompt", key: `p:${id}`, atMs: prompt.atMs, turn, prompt, session: draft.now.id, wasInserted });
}

/** One ask for a call. */
export const askKey = (call: string) => `a:${call}`;

/** Those of the running turn that are open. */
function endAsks(draft: Draft, isMeant: (item: AskItem) => boolean, end: AskItem["end"]): void {
  for (const item of draft.now.items.values()) if (item.kind === "ask" && item.end === null && isMeant(item)) draft.put({ ...item, end });
}

function holdQueue(draft: Draft, isHeld: boolean): void {
  for (const prompt of draft.now.queue) draft.changePrompt(prompt, { isHeld });
}

/** As the server places it: right before another waiting prompt, else at the end. */
function moved(queue: readonly string[], prompt: string, before: string | null): readonly string[] {
  if (!queue.includes(prompt)) return queue;
  const others = queue.filter((id) => id !== prompt);
  const place = before === null ? -1 : others.indexOf(before);
  return others.toSpliced(place === -1 ? others.length : place, 0, prompt);
}

/** The last one of this turn that is on its way. */
function openCompaction(draft: Draft, turn: string): CompactionItem | undefined {
  for (let i = draft.now.order.length - 1; i >= 0; i--) {
    const item = draft.now.items.get(draft.now.order[i] ?? "");
    if (item && item.turn !== null && item.turn !== turn) return undefined;
    if (item?.kind === "compaction") return item.done || item.isOver ? undefined : item;
  }
  return undefined;
}

function endCompaction(draft: Draft, turn: string): void {
  const open = openCompaction(draft, turn);
  if (open) draft.put({ ...open, isOver: true });
}

function endRetries(draft: Draft, turn: string): void {
  for (let i = draft.now.order.length - 1; i >= 0; i--) {
    const item = draft.now.items.get(draft.now.order[i] ?? "");
    if (item?.turn !== turn) return;
    if (item.kind === "retry" && !item.isOver) draft.put({ ...item, isOver: true });
  }
}

type Base = Pick<NoticeItem, "key" | "atMs" | "turn">;

function notice(base: Base, tone: NoticeItem["tone"], text: string): NoticeItem {
  return { ...base, kind: "notice", tone, text, problem: null };
}

function changeItem(
  base: Base,
  what: ChangeItem["what"],
  event: { change: string; number: number; commit?: string },
  byName: string | null,
  title: string,
): ChangeItem {
  return { ...base, kind: "change", what, change: event.change, number: event.number, title, byName, commit: event.commit ?? null };
}

function applySandbox(draft: Draft, event: Extract<Event, { type: "sandbox_changed" }>, base: Base): void {
  const problem = event.problem ?? null;
  draft.set({ sandbox: { phase: event.state, problem, image: event.image ?? draft.now.sandbox?.image ?? null } });
  // Services live and end with their sandbox.
  if (event.state === "claiming" || event.state === "stopped") draft.set({ services: new Map() });
  if (event.state === "lost" || event.state === "failed") {
    const text = event.state === "lost" ? "The sandbox ended unexpectedly; files up to the last write are kept." : "The sandbox could not be started.";
    draft.put({ ...notice(base, "bad", text), problem });
  }
}

/** A turn that changed nothing has none of its own: what it left is what the one before it left. */
function keepSnapshot(draft: Draft, snapshot: Snapshot): void {
  draft.set({ snapshots: new Map(draft.now.snapshots).set(snapshot.id, snapshot) });
  const turn = draft.now.turns.get(snapshot.turn ?? "");
  const isNewer = !snapshot.isDropped && snapshot.reason !== "out_of_memory";
  if (turn && (isNewer || turn.snapshot?.id === snapshot.id)) draft.putTurn({ ...turn, snapshot });
}

function applyService(draft: Draft, event: Extract<Event, { type: "service_changed" }>, base: Base): void {
  const problem = event.problem ?? null;
  draft.set({ services: new Map(draft.now.services).set(event.name, { name: event.name, state: event.state, problem }) });
  if (event.state !== "failed") return;
  draft.put({ ...notice(base, "warn", `The service “${event.name}” is not running.`), problem });
}

function countDenied(draft: Draft, host: string, port: number, reason: DenyReason | null): void {
  const key = `${host}:${port}`;
  const times = (draft.now.denied.get(key)?.times ?? 0) + 1;
  draft.set({ denied: new Map(draft.now.denied).set(key, { host, port, reason, times }) });
}

function interruptedText(openCalls: number): string {
  if (openCalls === 0) return "The server restarted during this turn.";
  const calls = openCalls === 1 ? "One tool call was cut off; its outcome is" : `${openCalls} tool calls were cut off; their outcome is`;
  return `The server restarted during this turn. ${calls} unknown.`;
}

function finishTurn(draft: Draft, event: Extract<Event, { type: "turn_finished" }>, base: Base): void {
  endRetries(draft, event.turn);
  endCompaction(draft, event.turn);
  draft.changeTurn(event.turn, { outcome: event.outcome, usage: event.usage });
  draft.put({
    ...base,
    turn: event.turn,
    kind: "turn_end",
    outcome: event.outcome,
    usage: event.usage,
    durationMs: event.duration_ms,
  });
  if (draft.now.running === event.turn) draft.set({ running: null });
}

function addTurnUsage(draft: Draft, id: string, usage: Usage): void {
  const turn = draft.now.turns.get(id);
  if (turn) draft.putTurn({ ...turn, usage: addUsage(turn.usage, usage) });
}
