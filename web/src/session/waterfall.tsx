/** What a session's turns did and when: one bar for each stage, request, tool call and snapshot, from the server's trace. */
import { useQuery } from "@tanstack/react-query";
import { useState } from "react";
import { sessionTraceQuery } from "../api/queries";
import type { TraceSpan, TurnTrace } from "../api/types";
import { counted, microseconds } from "../lib/format";
import { ErrorBox } from "../ui/basics";

const LOOKS: Record<TraceSpan["kind"], string> = { stage: "bg-ink-3/60", model: "bg-accent", tool: "bg-accent/50", snapshot: "bg-ink-3/60" };
const STATUS: Partial<Record<TraceSpan["status"], string>> = { running: "runs", failed: "failed", cancelled: "stopped", interrupted: "interrupted" };

/** Asks the server only once it is opened. */
export function Waterfalls({ id, isRunning }: { id: string; isRunning: boolean }) {
  const [isOpen, setOpen] = useState(false);
  const { data, error } = useQuery({ ...sessionTraceQuery(id, isRunning), enabled: isOpen });
  return (
    <details className="mt-3" onToggle={(event) => setOpen(event.currentTarget.open)} data-testid="waterfalls">
      <summary className="min-h-9 cursor-pointer text-ink-2 hover:text-ink">What took how long</summary>
      <ErrorBox error={error} />
      {isOpen && !data && !error && <p className="text-ink-2">Reading the log…</p>}
      {data?.length === 0 && <p className="text-ink-2">No turn yet.</p>}
      <ol className="space-y-4">
        {[...(data ?? [])].reverse().map((trace) => (
          <Waterfall key={trace.turn} trace={trace} />
        ))}
      </ol>
    </details>
  );
}

function Waterfall({ trace }: { trace: TurnTrace }) {
  const ends = trace.spans.map((span) => span.start_us + (span.duration_us ?? 0));
  const whole = Math.max(1, trace.duration_us ?? 0, ...ends);
  return (
    <li>
      <table className="w-full table-fixed text-[13px]">
        <caption className="pb-1 text-left text-ink-2">
          Turn {trace.number}
          {typeof trace.duration_us === "number" && `, ${microseconds(trace.duration_us)}`}
          {trace.interruptions > 0 && `, the server restarted ${counted(trace.interruptions, "time")}`}
        </caption>
        <thead className="sr-only">
          <tr>
            <th>What</th>
            <th>When</th>
            <th>How long</th>
          </tr>
        </thead>
        <tbody>
          {trace.spans.map((span, at) => (
            <Bar key={at} span={span} whole={whole} />
          ))}
        </tbody>
      </table>
      {trace.request && <p className="wrap-anywhere text-[12px] text-ink-3">Request {trace.request}</p>}
    </li>
  );
}

function Bar({ span, whole }: { span: TraceSpan; whole: number }) {
  const start = Math.min(99, (span.start_us / whole) * 100);
  const length = typeof span.duration_us === "number" ? (span.duration_us / whole) * 100 : 100 - start;
  const status = STATUS[span.status];
  const attempt = span.model && span.model.attempt > 1 ? `, attempt ${span.model.attempt}` : "";
  const name = (span.kind === "stage" ? span.name.replaceAll("_", " ") : span.name) + attempt;
  return (
    <tr title={[name, span.title, span.problem].filter(Boolean).join(": ")}>
      <th scope="row" className="w-32 truncate py-0.5 pr-2 text-left font-normal text-ink-2">
        {name}
        {status && <span className={span.status === "running" ? "text-ink-3" : "text-bad"}> ({status})</span>}
      </th>
      <td aria-hidden="true">
        <div className="h-2 rounded-full bg-sunken">
          <div className={`h-2 rounded-full ${LOOKS[span.kind]}`} style={{ marginLeft: `${start}%`, width: `${Math.min(100 - start, Math.max(1, length))}%` }} />
        </div>
      </td>
      <td className="w-20 whitespace-nowrap pl-2 text-right tabular-nums">{typeof span.duration_us === "number" ? microseconds(span.duration_us) : "–"}</td>
    </tr>
  );
}
