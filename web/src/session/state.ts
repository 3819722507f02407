/** What the page knows of a session, folded from its frames by `reduce`. Immutable to readers. */
import type {
  Answer,
  Asked,
  Attachment,
  Author,
  ChangeStatus,
  CompactionReason,
  Consumer,
  Delivery,
  DenyReason,
  Effort,
  ForkPoint,
  ImportPoint,
  Problem,
  QueuedPrompt,
  SandboxPhase,
  SandboxStart,
  ServicePhase,
  SnapshotReason,
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
  files: readonly Attachment[];
  delivery: Delivery;
  atMs: number;
  status: "queued" | "taken" | "withdrawn";
  isEdited: boolean;
  /** A stop held it back: it waits until somebody releases the queue. */
  isHeld: boolean;
}

interface ItemBase {
  key: string;
  atMs: number;
  turn: string | null;
}
export interface PromptItem extends ItemBase {
  kind: "prompt";
  prompt: Prompt;
  session: string;
  wasInserted: boolean;
}
export interface BlockItem extends ItemBase {
  kind: "text" | "thinking";
  block: string;
  body: StreamText;
  isDone: boolean;
}
/** What a step changed, of whose trees the server tells the diff. */
export interface StepMark {
  step: number;
  files: number;
  additions: number;
  deletions: number;
}
/** Files changed between the steps of turns. */
export interface StepItem extends ItemBase {
  kind: "step";
  step: StepMark;
}
/** A person had the files put back to a step. */
export interface RevertItem extends ItemBase {
  kind: "revert";
  to: number;
  name: string;
  /** `forward`: where going forward leads, as long as it does. `null`: not done. */
  done: { from: number; changedCount: number; forward: number | null } | null;
  isOver: boolean;
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
  /** It was the last call of a step that changed files. */
  step: StepMark | null;
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
/** The newest commits of the base branch arrived. */
export interface SyncedItem extends ItemBase {
  kind: "synced";
  from: string;
  to: string;
  /** At most 200 paths; `changedCount` counts all. */
  changed: readonly string[];
  changedCount: number;
  rerunSteps: readonly string[];
}
/** The agent was told something that no person said. */
export interface ToldItem extends ItemBase {
  kind: "told";
  text: string;
}
/** The agent gave people a file. */
export interface ArtifactItem extends ItemBase {
  kind: "artifact";
  session: string;
  file: Attachment;
  title: string;
  description: string | null;
}
/** The conversation is summarised for the model, or was. */
export interface CompactionItem extends ItemBase {
  kind: "compaction";
  reason: CompactionReason;
  tokensBefore: number;
  /** `null`: it is on its way, or came to nothing. */
  done: { summary: string; tokensAfter: number; usage: Usage } | null;
  /** The turn ended. */
  isOver: boolean;
}
export interface TurnEndItem extends ItemBase {
  kind: "turn_end";
  outcome: TurnOutcome;
  usage: Usage;
  durationMs: number;
}
/** The turn waits for people, or did. */
export interface AskItem extends ItemBase {
  kind: "ask";
  ask: string;
  call: string;
  of: Asked;
  expiresAtMs: number;
  /** `null`: it is open. */
  end: { kind: "answered"; answer: Answer; name: string } | { kind: "expired" } | { kind: "ended" } | null;
}
export type Item = AskItem | PromptItem | BlockItem | ToolItem | RetryItem | NoticeItem | ChangeItem | SyncedItem | ToldItem | ArtifactItem | CompactionItem | StepItem | RevertItem | TurnEndItem;

/** A copy of the session's files. */
export interface Snapshot {
  id: string;
  reason: SnapshotReason;
  turn: string | null;
  atMs: number;
  /** Made room for others. */
  isDropped: boolean;
  /** Services ran when it was taken: they may have written what no tool did. */
  hasServices: boolean;
}

export interface Service {
  name: string;
  state: ServicePhase;
  problem: Problem | null;
}

/** A host that the sandbox may not reach, and how often it was tried. */
export interface Denied {
  host: string;
  port: number;
  /** The last one; `null` in old logs. */
  reason: DenyReason | null;
  times: number;
}

export interface Turn {
  id: string;
  startedAtMs: number;
  model: string | null;
  isStopping: boolean;
  usage: Usage;
  marks: readonly TimelineMark[];
  /** What its sandbox was made from. */
  sandbox: SandboxStart | null;
  outcome: TurnOutcome | null;
  firstPrompt: string | null;
  /** A tool of its could change files. */
  hasWritten: boolean;
  /** What its first step found and what its last one left; `null`: it changed no file that a tree has. */
  steps: { from: number | null; last: number } | null;
  /** The files as they were when it ended; `null`: they had not changed. A service may have changed them. */
  snapshot: Snapshot | null;
}

export interface SessionState {
  id: string;
  /** Last entry applied; the next one is `headSeq + 1`. */
  headSeq: number;
  /** First entry that is shown; earlier ones can be loaded. */
  firstSeq: number;
  isCaughtUp: boolean;
  /** The last entry that is news to people who were away. */
  newsSeq: number;
  /** The last entry by which somebody's part in the session changed. */
  peopleSeq: number;
  /** What came between the last visit and this one; known once the server said how far was read. */
  missed: { after: number | null; upTo: number };
  /** The item with which that begins. */
  newFrom: string | null;
  /** The queue of a session that was opened near its end, for when that is reached. */
  settled: readonly QueuedPrompt[] | null;
  /** An entry was missing: the connection must say hello again. */
  hasGap: boolean;
  title: string;
  repository: string;
  branch: string;
  baseBranch: string;
  /** Of the next turns; `null`: the installation's default. */
  model: string | null;
  /** `null`: what was set for the model. */
  effort: Effort | null;
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
  sandbox: { phase: SandboxPhase; problem: Problem | null; image: string | null } | null;
  /** In the order they were taken. */
  snapshots: ReadonlyMap<string, Snapshot>;
  services: ReadonlyMap<string, Service>;
  /** By `host:port`. */
  denied: ReadonlyMap<string, Denied>;
  forkedFrom: ForkPoint | null;
  importedFrom: ImportPoint | null;
  /** The session whose agent began this one. */
  parent: string | null;
  /** The last entry about sessions that this one began. */
  familySeq: number;
  /** The newest item of files put back. */
  revert: string | null;
  isArchived: boolean;
  /** Who could not be told of this session, and why. */
  deadLetters: ReadonlyMap<Consumer, Problem>;
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

export function initialState(id = ""): SessionState {
  return {
    id,
    headSeq: 0,
    firstSeq: 1,
    isCaughtUp: false,
    settled: null,
    newsSeq: 0,
    peopleSeq: 0,
    missed: { after: null, upTo: 0 },
    newFrom: null,
    hasGap: false,
    title: "",
    repository: "",
    branch: "",
    baseBranch: "",
    model: null,
    effort: null,
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
    snapshots: new Map(),
    services: new Map(),
    denied: new Map(),
    forkedFrom: null,
    importedFrom: null,
    parent: null,
    familySeq: 0,
    revert: null,
    isArchived: false,
    deadLetters: new Map(),
    change: null,
    usage: NO_USAGE,
    prompters: new Map(),
  };
}
