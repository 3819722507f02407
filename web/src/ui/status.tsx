/** A session's status: shape, colour and word together. */
import type { SessionStatus, SessionView } from "../api/types";
import { Icon, type IconName } from "./icon";

/** As people see it: a turn that waits for them looks unlike one that works. */
export type Standing = SessionStatus | "asking";

export const standingOf = (session: SessionView): Standing => (session.open_asks ? "asking" : session.status);

const WORDS: Record<Standing, string> = { idle: "Idle", running: "Running", failed: "Failed", asking: "Asks people" };

export function StatusMark({ status, className = "size-4" }: { status: Standing; className?: string }) {
  return (
    <span title={WORDS[status]} className="inline-flex" data-testid="session-status" data-status={status}>
      {status === "asking" && <Icon name="question" className={className} />}
      {status === "running" && <Icon name="arc" className={`spin ${className}`} />}
      {status === "idle" && <Icon name="circle" className={`opacity-60 ${className}`} />}
      {status === "failed" && <Icon name="warn" className={className} />}
      <span className="sr-only">{WORDS[status]}</span>
    </span>
  );
}

const LOOKS: Record<Standing, string> = { idle: "text-ink-3", running: "text-accent font-medium", failed: "text-bad font-medium", asking: "text-warn font-medium" };
const ICONS: Record<Standing, IconName> = { idle: "circle", running: "arc", failed: "warn", asking: "question" };

export function StatusText({ status }: { status: Standing }) {
  return (
    <span className={`inline-flex items-center gap-1 text-[13px] ${LOOKS[status]}`} data-testid="session-status" data-status={status}>
      <Icon name={ICONS[status]} className={`size-3.5 ${status === "running" ? "spin" : ""}`} />
      {WORDS[status]}
    </span>
  );
}
