/** Folds what a turn writes: blocks of text as they stream and end, tools with their output. */
import type { Content, Event } from "../api/types";
import type { Draft } from "./reduce-draft";
import type { BlockItem, ToolItem } from "./state";
import { addPiece, EMPTY_TEXT, textOf } from "./stream-text";

/** Live output kept per running tool, in bytes; beyond it only the end is shown. */
const OUTPUT_LIMIT = 256 * 1024;

export const blockKey = (block: string) => `b:${block}`;
export const toolKey = (call: string) => `t:${call}`;

export function newBlock(block: string, kind: BlockItem["kind"], turn: string, atMs: number): BlockItem {
  return { kind, key: blockKey(block), atMs, turn, block, body: EMPTY_TEXT, isDone: false };
}

export function growBlock(draft: Draft, block: string, offset: number, text: string): void {
  const item = draft.now.items.get(blockKey(block));
  if (!item || (item.kind !== "text" && item.kind !== "thinking") || item.isDone) return;
  const body = addPiece(item.body, offset, text);
  if (body !== item.body) draft.put({ ...item, body });
}

export function growOutput(draft: Draft, call: string, offset: number, text: string): void {
  const item = draft.now.items.get(toolKey(call));
  if (item?.kind !== "tool" || item.outcome !== null) return;
  // Output frames may be coalesced for a slow viewer: what is beyond a gap is shown at once, it is only a preview.
  const body = offset > item.output.bytes ? { ...item.output, bytes: offset } : item.output;
  const grown = addPiece(body, offset, text);
  if (grown === item.output) return;
  const output = grown.text.length > OUTPUT_LIMIT ? { ...grown, text: grown.text.slice(-OUTPUT_LIMIT / 2) } : grown;
  draft.put({ ...item, output });
}

/** The committed message replaces what its blocks streamed; open blocks that it does not name are withdrawn. */
export function applyMessage(draft: Draft, turn: string, content: Content[], blocks: string[], atMs: number): void {
  const named = new Set(blocks.map(blockKey));
  for (const key of [...draft.now.order].reverse()) {
    const item = draft.now.items.get(key);
    if (item?.turn !== turn) break;
    if ((item.kind === "text" || item.kind === "thinking") && !item.isDone && !named.has(key)) draft.remove(key);
  }
  content.forEach((part, index) => {
    if (part.type === "tool_call") {
      if (!draft.now.items.has(toolKey(part.id))) draft.put(newTool(part.id, part.name, turn, atMs, part.input));
      return;
    }
    const block = blocks[index] ?? `${turn}:${atMs}:${index}`;
    const known = draft.now.items.get(blockKey(block));
    const item = known?.kind === part.type ? known : newBlock(block, part.type, turn, atMs);
    draft.put({ ...item, body: textOf(part.text), isDone: true });
  });
}

function newTool(call: string, name: string, turn: string, atMs: number, input: unknown): ToolItem {
  return {
    kind: "tool",
    key: toolKey(call),
    atMs,
    turn,
    call,
    name,
    title: "",
    input,
    isStarted: false,
    output: EMPTY_TEXT,
    outcome: null,
    text: "",
    display: null,
    durationMs: null,
    step: null,
  };
}

function toolAt(draft: Draft, call: string, name: string, turn: string, atMs: number): ToolItem {
  const known = draft.now.items.get(toolKey(call));
  return known?.kind === "tool" ? known : newTool(call, name, turn, atMs, undefined);
}

export function startTool(draft: Draft, event: Extract<Event, { type: "tool_started" }>, atMs: number): void {
  const item = toolAt(draft, event.call, event.name, event.turn, atMs);
  draft.put({ ...item, name: event.name, title: event.title, isStarted: true, atMs });
}

export function finishTool(draft: Draft, event: Extract<Event, { type: "tool_finished" }>, atMs: number): void {
  const item = toolAt(draft, event.call, "", event.turn, atMs);
  draft.put({
    ...item,
    outcome: event.outcome,
    text: event.text,
    display: event.display ?? null,
    durationMs: event.duration_ms,
    output: EMPTY_TEXT,
  });
  if (canWrite(item)) draft.changeTurn(event.turn, { hasWritten: true });
}

const READING = new Set(["read", "glob", "grep", "todo"]);

/** A tool that this page does not know may. */
function canWrite(tool: ToolItem): boolean {
  const input = tool.input as { read_only?: unknown } | null;
  return !READING.has(tool.name) && !(tool.name === "bash" && input?.read_only === true);
}
