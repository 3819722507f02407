/** What the page knows of a session, folded from its frames by `reduce`. Immutable to readers. */
import type {
  Author,
  ChangeStatus,
  Delivery,
  Problem,
  SandboxPhase,
  TimelineMark,
  TodoItem,
  ToolDisplay,
  ToolOutcome,
  TurnOutcome,
  Usage,
} from "../api/types";
import type { StreamText } from "./stream-text";

export interface Prompt {
  id: string;
  author: Author;
  text: string;
  delivery: Delivery;
  atMs: number;
  status: "queued" | "taken" | "withdrawn";
  isEdited: boolean;
}

interface ItemBase {
  key: string;
  atMs: number;
  turn: string | null;
}
export interface PromptItem extends ItemBase {
  kind: "prompt";
  prompt: Prompt;
  wasInserted: boolean;
}
export interface BlockItem extends ItemBase {
  kind: "text" | "thinking";
  block: string;
  body: StreamText;
  isDone: boolean;
}
export interface ToolItem extends ItemBase {
  kind: "tool";
  call: string;
  name: string;
  title: string;
  input: unknown;
  isStarted: boolean;
  output: StreamText;
  outcome: ToolOutcome | null;
  text: string;
  display: ToolDisplay | null;
  durationMs: number | null;
}
export interface RetryItem extends ItemBase {
  kind: "retry";
  attempt: number;
  waitMs: number;
  problem: Problem;
  isOver: boolean;
}
export interface NoticeItem extends ItemBase {
  kind: "notice";
  tone: "info" | "warn" | "bad";
  text: string;
  problem: Problem | null;
}
export interface ChangeItem extends ItemBase {
  kind: "change";
  what: "opened" | "updated" | "approved" | "merged";
  change: string;
  number: number;
  title: string;
  byName: string | null;
  commit: string | null;
}
export interface TurnEndItem extends ItemBase {
  kind: "turn_end";
  outcome: TurnOutcome;
  usage: Usage;
  durationMs: number;
}
export type Item = PromptItem | BlockItem | ToolItem | RetryItem | NoticeItem | ChangeItem | TurnEndItem;

export interface Turn {
  id: string;
  startedAtMs: number;
  model: string | null;
  isStopping: boolean;
  usage: Usage;
  marks: readonly TimelineMark[];
  outcome: TurnOutcome | null;
  firstPrompt: string | null;
}

export interface SessionState {
  /** Last entry applied; the next one is `headSeq + 1`. */
  headSeq: number;
  isCaughtUp: boolean;
  /** An entry was missing: the connection must say hello again. */
  hasGap: boolean;
  title: string;
  repository: string;
  branch: string;
  baseBranch: string;
  model: string | null;
  author: Author | null;
  order: readonly string[];
  items: ReadonlyMap<string, Item>;
  prompts: ReadonlyMap<string, Prompt>;
  /** Prompts that wait, in order. */
  queue: readonly string[];
  turns: ReadonlyMap<string, Turn>;
  turnOrder: readonly string[];
  /** The running turn. */
  running: string | null;
  todo: readonly TodoItem[];
  sandbox: { phase: SandboxPhase; problem: Problem | null } | null;
  change: { id: string; number: number; title: string; state: ChangeStatus } | null;
  usage: Usage;
  /** People who prompted, by id. */
  prompters: ReadonlyMap<string, string>;
}

export const NO_USAGE: Usage = {
  input_tokens: 0,
  output_tokens: 0,
  cache_read_tokens: 0,
  cache_write_tokens: 0,
  cost_microusd: 0,
  requests: 0,
};

export function initialState(): SessionState {
  return {
    headSeq: 0,
    isCaughtUp: false,
    hasGap: false,
    title: "",
    repository: "",
    branch: "",
    baseBranch: "",
    model: null,
    author: null,
    order: [],
    items: new Map(),
    prompts: new Map(),
    queue: [],
    turns: new Map(),
    turnOrder: [],
    running: null,
    todo: [],
    sandbox: null,
    change: null,
    usage: NO_USAGE,
    prompters: new Map(),
  };
}
