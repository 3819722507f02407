/**
 * One session as the page holds it: the folded state, the connection, and prompts on their way. Frames are folded once
 * per animation frame. Stores are shared by id and kept for a while, so that coming back shows the session at once.
 */
import { api, ApiError, newKey, onUnauthorized } from "../api/client";
import type { AttachmentRef, Command, Delivery, Entry, Frame, Opening, Presence, Readers } from "../api/types";
import { Connection, type ConnectionState } from "./connection";
import { DraftBox, whenForgotten } from "./draft";
import { before, reduceAll, withPast } from "./reduce";
import { initialState, type SessionState } from "./state";

/** A prompt that is sent but not yet seen in the log. */
export interface Outgoing {
  key: string;
  text: string;
  delivery: Delivery;
  /** Known from its receipt: it is shown until this entry is here. */
  seq: number | null;
}
export interface Snapshot {
  state: SessionState;
  connection: ConnectionState;
  outgoing: readonly Outgoing[];
  presence: Presence;
  readers: Readers;
  isLoadingEarlier: boolean;
}

const NOBODY = { presence: { people: [], more: 0 }, readers: { readers: [], more: 0 } };
/** Typing passes on the server after six seconds. */
const TYPING_AGAIN_MS = 3000;
const READ_PAUSE_MS = 800;

/** Entries that a long session is opened with, and of each step back. */
const WINDOW = 200;
const KEPT_STORES = 8;
const SUBMIT_TRIES = 5;
const RETRY_MS = 800;
const REPLAY_STEP_MS = 200;

export class SessionStore {
  readonly id: string;
  private snapshot: Snapshot = { state: initialState(), connection: { kind: "connecting" }, outgoing: [], isLoadingEarlier: false, ...NOBODY };
  /** Where the session was opened near its end: with what, and every entry since. */
  private opening: Opening | undefined;
  private log: Entry[] = [];
  private readonly listeners = new Set<() => void>();
  private pending: Frame[] = [];
  private isScheduled = false;
  private connection: Connection | undefined;
  private users = 0;

  readonly draft: DraftBox;
  private typedAtMs = 0;
  private seenSeq = 0;
  private readTimer: ReturnType<typeof setTimeout> | undefined;

  constructor(id: string) {
    this.id = id;
    this.draft = new DraftBox(id, (write) => this.connection?.send({ type: "draft", ...write }));
    this.snapshot = { ...this.snapshot, state: initialState(id) };
  }

  /** The person types here, or has stopped. */
  readonly typing = (isTyping: boolean): void => {
    const now = Date.now();
    if (isTyping ? now - this.typedAtMs < TYPING_AGAIN_MS : this.typedAtMs === 0) return;
    this.typedAtMs = isTyping ? now : 0;
    this.connection?.send({ type: "typing", is_typing: isTyping });
  };

  /** The person has this entry before their eyes. */
  readonly seen = (seq: number): void => {
    if (seq <= this.seenSeq) return;
    this.seenSeq = seq;
    this.readTimer ??= setTimeout(() => {
      this.readTimer = undefined;
      this.connection?.send({ type: "read", seq: this.seenSeq });
    }, READ_PAUSE_MS);
  };

  /** The connection is open while anyone uses the store. */
  retain(): () => void {
    this.users += 1;
    this.connection ??= this.connect();
    return () => {
      this.users -= 1;
      if (this.users > 0) return;
      this.draft.flush();
      if (this.seenSeq > 0) this.connection?.send({ type: "read", seq: this.seenSeq });
      this.connection?.close();
      this.connection = undefined;
      this.draft.cutOff();
      this.publish(NOBODY);
    };
  }

  subscribe = (listener: () => void): (() => void) => {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  };

  read = (): Snapshot => this.snapshot;

  /** Sends a prompt; rejects with the reason when it was not taken. */
  async prompt(text: string, delivery: Delivery, attachments: AttachmentRef[] = []): Promise<void> {
    const key = newKey();
    this.publish({ outgoing: [...this.snapshot.outgoing, { key, text, delivery, seq: null }] });
    try {
      const receipt = await this.submit(key, { type: "prompt", text, delivery, ...(attachments.length > 0 ? { attachments } : {}) });
      const outgoing = this.snapshot.outgoing.map((o) => (o.key === key ? { ...o, seq: receipt.seq ?? 0 } : o));
      this.publish({ outgoing: stillOutgoing(outgoing, this.snapshot.state.headSeq) });
    } catch (error) {
      this.publish({ outgoing: this.snapshot.outgoing.filter((o) => o.key !== key) });
      throw error;
    }
  }

  command(command: Command): Promise<unknown> {
    return this.submit(newKey(), command);
  }

  /** Shows more of a session that was opened near its end. Rejects with the reason when it cannot be had. */
  async loadEarlier(): Promise<void> {
    if (!this.opening || this.snapshot.isLoadingEarlier) return;
    const from = this.opening.from_seq;
    this.publish({ isLoadingEarlier: true });
    try {
      const { entries } = await api.entriesBefore(this.id, from, WINDOW);
      this.flush();
      // The connection may have begun anew meanwhile.
      if (this.opening.from_seq !== from) return;
      const opening = before(this.opening, entries);
      this.log = [...entries, ...this.log];
      const state = withPast(this.snapshot.state, opening, this.log);
      this.opening = opening;
      if (opening.from_seq <= 1) this.forgetOpening();
      this.publish({ state });
    } finally {
      this.publish({ isLoadingEarlier: false });
    }
  }

  private forgetOpening(): void {
    this.opening = undefined;
    this.log = [];
  }

  /** What a step back folds again. */
  private remember(frames: readonly Frame[]): void {
    for (const frame of frames) {
      if (frame.type === "snapshot") {
        this.opening = frame;
        this.log = [];
      } else if (frame.type === "entry" && this.opening && frame.entry.seq > (this.log.at(-1)?.seq ?? 0)) {
        this.log.push(frame.entry);
      }
    }
  }

  /** Repeats a command whose fate is unknown under the same key: the server runs it once. */
  private async submit(key: string, command: Command) {
    for (let attempt = 1; ; attempt++) {
      try {
        const receipt = await api.submit(this.id, key, command);
        if (receipt.problem) throw new ApiError(409, receipt.problem);
        return receipt;
      } catch (error) {
        const mayRepeat = error instanceof ApiError && error.isTransient && attempt < SUBMIT_TRIES;
        if (!mayRepeat) throw error;
        await new Promise((resolve) => setTimeout(resolve, RETRY_MS * attempt));
      }
    }
  }

  private connect(): Connection {
    return new Connection(this.id, {
      afterSeq: () => {
        this.flush();
        return this.snapshot.state.headSeq;
      },
      window: WINDOW,
      onFrame: (frame) => this.enqueue(frame),
      onState: (connection) => {
        if (connection.kind !== "live") this.draft.cutOff();
        this.publish({ connection, ...(connection.kind === "live" ? {} : NOBODY) });
        if (connection.kind === "refused" && connection.problem.code === "not_signed_in") onUnauthorized();
      },
      // A refused upgrade says nothing in a browser: `GET` tells whether the person is signed out or the session gone.
      onFailure: () => void this.explainFailure(),
    });
  }

  /** While the person deletes the session, its stream ends for a reason that nobody has to ask for. */
  isBeingDeleted = false;

  private async explainFailure(): Promise<void> {
    if (this.isBeingDeleted) return;
    try {
      await api.session(this.id);
    } catch (error) {
      // Anything else passes, or leads to sign-in.
      if (!(error instanceof ApiError) || ![400, 403, 404].includes(error.status)) return;
      this.connection?.close();
      this.publish({ connection: { kind: "refused", problem: error.problem } });
    }
  }

  private enqueue(frame: Frame): void {
    if (this.isBeside(frame)) return;
    this.pending.push(frame);
    if (frame.type === "caught_up") this.flush();
    if (this.isScheduled || this.pending.length === 0) return;
    this.isScheduled = true;
    // A replay is drawn in few large steps; live frames with the screen's rhythm, which stands still in a hidden page.
    const isReplay = !this.snapshot.state.isCaughtUp;
    if (isReplay || document.visibilityState === "hidden") setTimeout(this.flush, REPLAY_STEP_MS);
    else requestAnimationFrame(this.flush);
  }

  /** What is no part of the conversation. */
  private isBeside(frame: Frame): boolean {
    if (frame.type === "presence") this.publish({ presence: { people: frame.people, more: frame.more } });
    else if (frame.type === "readers") this.publish({ readers: { readers: frame.readers, more: frame.more } });
    else if (frame.type === "draft") this.draft.told(frame.draft, frame.is_refused);
    else if (frame.type === "error") this.draft.fail();
    else return false;
    return true;
  }

  private readonly flush = (): void => {
    this.isScheduled = false;
    if (this.pending.length === 0) return;
    const frames = this.pending;
    this.pending = [];
    const hadGap = this.snapshot.state.hasGap;
    this.remember(frames);
    const state = reduceAll(this.snapshot.state, frames);
    this.publish({ state, outgoing: stillOutgoing(this.snapshot.outgoing, state.headSeq) });
    if (state.hasGap && !hadGap) this.connection?.hello();
  };

  private publish(patch: Partial<Snapshot>): void {
    this.snapshot = { ...this.snapshot, ...patch };
    for (const listener of this.listeners) listener();
  }
}

function stillOutgoing(outgoing: readonly Outgoing[], headSeq: number): readonly Outgoing[] {
  const left = outgoing.filter((o) => o.seq === null || o.seq > headSeq);
  return left.length === outgoing.length ? outgoing : left;
}

const stores = new Map<string, SessionStore>();

whenForgotten(() => stores.clear());

export function sessionStore(id: string): SessionStore {
  const store = stores.get(id) ?? new SessionStore(id);
  stores.delete(id);
  stores.set(id, store);
  for (const oldest of stores.keys()) {
    if (stores.size <= KEPT_STORES) break;
    stores.delete(oldest);
  }
  return store;
}
