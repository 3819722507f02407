/** A client of the session's WebSocket that keeps every frame as it came. */
import { WebSocket } from "ws";

export interface Frame {
  type: string;
  [field: string]: unknown;
}

export interface Entry {
  seq: number;
  event: { type: string };
}

export interface Listener {
  frames: Frame[];
  entries: Entry[];
  send(frame: Frame): void;
  /** Resolves when the server or the network has ended it. */
  closed: Promise<void>;
  close(): void;
}

/** Says hello; everything after `afterSeq` follows. */
export async function listen(url: string, token: string, afterSeq: number): Promise<Listener> {
  const socket = new WebSocket(url, { headers: { Authorization: `Bearer ${token}` } });
  const frames: Frame[] = [];
  const entries: Entry[] = [];
  const closed = new Promise<void>((resolve) => socket.on("close", () => resolve()));
  socket.on("message", (data) => {
    const frame = JSON.parse(String(data)) as Frame;
    frames.push(frame);
    if (frame.type === "entry") entries.push(frame.entry as Entry);
  });
  await new Promise<void>((resolve, reject) => socket.on("open", () => resolve()).on("error", reject));
  const send = (frame: Frame) => socket.send(JSON.stringify(frame));
  send({ type: "hello", protocol: 1, after_seq: afterSeq, client: "api" });
  return { frames, entries, send, closed, close: () => socket.close() };
}
