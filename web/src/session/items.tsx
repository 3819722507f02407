/** Entries of the conversation, one component per kind. Each is drawn again only when its item changed. */
import { Link } from "@tanstack/react-router";
import { memo, type ReactNode } from "react";
import { count, duration, microseconds, SANDBOX_STARTS, STAGE_NAMES, timelineRows, usageText } from "../lib/format";
import { Ago, Avatar, ProblemBox, useSeconds } from "../ui/basics";
import { Icon, type IconName } from "../ui/icon";
import { Markdown } from "../ui/markdown";
import { AskCard } from "./ask";
import { ArtifactView, AttachedView } from "./files";
import { ForkButton } from "./fork";
import { compactionReasonText, keptText, outcomeText, syncedText } from "./say";
import type { BlockItem, ChangeItem, CompactionItem, Item, NoticeItem, PromptItem, RetryItem, SyncedItem, ToldItem, Turn, TurnEndItem } from "./state";
import { ToolCard } from "./tool-card";
import { OutsideStep, RevertView, StepLine, TurnFiles } from "./trees";

export const ItemView = memo(function ItemView({ item, turn, noFork }: { item: Item; turn?: Turn; noFork?: string | null }) {
  switch (item.kind) {
    case "ask":
      return <AskCard item={item} />;
    case "prompt":
      return <PromptView item={item} turn={turn} />;
    case "text":
      return <TextView item={item} />;
    case "thinking":
      return <ThinkingView item={item} />;
    case "tool":
      return (
        <>
          <ToolCard tool={item} />
          {item.step && <StepLine step={item.step} />}
        </>
      );
    case "retry":
      return <RetryView item={item} />;
    case "notice":
      return <NoticeView item={item} />;
    case "change":
      return <ChangeCard item={item} />;
    case "synced":
      return <SyncedView item={item} />;
    case "told":
      return <ToldView item={item} />;
    case "artifact":
      return <ArtifactView item={item} />;
    case "compaction":
      return <CompactionView item={item} />;
    case "step":
      return <OutsideStep item={item} />;
    case "revert":
      return <RevertView item={item} />;
    case "turn_end":
      return <TurnEnd item={item} turn={turn} noFork={noFork ?? null} />;
  }
});

const VIA_WORDS = { person: "", parent: "from the parent session", child: "from a session begun here", review: "from a review", webhook: "from a webhook" };

function PromptView({ item, turn }: { item: PromptItem; turn: Turn | undefined }) {
  const { author, text, isEdited } = item.prompt;
  const via = VIA_WORDS[author.via] ?? "";
  return (
    <article aria-label={`Asked by ${author.name}`} data-testid="prompt" className={item.wasInserted ? "mt-4" : "mt-7"}>
      <div className="flex gap-3 rounded-2xl border border-line bg-surface px-3.5 py-3 shadow-(--shadow)">
        <Avatar name={author.name} className="mt-0.5 size-7 text-[11px]" />
        <div className="min-w-0 flex-1">
          <p className="flex flex-wrap items-baseline gap-x-2">
            <span className="font-medium">{author.name}</span>
            <span className="text-[13px] text-ink-3">
              {[via, item.wasInserted && "added while working", isEdited && "edited"].filter(Boolean).join(" · ")} <Ago atMs={item.atMs} />
            </span>
          </p>
          <p className="whitespace-pre-wrap break-words">{text}</p>
          <AttachedView session={item.session} files={item.prompt.files} />
        </div>
      </div>
      {turn && turn.marks.length > 0 && <StartLine turn={turn} />}
    </article>
  );
}

/** How long the turn's start took, in one line; opened, the whole timeline. */
function StartLine({ turn }: { turn: Turn }) {
  const called = turn.marks.find((mark) => mark.stage === "model_called");
  const first = turn.marks.find((mark) => mark.stage === "first_token");
  const parts = [turn.sandbox && SANDBOX_STARTS[turn.sandbox], called && `model called after ${microseconds(called.at_us)}`, first && `first token after ${microseconds(first.at_us)}`].filter(Boolean);
  return (
    <details className="group mt-1.5 pl-1 text-[13px] text-ink-3" data-testid="start-timeline">
      <summary className="inline-flex min-h-8 list-none items-center gap-1.5 hover:text-ink">
        <Icon name="clock" className="size-4" />
        <span>{parts.length > 0 ? sentence(parts.join(", ")) : "Start timeline"}</span>
        <Icon name="chevron" className="size-3.5 transition-transform group-open:rotate-90" />
      </summary>
      <Timeline turn={turn} />
    </details>
  );
}

const sentence = (text: string): string => text.charAt(0).toUpperCase() + text.slice(1);

export function Timeline({ turn }: { turn: Turn }) {
  return (
    <table className="mb-1 mt-1 w-full max-w-lg text-[13px]">
      <caption className="sr-only">Start of the turn, measured from the moment the prompt arrived</caption>
      <thead className="sr-only">
        <tr>
          <th>Stage</th>
          <th>Reached</th>
          <th>After</th>
        </tr>
      </thead>
      <tbody>
        {timelineRows(turn.marks).map((row) => (
          <tr key={row.stage}>
            <th scope="row" className="whitespace-nowrap py-0.5 pr-3 text-left font-normal text-ink-2">
              {STAGE_NAMES[row.stage] ?? row.stage}
            </th>
            <td aria-hidden="true" className="w-full">
              <div className="h-2 rounded-full bg-sunken">
                <div className="h-2 rounded-full bg-accent/70" style={{ width: `${Math.max(1.5, row.share * 100)}%` }} />
              </div>
            </td>
            <td className="whitespace-nowrap pl-3 text-right tabular-nums">{microseconds(row.atUs)}</td>
          </tr>
        ))}
      </tbody>
    </table>
  );
}

function TextView({ item }: { item: BlockItem }) {
  if (item.body.text === "") return null;
  return (
    <div className="mt-4 px-1" data-testid="assistant-text">
      <Markdown text={item.body.text} isStreaming={!item.isDone} />
    </div>
  );
}

function ThinkingView({ item }: { item: BlockItem }) {
  if (item.body.text === "") return null;
  return (
    <details className="group mt-3 px-1 text-ink-2">
      <summary className="inline-flex min-h-9 list-none items-center gap-1.5 text-[14px] text-ink-3 hover:text-ink">
        <Icon name="thought" className="size-[18px]" />
        {item.isDone ? "Thought" : <span className="breathe">Thinking</span>}
        <Icon name="chevron" className="size-3.5 transition-transform group-open:rotate-90" />
      </summary>
      <div className="mt-1 whitespace-pre-wrap break-words border-l-2 border-line pl-3 text-[14px]">{item.body.text}</div>
    </details>
  );
}

function RetryView({ item }: { item: RetryItem }) {
  const now = useSeconds(!item.isOver);
  const left = Math.max(0, Math.ceil((item.atMs + item.waitMs - now) / 1000));
  const wait = item.isOver ? "It was asked again." : left > 0 ? `It is asked again in ${left} s.` : "It is asked again now.";
  return (
    <Line icon="refresh" tone="warn" testId="retry">
      {item.problem.message} {wait} <span className="text-ink-3">(attempt {item.attempt})</span>
    </Line>
  );
}

const TONES = { info: "text-ink-2", warn: "text-warn", bad: "text-bad" };

function NoticeView({ item }: { item: NoticeItem }) {
  if (item.problem) return <ProblemBox problem={item.problem} className="mt-4" />;
  return (
    <Line icon={item.tone === "info" ? "note" : "warn"} tone={item.tone} testId="notice">
      {item.text}
    </Line>
  );
}

function Line({ icon, tone, testId, children }: { icon: IconName; tone: keyof typeof TONES; testId: string; children: ReactNode }) {
  return (
    <p data-testid={testId} className={`mt-4 flex items-start gap-2 px-1 ${TONES[tone]}`}>
      <Icon name={icon} className="mt-[3px] size-[18px]" />
      <span className="min-w-0 break-words text-[14px] leading-6">{children}</span>
    </p>
  );
}

const CHANGE_WORDS: Record<ChangeItem["what"], { icon: IconName; look: string; says: (item: ChangeItem) => string }> = {
  opened: { icon: "branch", look: "border-accent/40 bg-accent-soft", says: (item) => `Change opened${item.byName ? ` for ${item.byName}` : ""}` },
  updated: { icon: "refresh", look: "border-line bg-surface", says: () => "Change updated" },
  approved: { icon: "check", look: "border-accent/40 bg-accent-soft", says: (item) => `Approved by ${item.byName}` },
  merged: { icon: "merge", look: "border-merged/40 bg-merged-soft", says: (item) => `Merged by ${item.byName}` },
};

function ChangeCard({ item }: { item: ChangeItem }) {
  const { icon, look, says } = CHANGE_WORDS[item.what];
  return (
    <Link to="/changes/$id" params={{ id: item.change }} data-testid={`change-${item.what}`} className={`mt-4 flex min-h-12 items-center gap-3 rounded-xl border px-3.5 py-2.5 hover:brightness-98 ${look}`}>
      <Icon name={icon} className={item.what === "merged" ? "size-5 text-merged" : "size-5 text-accent"} />
      <span className="min-w-0 flex-1">
        <span className="block font-medium">{says(item)}</span>
        <span className="block truncate text-[13.5px] text-ink-2">
          #{item.number} {item.title}
        </span>
      </span>
      <Icon name="chevron" className="size-4 text-ink-3" />
    </Link>
  );
}

/** What the base branch brought, in one line; opened, which files. */
function SyncedView({ item }: { item: SyncedItem }) {
  const more = item.changedCount - item.changed.length;
  return (
    <details className="group mt-4 px-1 text-[13.5px] text-ink-2" data-testid="synced">
      <summary className="flex min-h-9 list-none items-center gap-2 hover:text-ink">
        <Icon name="refresh" className="size-[18px] text-ink-3" />
        <span className="min-w-0 break-words">{syncedText(item)}</span>
        <Icon name="chevron" className="size-3.5 transition-transform group-open:rotate-90" />
      </summary>
      <div className="ml-[9px] border-l-2 border-line pl-4">
        <p className="py-1">
          From <code className="font-mono text-[12.5px]">{item.from.slice(0, 10)}</code> to <code className="font-mono text-[12.5px]">{item.to.slice(0, 10)}</code>
        </p>
        {item.rerunSteps.length > 0 && <p className="py-1">Run again, because what they read was changed: {item.rerunSteps.join(", ")}.</p>}
        <ul aria-label="Changed files" className="max-h-60 overflow-y-auto font-mono text-[12.5px] leading-6">
          {item.changed.map((path) => (
            <li key={path} className="wrap-anywhere">
              {path}
            </li>
          ))}
          {more > 0 && <li className="font-sans">and {more} more</li>}
        </ul>
      </div>
    </details>
  );
}

function ToldView({ item }: { item: ToldItem }) {
  return (
    <details className="group mt-3 px-1 text-ink-2" data-testid="told">
      <summary className="inline-flex min-h-9 list-none items-center gap-1.5 text-[14px] text-ink-3 hover:text-ink">
        <Icon name="chat" className="size-[18px]" /> The agent was told
        <Icon name="chevron" className="size-3.5 transition-transform group-open:rotate-90" />
      </summary>
      <div className="mt-1 whitespace-pre-wrap break-words border-l-2 border-line pl-3 text-[14px]">{item.text}</div>
    </details>
  );
}

/** One quiet line; opened, the summary that the model goes on from. */
function CompactionView({ item }: { item: CompactionItem }) {
  const { done } = item;
  if (!done) {
    return (
      <p className="mt-3 flex items-center gap-1.5 px-1 text-[14px] text-ink-3" data-testid="compaction">
        <Icon name={item.isOver ? "warn" : "arc"} className={`size-[18px] ${item.isOver ? "" : "spin"}`} />
        {item.isOver ? "The conversation was not summarised" : compactionReasonText(item.reason)}
      </p>
    );
  }
  const used = usageText(done.usage);
  return (
    <details className="group mt-3 px-1 text-ink-2" data-testid="compaction">
      <summary className="inline-flex min-h-9 list-none items-center gap-1.5 text-left text-[14px] text-ink-3 hover:text-ink">
        <Icon name="collapse" className="size-[18px] shrink-0" />
        <span>
          From here on the model sees a summary of what came before · {count(item.tokensBefore)} → {count(done.tokensAfter)} tokens
        </span>
        <Icon name="chevron" className="size-3.5 shrink-0 transition-transform group-open:rotate-90" />
      </summary>
      <div className="mt-1 border-l-2 border-line pl-3 text-[14px]">
        <Markdown text={done.summary} />
        <p className="mt-2 text-[13px] text-ink-3">Nothing was deleted: this page, the log and exports keep everything.{used && ` The summary took ${used}.`}</p>
      </div>
    </details>
  );
}

function TurnEnd({ item, turn, noFork }: { item: TurnEndItem; turn: Turn | undefined; noFork: string | null }) {
  const { outcome } = item;
  const usage = usageText(item.usage);
  const kept = turn ? keptText(turn) : "";
  return (
    <div data-testid="turn-end" data-outcome={outcome.kind} className="mt-4">
      {(outcome.kind === "failed" || outcome.kind === "budget_reached") && <ProblemBox problem={outcome.problem} />}
      <div className="mt-1 flex flex-wrap items-center gap-x-2 px-1 text-[13px] text-ink-3">
        <Icon name={outcome.kind === "completed" ? "check" : outcome.kind === "stopped" ? "stop" : "warn"} className="size-4" />
        <span>
          {outcomeText(outcome)} after {duration(item.durationMs)}
          {outcome.kind === "stopped" && "; what was done is kept"}
          {usage && ` · ${usage}`}
          {kept && <span aria-hidden="true"> ·</span>}
        </span>
        {kept && (
          <span data-testid="snapshot">{kept}</span>
        )}
        {turn && <TurnFiles turn={turn} />}
        {item.turn && <ForkButton turn={item.turn} refusal={noFork} />}
      </div>
    </div>
  );
}
