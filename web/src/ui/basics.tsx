/** The page's small parts: buttons, fields, problems, badges, times. */
import { type ButtonHTMLAttributes, type InputHTMLAttributes, type ReactNode, useEffect, useId, useState, useSyncExternalStore } from "react";
import { ApiError, problemOf } from "../api/client";
import type { ChangeStatus, Problem } from "../api/types";
import { ago, initials } from "../lib/format";
import { Icon, type IconName } from "./icon";

const LOOKS = {
  primary: "bg-accent text-on-accent hover:bg-accent-strong border-transparent font-medium",
  quiet: "bg-surface text-ink border-line-strong hover:bg-raised",
  ghost: "bg-transparent text-ink-2 border-transparent hover:bg-sunken hover:text-ink",
  danger: "bg-bad-soft text-bad border-transparent hover:brightness-95 font-medium",
};

interface ButtonProps extends ButtonHTMLAttributes<HTMLButtonElement> {
  look?: keyof typeof LOOKS;
  icon?: IconName;
  isBusy?: boolean;
}

export function Button({ look = "quiet", icon, isBusy, children, className = "", disabled, type = "button", ...rest }: ButtonProps) {
  return (
    <button
      type={type}
      disabled={disabled || isBusy}
      aria-busy={isBusy || undefined}
      className={`inline-flex min-h-10 min-w-10 items-center justify-center gap-2 rounded-[10px] border px-3.5 transition-colors disabled:opacity-55 ${LOOKS[look]} ${className}`}
      {...rest}
    >
      {isBusy ? <Icon name="arc" className="spin size-4" /> : icon && <Icon name={icon} className="size-[18px]" />}
      {children}
    </button>
  );
}

export function IconButton({ label, icon, className = "", ...rest }: { label: string; icon: IconName } & ButtonHTMLAttributes<HTMLButtonElement>) {
  return (
    <button type="button" aria-label={label} title={label} className={`inline-flex size-10 items-center justify-center rounded-[10px] hover:bg-sunken ${className}`} {...rest}>
      <Icon name={icon} />
    </button>
  );
}

export function Field({ label, hint, className = "", ...rest }: { label: string; hint?: ReactNode } & InputHTMLAttributes<HTMLInputElement>) {
  const id = useId();
  return (
    <div className={className}>
      <label htmlFor={id} className="mb-1 block text-sm font-medium">
        {label}
      </label>
      <input id={id} className="field" aria-describedby={hint ? `${id}-hint` : undefined} {...rest} />
      {hint && (
        <p id={`${id}-hint`} className="mt-1 text-[13px] text-ink-3">
          {hint}
        </p>
      )}
    </div>
  );
}

export interface Choice {
  value: string;
  label: string;
}
export function SelectField({ label, value, choices, onChange, isLabelHidden, className = "", ...rest }: { label: string; value: string; choices: Choice[]; onChange: (value: string) => void; isLabelHidden?: boolean; className?: string; disabled?: boolean; required?: boolean }) {
  const id = useId();
  return (
    <div className={className}>
      <label htmlFor={id} className={isLabelHidden ? "sr-only" : "mb-1 block text-sm font-medium"}>
        {label}
      </label>
      <select id={id} className="field" value={value} onChange={(event) => onChange(event.target.value)} {...rest}>
        {choices.map((choice) => (
          <option key={choice.value} value={choice.value}>
            {choice.label}
          </option>
        ))}
      </select>
    </div>
  );
}

/** Every second part lies between marks: a command to run, a name. */
export function withCode(text: string) {
  return text.split("`").map((part, index) =>
    index % 2 === 0 ? (
      part
    ) : (
      <code key={index} className="rounded bg-surface/70 px-1 py-0.5 font-mono text-[0.87em]">
        {part}
      </code>
    ),
  );
}

/** What went wrong, for people: the sentence, what to do, and small print for whoever helps them. */
export function ProblemBox({ problem, requestId, onDismiss, className = "" }: { problem: Problem; requestId?: string; onDismiss?: () => void; className?: string }) {
  return (
    <div role="alert" data-testid="problem" className={`flex gap-2.5 rounded-xl border border-bad/30 bg-bad-soft px-3.5 py-3 text-ink ${className}`}>
      <Icon name="warn" className="mt-0.5 size-5 text-bad" />
      <div className="min-w-0 flex-1">
        <p className="wrap-anywhere font-medium">{withCode(problem.message)}</p>
        {problem.hint && <p className="mt-0.5 wrap-anywhere text-ink-2">{withCode(problem.hint)}</p>}
        {problem.detail && <pre className="output mt-2 max-h-60">{problem.detail}</pre>}
        <p className="mt-1 font-mono text-xs text-ink-3">
          {problem.code}
          {requestId && ` · ${requestId}`}
        </p>
      </div>
      {onDismiss && <IconButton label="Dismiss" icon="cross" className="-my-2 -mr-2" onClick={onDismiss} />}
    </div>
  );
}

export function ErrorBox({ error, onDismiss, className }: { error: unknown; onDismiss?: () => void; className?: string }) {
  if (!error) return null;
  return <ProblemBox problem={problemOf(error)} requestId={error instanceof ApiError ? error.requestId : undefined} onDismiss={onDismiss} className={className} />;
}

const CHANGE_LOOKS: Record<ChangeStatus, { look: string; word: string; icon: IconName }> = {
  open: { look: "bg-accent-soft text-accent", word: "Open", icon: "branch" },
  merged: { look: "bg-merged-soft text-merged", word: "Merged", icon: "merge" },
  closed: { look: "bg-sunken text-ink-2", word: "Closed", icon: "cross" },
};
export function ChangeBadge({ state, number }: { state: ChangeStatus; number?: number }) {
  const { look, word, icon } = CHANGE_LOOKS[state];
  return (
    <Badge look={look} icon={icon}>
      {number === undefined ? word : `#${number} ${word.toLowerCase()}`}
    </Badge>
  );
}

export function Badge({ look = "bg-sunken text-ink-2", icon, children }: { look?: string; icon?: IconName; children: ReactNode }) {
  return (
    <span className={`inline-flex items-center gap-1 whitespace-nowrap rounded-full px-2 py-0.5 text-xs font-medium ${look}`}>
      {icon && <Icon name={icon} className="size-3.5" />}
      {children}
    </span>
  );
}

const MINUTE_MS = 60_000;
let nowMs = Date.now();
function subscribeMinute(listener: () => void): () => void {
  const timer = setInterval(() => {
    nowMs = Date.now();
    listener();
  }, MINUTE_MS / 2);
  return () => clearInterval(timer);
}
export function Ago({ atMs, className }: { atMs: number; className?: string }) {
  const now = useSyncExternalStore(subscribeMinute, () => nowMs);
  const date = new Date(atMs);
  return (
    <time dateTime={date.toISOString()} title={date.toLocaleString()} className={className}>
      {ago(atMs, now)}
    </time>
  );
}

/** Counts up or down beside work in progress; once a second. */
export function useSeconds(isActive: boolean): number {
  const [now, setNow] = useState(Date.now);
  useEffect(() => {
    if (!isActive) return;
    setNow(Date.now());
    const timer = setInterval(() => setNow(Date.now()), 1000);
    return () => clearInterval(timer);
  }, [isActive]);
  return now;
}

export function Avatar({ name, className = "size-7 text-[11px]" }: { name: string; className?: string }) {
  return (
    <span aria-hidden="true" className={`inline-flex shrink-0 items-center justify-center rounded-full bg-accent-soft font-semibold text-accent ${className}`}>
      {initials(name)}
    </span>
  );
}

export function Empty({ icon, title, children }: { icon: IconName; title: string; children?: ReactNode }) {
  return (
    <div className="flex flex-col items-center px-6 py-12 text-center">
      <span className="mb-3 inline-flex size-12 items-center justify-center rounded-full bg-accent-soft text-accent">
        <Icon name={icon} className="size-6" />
      </span>
      <p className="font-medium">{title}</p>
      {children && <div className="mt-1 max-w-md text-ink-2">{children}</div>}
    </div>
  );
}

export function Loading({ what }: { what: string }) {
  return (
    <p role="status" className="flex items-center justify-center gap-2 py-10 text-ink-3">
      <Icon name="arc" className="spin size-4" /> Loading {what}…
    </p>
  );
}

export function CopyButton({ text, label = "Copy", look = "quiet" }: { text: string; label?: string; look?: "quiet" | "ghost" }) {
  const [isCopied, setCopied] = useState(false);
  const copy = async () => {
    await navigator.clipboard.writeText(text).catch(() => undefined);
    setCopied(true);
    setTimeout(() => setCopied(false), 1500);
  };
  return (
    <Button look={look} icon={isCopied ? "check" : "copy"} onClick={copy}>
      {isCopied ? "Copied" : label}
    </Button>
  );
}

/** Whether a media query holds now. */
export function useMedia(query: string): boolean {
  return useSyncExternalStore(
    (listener) => {
      const media = matchMedia(query);
      media.addEventListener("change", listener);
      return () => media.removeEventListener("change", listener);
    },
    () => matchMedia(query).matches,
  );
}

export function useTitle(title: string): void {
  useEffect(() => {
    document.title = title ? `${title} · Greenroom` : "Greenroom";
  }, [title]);
}
