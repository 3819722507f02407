/** A session's status: shape, colour and word together. */
import type { SessionStatus } from "../api/types";
import { Icon } from "./icon";

const WORDS: Record<SessionStatus, string> = { idle: "Idle", running: "Running", failed: "Failed" };

export function StatusMark({ status, className = "size-4" }: { status: SessionStatus; className?: string }) {
  return (
    <span title={WORDS[status]} className="inline-flex" data-testid="session-status" data-status={status}>
      {status === "running" && <Icon name="arc" className={`spin ${className}`} />}
      {status === "idle" && <Icon name="circle" className={`opacity-60 ${className}`} />}
      {status === "failed" && <Icon name="warn" className={className} />}
      <span className="sr-only">{WORDS[status]}</span>
    </span>
  );
}

const LOOKS: Record<SessionStatus, string> = { idle: "text-ink-3", running: "text-accent font-medium", failed: "text-bad font-medium" };

export function StatusText({ status }: { status: SessionStatus }) {
  return (
    <span className={`inline-flex items-center gap-1 text-[13px] ${LOOKS[status]}`} data-testid="session-status" data-status={status}>
      <Icon name={status === "running" ? "arc" : status === "failed" ? "warn" : "circle"} className={`size-3.5 ${status === "running" ? "spin" : ""}`} />
      {WORDS[status]}
    </span>
  );
}
