/**
 * One session as the page holds it: the folded state, the connection, and prompts on their way. Frames are folded once
 * per animation frame. Stores are shared by id and kept for a while, so that coming back shows the session at once.
 */
import { api, ApiError, newKey } from "../api/client";
import type { Command, Delivery, Frame } from "../api/types";
import { Connection, type ConnectionState } from "./connection";
import { reduceAll } from "./reduce";
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
}

const KEPT_STORES = 8;
const SUBMIT_TRIES = 5;
const RETRY_MS = 800;
const REPLAY_STEP_MS = 200;

export class SessionStore {
  readonly id: string;
  private snapshot: Snapshot = { state: initialState(), connection: { kind: "connecting" }, outgoing: [] };
  private readonly listeners = new Set<() => void>();
  private pending: Frame[] = [];
  private isScheduled = false;
  private connection: Connection | undefined;
  private users = 0;

  constructor(id: string) {
    this.id = id;
  }

  /** The connection is open while anyone uses the store. */
  retain(): () => void {
    this.users += 1;
    this.connection ??= this.connect();
    return () => {
      this.users -= 1;
      if (this.users > 0) return;
      this.connection?.close();
      this.connection = undefined;
    };
  }

  subscribe = (listener: () => void): (() => void) => {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  };

  read = (): Snapshot => this.snapshot;

  /** Sends a prompt; rejects with the reason when it was not taken. */
  async prompt(text: string, delivery: Delivery): Promise<void> {
    const key = newKey();
    this.publish({ outgoing: [...this.snapshot.outgoing, { key, text, delivery, seq: null }] });
    try {
      const receipt = await this.submit(key, { type: "prompt", text, delivery });
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
      onFrame: (frame) => this.enqueue(frame),
      onState: (connection) => this.publish({ connection }),
      // A refused upgrade says nothing in a browser: `GET` tells whether the person is signed out or the session gone.
      onFailure: () => void this.explainFailure(),
    });
  }

  private async explainFailure(): Promise<void> {
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
    this.pending.push(frame);
    if (frame.type === "caught_up") this.flush();
    if (this.isScheduled || this.pending.length === 0) return;
    this.isScheduled = true;
    // A replay is drawn in few large steps; live frames with the screen's rhythm, which stands still in a hidden page.
    const isReplay = !this.snapshot.state.isCaughtUp;
    if (isReplay || document.visibilityState === "hidden") setTimeout(this.flush, REPLAY_STEP_MS);
    else requestAnimationFrame(this.flush);
  }

  private readonly flush = (): void => {
    this.isScheduled = false;
    if (this.pending.length === 0) return;
    const frames = this.pending;
    this.pending = [];
    const hadGap = this.snapshot.state.hasGap;
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
