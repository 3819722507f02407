/**
 * What is typed and not sent, kept on the server for the same person's other clients, and in this browser's tab for the
 * moment in which the server cannot be reached. `draft-sync.ts` decides; here are the time and the ways there and back.
 */
import { useEffect, useMemo, useSyncExternalStore } from "react";
import { api } from "../api/client";
import type { Draft } from "../api/types";
import { personHere } from "../lib/person";
import { forgetShareSecret } from "../lib/share-secret";
import { cutOff, type DraftState, due, failed, type Kept, NO_DRAFT, takeOffered, told, typed } from "./draft-sync";

const DEBOUNCE_MS = 400;
const RETRY_MS = 3000;
const KEPT = "greenroom-draft-";
/** As many bytes as the server keeps. */
const LONGEST = 256 * 1024;

/** Grows when another person may sign in: what is left of the one before is written nowhere any more. */
let generation = 0;

export class DraftBox {
  private readonly generation = generation;
  private readonly key: string;
  private state: DraftState;
  private timer: ReturnType<typeof setTimeout> | undefined;
  private readonly listeners = new Set<() => void>();

  constructor(
    /** A session's id, or what a new session is for. */
    place: string,
    /** Sends it; `told` or `fail` follows. */
    private readonly write: (write: Kept) => void,
  ) {
    // What one person typed in this tab is not another's, whoever signed in in between, and wherever.
    this.key = `${KEPT}${personHere()}-${place}`;
    this.state = { ...NO_DRAFT, ...restored(this.key) };
  }

  subscribe = (listener: () => void): (() => void) => {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  };

  read = (): DraftState => this.state;

  type(text: string): void {
    this.set(typed(this.state, text));
    this.plan(DEBOUNCE_MS);
  }

  told(draft: Kept, isRefused = false): void {
    this.set(told(this.state, { text: draft.text, revision: draft.revision }, isRefused));
    this.plan(DEBOUNCE_MS);
  }

  /** Nothing can be sent until the server says again what it keeps. */
  cutOff(): void {
    this.set(cutOff(this.state));
  }

  fail(): void {
    if (this.state.sent === null) return;
    this.set(failed(this.state));
    this.plan(RETRY_MS);
  }

  takeOffered(): void {
    this.set(takeOffered(this.state));
    this.plan(0);
  }

  dropOffered(): void {
    this.set({ ...this.state, offered: null });
  }

  /** Now, not when the person has paused. */
  flush = (): void => {
    clearTimeout(this.timer);
    this.timer = undefined;
    const now = this.generation === generation ? due(this.state) : null;
    if (!now || new TextEncoder().encode(now.write.text).length > LONGEST) return;
    this.set(now.state);
    this.write(now.write);
  };

  private plan(pauseMs: number): void {
    // Not begun anew with each key: what somebody types without a pause is kept too.
    this.timer ??= setTimeout(this.flush, pauseMs);
  }

  private set(state: DraftState): void {
    this.state = state;
    if (this.generation === generation) remember(this.key, state);
    for (const listener of this.listeners) listener();
  }
}

function restored(key: string): Partial<DraftState> {
  try {
    const { text, kept } = JSON.parse(sessionStorage.getItem(key) ?? "") as Pick<DraftState, "text" | "kept">;
    return typeof text === "string" && typeof kept.text === "string" && typeof kept.revision === "number" ? { text, kept } : {};
  } catch {
    return {};
  }
}

function remember(key: string, { text, kept }: DraftState): void {
  try {
    if (text === "" && kept.text === "") sessionStorage.removeItem(key);
    else sessionStorage.setItem(key, JSON.stringify({ text, kept }));
  } catch {
    // Full or forbidden: the server has it.
  }
}

/** The box for a new session, of one repository or of none. */
function newBox(repository: string | undefined): DraftBox {
  const box: DraftBox = new DraftBox(`new-${repository ?? ""}`, (write) => {
    api.writeNewDraft(repository, write).then(
      ({ draft, is_refused }) => box.told(draft, is_refused),
      () => box.fail(),
    );
  });
  return box;
}

const newBoxes = new Map<string, DraftBox>();

function boxFor(repository: string | undefined): DraftBox {
  const key = repository ?? "";
  const box = newBoxes.get(key) ?? newBox(repository);
  newBoxes.set(key, box);
  return box;
}

/** The server told that one of the person's clients has typed. */
export function tellNewDraft(draft: Draft): void {
  newBoxes.get(draft.repository ?? "")?.told(draft);
}

/** The stream that tells of drafts began anew: something may have been missed. */
export function readNewDrafts(): void {
  for (const [repository, box] of newBoxes) void readNewDraft(repository || undefined, box);
}

const onForget = new Set<() => void>();

/** Called when another person may sign in in this page. */
export function whenForgotten(act: () => void): void {
  onForget.add(act);
}

/** Another person may sign in: nothing that this one typed stays, nor a link that they followed. */
export function forgetDrafts(): void {
  generation += 1;
  for (const act of onForget) act();
  newBoxes.clear();
  forgetShareSecret();
  for (const key of Object.keys(sessionStorage)) if (key.startsWith(KEPT)) sessionStorage.removeItem(key);
}

async function readNewDraft(repository: string | undefined, box: DraftBox): Promise<void> {
  try {
    box.told(await api.newDraft(repository));
  } catch {
    // Typed text stays in the tab; the next beginning of the stream asks again.
  }
}

export function useNewDraft(repository: string | undefined): DraftBox {
  const box = useMemo(() => boxFor(repository), [repository]);
  useEffect(() => {
    void readNewDraft(repository, box);
    return box.flush;
  }, [repository, box]);
  return box;
}

type SetText = (text: string | ((now: string) => string)) => void;

/** The text of a box, as React state. What is typed is sent at the latest when the page is left. */
export function useDraft(box: DraftBox, onType?: (isTyping: boolean) => void): [string, SetText] {
  const { text } = useSyncExternalStore(box.subscribe, box.read);
  useEffect(() => {
    const onHide = () => document.visibilityState === "hidden" && box.flush();
    document.addEventListener("visibilitychange", onHide);
    return () => {
      document.removeEventListener("visibilitychange", onHide);
      box.flush();
    };
  }, [box]);
  const setText: SetText = (change) => {
    const next = typeof change === "string" ? change : change(box.read().text);
    box.type(next);
    onType?.(next !== "");
  };
  return [text, setText];
}
