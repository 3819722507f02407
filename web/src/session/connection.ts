/**
 * The WebSocket of one session: says hello after the last applied entry, reconnects with backoff, and hands frames on.
 * Knows nothing of what frames mean beyond `hello`, `resume` and `error`.
 */
import { type ClientFrame, type Frame, PROTOCOL, type Problem } from "../api/types";
import { canUnpack, InOrder } from "./unpack";

export type ConnectionState =
  | { kind: "connecting" }
  | { kind: "live" }
  | { kind: "waiting"; attempt: number; untilMs: number }
  | { kind: "refused"; problem: Problem };

interface Callbacks {
  afterSeq: () => number;
  /** A client further behind than so many entries begins near the end. */
  window: number;
  onFrame: (frame: Frame) => void;
  onState: (state: ConnectionState) => void;
  /** After a connection failed: may find out that the person is signed out. */
  onFailure: () => void;
}

const FIRST_WAIT_MS = 400;
const LONGEST_WAIT_MS = 15_000;
const OPEN_DEADLINE_MS = 15_000;
/** Codes after which another try of the same page cannot succeed. */
const FINAL_CODES = new Set(["not_signed_in", "session_unknown", "not_allowed", "origin_refused"]);

/** Exported for its test: doubling, bounded, with jitter so that clients do not return all at once. */
export function backoffMs(attempt: number, random: number): number {
  const bound = Math.min(LONGEST_WAIT_MS, FIRST_WAIT_MS * 2 ** Math.min(attempt, 10));
  return Math.round(bound * (0.5 + random / 2));
}

export class Connection {
  private readonly url: string;
  private readonly on: Callbacks;
  private socket: WebSocket | undefined;
  private timer: ReturnType<typeof setTimeout> | undefined;
  private attempt = 0;
  private isClosed = false;
  /** Long frames may come compressed; not again once one could not be read. */
  private takesPacked = canUnpack;

  constructor(sessionId: string, on: Callbacks) {
    const scheme = location.protocol === "https:" ? "wss" : "ws";
    this.url = `${scheme}://${location.host}/api/v1/sessions/${encodeURIComponent(sessionId)}/socket`;
    this.on = on;
    window.addEventListener("online", this.hurry);
    document.addEventListener("visibilitychange", this.hurry);
    this.open();
  }

  close(): void {
    this.isClosed = true;
    window.removeEventListener("online", this.hurry);
    document.removeEventListener("visibilitychange", this.hurry);
    clearTimeout(this.timer);
    this.drop();
  }

  /** Asks again for everything after the last applied entry, on the same connection. */
  hello(): void {
    if (this.socket?.readyState !== WebSocket.OPEN) return;
    const compression = this.takesPacked ? ("deflate_raw" as const) : undefined;
    const after_seq = this.on.afterSeq();
    this.send({ type: "hello", protocol: PROTOCOL, after_seq, window: this.on.window, client: "web", compression });
  }

  /** Beside commands, which are posted. Lost when the connection is. */
  send(frame: ClientFrame): void {
    if (this.socket?.readyState === WebSocket.OPEN) this.socket.send(JSON.stringify(frame));
  }

  private open(): void {
    this.on.onState({ kind: "connecting" });
    const socket = new WebSocket(this.url);
    this.socket = socket;
    this.timer = setTimeout(() => this.failed(socket), OPEN_DEADLINE_MS);
    socket.onopen = () => this.hello();
    socket.binaryType = "arraybuffer";
    const frames = new InOrder(
      (text) => this.receive(socket, text),
      () => {
        this.takesPacked = false;
        this.failed(socket);
      },
    );
    socket.onmessage = (message: MessageEvent<string | ArrayBuffer>) => frames.add(message.data);
    socket.onclose = () => this.failed(socket);
  }

  private receive(socket: WebSocket, text: string): void {
    if (socket !== this.socket) return;
    let frame: Frame;
    try {
      frame = JSON.parse(text) as Frame;
    } catch {
      return;
    }
    if (frame.type === "hello") {
      clearTimeout(this.timer);
      this.attempt = 0;
      this.on.onState({ kind: "live" });
    }
    this.on.onFrame(frame);
    if (frame.type === "resume") this.hello();
    if (frame.type === "error" && FINAL_CODES.has(frame.problem.code)) this.refuse(frame.problem);
  }

  private refuse(problem: Problem): void {
    this.isClosed = true;
    clearTimeout(this.timer);
    this.drop();
    this.on.onState({ kind: "refused", problem });
  }

  private failed(socket: WebSocket): void {
    if (socket !== this.socket || this.isClosed) return;
    this.drop();
    clearTimeout(this.timer);
    this.attempt += 1;
    const wait = backoffMs(this.attempt - 1, Math.random());
    this.on.onState({ kind: "waiting", attempt: this.attempt, untilMs: Date.now() + wait });
    this.timer = setTimeout(() => this.open(), wait);
    this.on.onFailure();
  }

  /** The network is back, or the person looks again: no reason to wait. */
  private readonly hurry = (): void => {
    if (this.isClosed || this.socket || document.visibilityState === "hidden") return;
    clearTimeout(this.timer);
    this.open();
  };

  private drop(): void {
    const socket = this.socket;
    this.socket = undefined;
    if (!socket) return;
    socket.onopen = socket.onmessage = socket.onclose = null;
    socket.close();
  }
}
