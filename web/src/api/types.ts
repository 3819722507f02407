/**
 * The API's types: the only place from which the page takes them. They mirror `crates/wire` and the published part of
 * `crates/domain`. Ids and names are plain strings here; the server checks them.
 */

export type Role = "viewer" | "member" | "admin";
export interface Person {
  id: string;
  login: string;
  name: string;
  email: string;
  role: Role;
}
export interface Author {
  on_behalf_of: string;
  via: "person" | "parent" | "review" | "webhook";
  name: string;
  email: string;
}
export interface Problem {
  code: string;
  message: string;
  hint?: string | null;
  detail?: string | null;
}
export interface ErrorView extends Problem {
  request_id: string;
}
export interface ErrorBody {
  error: ErrorView;
}
export interface Usage {
  input_tokens: number;
  output_tokens: number;
  cache_read_tokens: number;
  cache_write_tokens: number;
  cost_microusd: number;
  requests: number;
}
export interface Budget {
  tokens: number;
  cost_microusd: number;
  wall_ms: number;
  tool_calls: number;
}

export interface SignedIn {
  person: Person;
}
export interface PersonAdded {
  person: Person;
  sign_in_path: string;
  expires_at_ms: number;
}
export interface TokenCreated {
  id: string;
  name: string;
  login: string;
  secret: string;
}
export interface StepView {
  name: string;
  is_reused: boolean;
  duration_ms: number;
}
export type ImageState = "building" | "ready" | "failed";
export interface ImageView {
  id: string;
  repository: string;
  state: ImageState;
  commit?: string | null;
  steps: StepView[];
  problem?: Problem | null;
  started_at_ms: number;
  finished_at_ms?: number | null;
}
export type BuildFrame = { type: "output"; text: string } | { type: "finished"; image: ImageView };
export interface RepositoryView {
  id: string;
  name: string;
  source: string;
  default_branch: string;
  required_approvals: number;
  clone_path: string;
  head?: string | null;
  image?: ImageView | null;
  build?: ImageView | null;
  added_at_ms: number;
}
export type ModelProvider = "anthropic" | "openai" | "openai_chat";
export type ModelEffort = "low" | "medium" | "high";
export interface AddModel {
  name: string;
  provider: ModelProvider;
  model: string;
  base_url?: string | null;
  key?: string | null;
  effort?: ModelEffort | null;
  is_default?: boolean;
}
export interface ModelView {
  name: string;
  provider: ModelProvider;
  model: string;
  base_url?: string | null;
  has_key: boolean;
  is_default: boolean;
}
export interface ModelTested {
  model: string;
  first_token_ms: number;
}
export type SessionStatus = "idle" | "running" | "failed";
export type ChangeStatus = "open" | "merged" | "closed";
export interface ChangeRef {
  id: string;
  number: number;
  state: ChangeStatus;
}
export interface SessionView {
  id: string;
  repository: string;
  title: string;
  status: SessionStatus;
  created_by?: string | null;
  created_by_name: string;
  branch: string;
  model?: string | null;
  queued_prompts: number;
  usage: Usage;
  change?: ChangeRef | null;
  head_seq: number;
  created_at_ms: number;
  updated_at_ms: number;
}
export interface Permission {
  is_allowed: boolean;
  reason?: string | null;
}
export interface ApprovalView {
  by: string;
  name: string;
  is_current: boolean;
  at_ms: number;
}
export interface CommitView {
  hash: string;
  author_name: string;
  author_email: string;
  subject: string;
  at_ms: number;
}
export interface ChangeView {
  id: string;
  repository: string;
  number: number;
  session?: string | null;
  title: string;
  body: string;
  branch: string;
  base: string;
  head: string;
  author_id: string;
  author_name: string;
  state: ChangeStatus;
  approvals: ApprovalView[];
  required_approvals: number;
  is_unreviewed: boolean;
  merge_commit?: string | null;
  commits: CommitView[];
  may_approve: Permission;
  may_merge: Permission;
  opened_at_ms: number;
  updated_at_ms: number;
}
export interface FileDiffView {
  path: string;
  old_path?: string | null;
  additions: number;
  deletions: number;
  is_binary: boolean;
  patch: string;
  is_truncated: boolean;
}
export interface Health {
  version: string;
  is_ready: boolean;
}
export interface CapabilityView {
  name: string;
  is_available: boolean;
  detail: string;
  remedy?: string | null;
}
export interface Machine {
  mode: string;
  capabilities: CapabilityView[];
}
export interface CreateSession {
  repository: string;
  prompt?: string | null;
  title?: string | null;
  model?: string | null;
  base_branch?: string | null;
}

export type Delivery = "queue" | "insert";
export type Command =
  | { type: "prompt"; text: string; delivery?: Delivery }
  | { type: "edit_prompt"; prompt: string; text: string }
  | { type: "withdraw_prompt"; prompt: string }
  | { type: "stop" };
export interface Receipt {
  key: string;
  seq?: number | null;
  problem?: Problem | null;
}

export type Content =
  | { type: "text"; text: string }
  | { type: "thinking"; text: string }
  | { type: "tool_call"; id: string; name: string; input: unknown };
export type BlockKind = "text" | "thinking";
export type ToolOutcome = "succeeded" | "failed" | "cancelled" | "unknown";
export type ToolDisplay =
  | { kind: "diff"; path: string; diff: string }
  | { kind: "command"; command: string; exit_code?: number | null; output: string; is_truncated: boolean }
  | { kind: "change"; number: number; title: string };
export interface TodoItem {
  text: string;
  status: "pending" | "in_progress" | "done";
}
export type SandboxPhase = "waiting_for_image" | "claiming" | "syncing" | "ready" | "stopped" | "lost" | "failed";
export type StartStage = "queued" | "committed" | "model_called" | "first_token" | "claimed" | "restored" | "synced";
export interface TimelineMark {
  stage: StartStage;
  at_us: number;
}
export type TurnOutcome =
  | { kind: "completed" }
  | { kind: "stopped" }
  | { kind: "failed"; problem: Problem }
  | { kind: "budget_reached"; problem: Problem };

export type Event =
  | {
      type: "session_created";
      repository: string;
      repository_name: string;
      title: string;
      author: Author;
      branch: string;
      base_branch: string;
      model?: string | null;
      budget: Budget;
    }
  | { type: "title_changed"; title: string }
  | { type: "prompt_accepted"; prompt: string; author: Author; text: string; delivery: Delivery }
  | { type: "prompt_edited"; prompt: string; text: string; by: string }
  | { type: "prompt_withdrawn"; prompt: string; by: string }
  | { type: "turn_started"; turn: string; prompts: string[] }
  | { type: "prompt_inserted"; turn: string; prompt: string }
  | { type: "model_requested"; turn: string; model: string; attempt: number }
  | { type: "model_retry"; turn: string; attempt: number; wait_ms: number; problem: Problem }
  | { type: "block_opened"; turn: string; block: string; kind: BlockKind }
  | { type: "block_text"; block: string; offset: number; text: string }
  | { type: "block_reset"; block: string }
  | {
      type: "assistant_message";
      turn: string;
      content: Content[];
      blocks: string[];
      stop_reason: string;
      usage: Usage;
      model: string;
    }
  | { type: "tool_started"; turn: string; call: string; name: string; title: string }
  | {
      type: "tool_finished";
      turn: string;
      call: string;
      outcome: ToolOutcome;
      text: string;
      display?: ToolDisplay | null;
      duration_ms: number;
    }
  | { type: "todo_changed"; turn: string; items: TodoItem[] }
  | {
      type: "sandbox_changed";
      state: SandboxPhase;
      image?: string | null;
      commit?: string | null;
      problem?: Problem | null;
    }
  | { type: "egress_denied"; host: string; port: number }
  | { type: "start_timeline"; turn: string; marks: TimelineMark[] }
  | {
      type: "change_opened";
      change: string;
      number: number;
      title: string;
      branch: string;
      commit: string;
      author: Author;
    }
  | { type: "change_updated"; change: string; number: number; commit: string }
  | { type: "change_approved"; change: string; number: number; by: string; name: string }
  | { type: "change_merged"; change: string; number: number; commit: string; by: string; name: string }
  | { type: "stop_requested"; turn: string; by: string; name: string }
  | { type: "turn_finished"; turn: string; outcome: TurnOutcome; usage: Usage; duration_ms: number }
  | { type: "turn_interrupted"; turn: string; open_calls: string[] };

export interface Entry {
  seq: number;
  at_ms: number;
  epoch: number;
  event: Event;
}

export type Frame =
  | { type: "hello"; protocol: number; head_seq: number; epoch: number }
  | { type: "entry"; entry: Entry }
  | { type: "caught_up"; seq: number }
  | { type: "delta"; block: string; offset: number; text: string }
  | { type: "output"; call: string; offset: number; text: string }
  | ({ type: "receipt" } & Receipt)
  | { type: "resume"; after_seq: number }
  | { type: "error"; problem: Problem };
export const PROTOCOL = 1;
