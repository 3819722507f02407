/** What a session's state is called in words. Pure. */
import type { ChildEnd, CompactionReason, Consumer, DenyReason, Effort, Event, SandboxPhase, SessionRole, TeamAccess, ToolDisplay, TurnOutcome, Usage } from "../api/types";
import { count, counted, firstLine, plainTerminal, totalTokens } from "../lib/format";
import { countDiff } from "../lib/patch";
import type { SessionState, SyncedItem, ToolItem, Turn } from "./state";

const PHASES: Record<SandboxPhase, string> = {
  waiting_for_image: "Waiting for the repository's first environment image",
  claiming: "Taking a sandbox",
  restoring: "Bringing the files back",
  syncing: "Syncing with the base branch",
  ready: "Sandbox ready",
  stopped: "Sandbox stopped; files are kept",
  lost: "Sandbox lost; files are kept",
  failed: "Sandbox failed",
};
export const phaseText = (phase: SandboxPhase): string => PHASES[phase] ?? phase;

/** Ends the sentence "HOST:PORT was refused: …", as the command line does. */
const DENIALS: Record<DenyReason, string> = {
  not_allowed: "it is not on the allow-list",
  private_address: "its name leads to an address that is not public",
  no_server_name: "TLS without a server name cannot be checked",
  unknown_protocol: "what is spoken there carries no name that could be checked",
  other_name: "the server name is another than the tunnel's",
  repository: "this sandbox has no part in that repository",
};
export const denyText = (reason: DenyReason): string => DENIALS[reason] ?? reason;

const ROLES: Record<SessionRole, string> = { viewer: "a viewer", contributor: "a contributor", owner: "an owner" };
const OPENED: Record<TeamAccess, string> = {
  contribute: "opened the session for everyone to take part",
  view: "opened the session for everyone to look",
  none: "made the session private",
};

type OfPeople = Extract<Event, { type: "participant_changed" | "team_access_changed" | "share_link_revoked" }>;

/** Who takes part from now on, and by whom, as the command line says it. */
export function peopleText(event: OfPeople): string {
  switch (event.type) {
    case "team_access_changed":
      return `${event.name} ${OPENED[event.access]}.`;
    case "share_link_revoked":
      return `${event.name} revoked a link; who was here only by it is not any more.`;
    case "participant_changed":
      if (event.role == null) return event.person === event.by ? `${event.name} left the session.` : `${event.by_name} removed ${event.name} from the session.`;
      if (event.link != null) return `${event.name} came by a link, to ${event.role === "viewer" ? "look" : "take part"}.`;
      return `${event.by_name} made ${event.name} ${ROLES[event.role]} of the session.`;
  }
}

export function outcomeText(outcome: TurnOutcome): string {
  switch (outcome.kind) {
    case "completed":
      return "Done";
    case "stopped":
      return "Stopped";
    case "failed":
      return "Failed";
    case "budget_reached":
      return "Limit reached";
  }
}

/** Shown in one face: the marks that set code apart in a sentence go. */
export function toolTitle(tool: ToolItem): string {
  return tool.title.replaceAll("`", "") || inputText(tool.input) || tool.name;
}

/** The one input that tells a call from another, before the server has named it. */
function inputText(input: unknown): string {
  if (typeof input !== "object" || input === null) return "";
  const fields = input as Record<string, unknown>;
  const value = fields.command ?? fields.path ?? fields.pattern ?? fields.title;
  return typeof value === "string" ? firstLine(value, 100) : "";
}

export function toolState(tool: ToolItem): "waiting" | "running" | "succeeded" | "failed" | "cancelled" | "unknown" {
  return tool.outcome ?? (tool.isStarted ? "running" : "waiting");
}

const STATE_WORDS: Record<ReturnType<typeof toolState>, string> = {
  waiting: "waiting",
  running: "running",
  succeeded: "done",
  failed: "failed",
  cancelled: "cancelled",
  unknown: "outcome unknown",
};
export const toolStateText = (tool: ToolItem): string => STATE_WORDS[toolState(tool)];

/** One line about a finished call. */
export function toolSummary(tool: ToolItem): string {
  if (tool.outcome === null) return tool.output.text ? lastLine(tool.output.text) : "";
  if (tool.outcome === "unknown") return "interrupted, outcome unknown";
  if (tool.outcome === "cancelled") return "cancelled";
  return tool.display ? displaySummary(tool.display) : lastOrCount(tool.text);
}

function displaySummary(display: ToolDisplay): string {
  switch (display.kind) {
    case "diff": {
      const { additions, deletions } = countDiff(display.diff);
      return `+${additions} −${deletions}`;
    }
    case "command": {
      const code = display.exit_code ?? null;
      const said = lastLine(display.output);
      const ending = code === 0 ? "" : code === null ? "ended by a signal or limit" : `exit ${code}`;
      return [ending, said].filter(Boolean).join(" · ");
    }
    case "change":
      return `#${display.number} ${display.title}`;
  }
}

function lastOrCount(text: string): string {
  const lines = text.split("\n").filter((line) => line.trim() !== "");
  return lines.length > 1 ? `${lines.length} lines` : firstLine(text, 90);
}

function lastLine(text: string): string {
  const lines = plainTerminal(text.slice(-4000)).trimEnd().split("\n");
  return (lines.at(-1) ?? "").trim().slice(0, 110);
}

/** Which files the copy at a turn's end holds: those that the turn left, or only what services wrote meanwhile. */
export function keptText(turn: Turn): string {
  if (!turn.snapshot || turn.snapshot.isDropped) return "";
  if (turn.hasWritten) return "files kept";
  return turn.snapshot.hasServices ? "what services wrote is kept" : "";
}

/** Of a session or a turn, with where its tokens went. */
export function usedText(usage: Usage): string {
  if (usage.requests === 0) return "Nothing yet";
  // No data is not zero.
  if (totalTokens(usage) === 0) return `${counted(usage.requests, "request")} to a model that counts no tokens`;
  const kinds = `${count(usage.input_tokens)} in, ${count(usage.output_tokens)} out, ${count(usage.cache_read_tokens)} from cache`;
  return `${counted(totalTokens(usage), "token")} (${kinds}) in ${counted(usage.requests, "request")}`;
}

export function syncedText(item: SyncedItem): string {
  const { changedCount, rerunSteps } = item;
  const files = changedCount === 0 ? "no file changed" : changedCount === 1 ? "1 file changed" : `${changedCount} files changed`;
  const steps = rerunSteps.length === 0 ? "" : rerunSteps.length === 1 ? ", 1 step run again" : `, ${rerunSteps.length} steps run again`;
  return `Synced with the base branch: ${files}${steps}`;
}

/**
 * Why nothing can be forked from a turn; `null` when it can. A turn's files are those of the last snapshot up to it; there
 * is none while no turn changed anything, and then the image's files are meant.
 */
export function forkRefusal(state: SessionState, turn: string | null): string | null {
  const at = state.turnOrder.indexOf(turn ?? "");
  for (let index = at; index >= 0; index--) {
    const snapshot = state.turns.get(state.turnOrder[index] ?? "")?.snapshot;
    if (snapshot) return snapshot.isDropped ? "Its files made room for others." : null;
  }
  return null;
}

/** For people who listen: what happens now, in a few words that do not change with every token. */
export function announcement(state: SessionState): string {
  if (!state.isCaughtUp) return "";
  const last = state.items.get(state.order.at(-1) ?? "");
  if (state.running === null) return last?.kind === "turn_end" ? `Turn finished: ${outcomeText(last.outcome)}` : "";
  switch (last?.kind) {
    case "ask":
      return last.end === null ? "The agent asks and waits for an answer" : "The agent is working";
    case "tool":
      return `${last.name} ${toolStateText(last)}`;
    case "text":
      return "The agent is writing";
    case "thinking":
      return "The agent is thinking";
    case "retry":
      return "The model did not answer; it is asked again";
    case "compaction":
      return last.done ? "The conversation was summarised" : "The conversation is summarised for the model";
    default:
      return "The agent is working";
  }
}

/** Who is told of what happens in a session. */
export const CONSUMER_NAMES: Record<Consumer, string> = { directory: "the list of sessions", collector: "the collector of traces", forge: "the forge", family: "the sessions it belongs with" };

const CHILD_OUTCOMES: Record<ChildEnd["outcome"], string> = {
  completed: "has done its work",
  stopped: "was stopped",
  failed: "failed",
  budget_reached: "reached a limit",
  not_started: "could not be begun",
  deleted: "was deleted",
};

export function childEndText(end: ChildEnd): string {
  const change = end.change ? `, with change #${end.change}` : "";
  const why = end.problem ? `: ${end.problem.message}` : ".";
  return `A session that was begun here ${CHILD_OUTCOMES[end.outcome]}${change}${why}`;
}

export function compactionReasonText(reason: CompactionReason): string {
  switch (reason) {
    case "window_full":
      return "The model's window is full: summarising the conversation";
    case "overflow":
      return "The provider says that the conversation is too long: summarising it";
    case "asked":
      return "Summarising the conversation";
  }
}

export function prunedText(calls: number, tokens: number): string {
  return `${counted(calls, "older output")} of tools left the model's view, about ${count(tokens)} tokens. Here everything stays.`;
}

/** Of a model and its effort, within a sentence. */
export function choiceText(model: string | null | undefined, effort: Effort | null | undefined): string {
  return [model ?? "the default model", effort && `effort ${effort}`].filter(Boolean).join(", ");
}
