/** One tool call: open with live output while it runs, one line when it is done. */
import { Link } from "@tanstack/react-router";
import { useId, useLayoutEffect, useRef, useState } from "react";
import type { ToolDisplay } from "../api/types";
import { Patch } from "../diff/diff";
import { duration, plainTerminal } from "../lib/format";
import { Icon, type IconName } from "../ui/icon";
import { toolState, toolStateText, toolSummary, toolTitle } from "./say";
import type { ToolItem } from "./state";

const NAMES: Record<string, IconName> = { bash: "terminal", terminal: "terminal", read: "file", write: "edit", edit: "edit", apply_patch: "edit", glob: "search", grep: "search", todo: "list", open_change: "merge", publish: "file" };
const STATES: Record<ReturnType<typeof toolState>, { icon: IconName; look: string }> = {
  waiting: { icon: "clock", look: "text-ink-3" },
  running: { icon: "arc", look: "text-accent spin" },
  succeeded: { icon: "check", look: "text-accent" },
  failed: { icon: "cross", look: "text-bad" },
  cancelled: { icon: "stop", look: "text-ink-3" },
  unknown: { icon: "question", look: "text-warn" },
};

export function ToolCard({ tool }: { tool: ToolItem }) {
  const [chosen, setChosen] = useState<boolean>();
  const isOpen = chosen ?? (tool.outcome === null && tool.output.text !== "");
  const id = useId();
  const state = STATES[toolState(tool)];
  const summary = toolSummary(tool);
  return (
    <article aria-label={`${tool.name}: ${toolTitle(tool)}, ${toolStateText(tool)}`} data-testid="tool-card" data-tool={tool.name} data-outcome={toolState(tool)} className="mt-2 rounded-xl border border-line bg-raised">
      <button type="button" aria-expanded={isOpen} aria-controls={id} onClick={() => setChosen(!isOpen)} className="flex min-h-11 w-full items-center gap-2.5 rounded-xl px-3 py-1.5 text-left hover:bg-sunken/50">
        <Icon name={NAMES[tool.name] ?? "gear"} className="size-[18px] text-ink-3" />
        <span className="min-w-0 flex-1 sm:flex sm:items-baseline sm:gap-2.5">
          <span className="block truncate font-mono text-[13px] sm:max-w-[68%] sm:shrink-0">{toolTitle(tool)}</span>
          {!isOpen && summary && <span className="block min-w-0 truncate text-[12.5px] text-ink-3">{summary}</span>}
        </span>
        {tool.durationMs !== null && <span className="hidden whitespace-nowrap text-[12.5px] tabular-nums text-ink-3 sm:inline">{duration(tool.durationMs)}</span>}
        <Icon name={state.icon} className={`size-[18px] ${state.look}`} />
        <span className="sr-only">{toolStateText(tool)}</span>
      </button>
      {isOpen && (
        <div id={id} className="border-t border-line p-2.5">
          <ToolBody tool={tool} />
        </div>
      )}
    </article>
  );
}

function ToolBody({ tool }: { tool: ToolItem }) {
  if (tool.outcome === null) {
    return tool.output.text ? <LiveOutput text={tool.output.text} /> : <InputView input={tool.input} fallback={tool.isStarted ? "Running; no output yet." : "Waiting to run."} />;
  }
  return (
    <div className="space-y-2">
      {tool.display ? <DisplayView display={tool.display} /> : <InputView input={tool.input} />}
      {tool.display?.kind !== "command" && tool.text && (tool.display === null || tool.outcome !== "succeeded") && <pre className="output">{plainTerminal(tool.text)}</pre>}
    </div>
  );
}

/** Keeps its own end in view. */
function LiveOutput({ text }: { text: string }) {
  const box = useRef<HTMLPreElement>(null);
  useLayoutEffect(() => {
    if (box.current) box.current.scrollTop = box.current.scrollHeight;
  }, [text]);
  return (
    <pre ref={box} tabIndex={0} aria-label="Output so far" className="output" data-testid="live-output">
      {plainTerminal(text)}
    </pre>
  );
}

function DisplayView({ display }: { display: ToolDisplay }) {
  switch (display.kind) {
    case "diff":
      return (
        <div className="max-h-[32rem] overflow-auto rounded-lg border border-line">
          <Patch path={display.path} patch={display.diff} />
        </div>
      );
    case "command":
      return <CommandView display={display} />;
    case "change":
      return (
        <p>
          Change #{display.number}: {display.title}.{" "}
          <Link to="." search={{ tab: "change" }} className="text-accent underline">
            Show it
          </Link>
        </p>
      );
  }
}

function CommandView({ display }: { display: Extract<ToolDisplay, { kind: "command" }> }) {
  const code = display.exit_code ?? null;
  return (
    <>
      <pre className="output mb-2 max-h-40">
        <span aria-hidden="true" className="select-none text-ink-3">
          ${" "}
        </span>
        {display.command}
      </pre>
      {display.output.trim() !== "" && (
        <pre className="output" tabIndex={0} aria-label="Output" data-testid="tool-output">
          {plainTerminal(display.output)}
        </pre>
      )}
      <p className="mt-1.5 text-[12.5px] text-ink-3">
        {code === null ? "Ended by a signal or a limit." : `Exit status ${code}.`}
        {display.is_truncated && " The output was longer; only part of it was kept."}
      </p>
    </>
  );
}

function InputView({ input, fallback }: { input: unknown; fallback?: string }) {
  const text = typeof input === "string" ? input : input === undefined || input === null || isEmptyObject(input) ? "" : JSON.stringify(input, null, 2);
  if (!text) return fallback ? <p className="text-[13.5px] text-ink-3">{fallback}</p> : null;
  return <pre className="output max-h-60">{text}</pre>;
}

function isEmptyObject(value: unknown): boolean {
  return typeof value === "object" && value !== null && Object.keys(value).length === 0;
}
