/** Whose prompts made which lines of a file: asked for when somebody wants to know, since git has to look. */
import { useQuery } from "@tanstack/react-query";
import { useId, useState } from "react";
import { sessionBlameQuery } from "../api/queries";
import type { Blame, BlamedOn } from "../api/types";
import { Button, ErrorBox, Loading } from "../ui/basics";

export function Origins({ id, path }: { id: string; path: string }) {
  const [isOpen, setOpen] = useState(false);
  const region = useId();
  const { data, error } = useQuery({ ...sessionBlameQuery(id, path), enabled: isOpen });
  return (
    <div className="border-t border-line p-1">
      <Button look="ghost" icon="chat" aria-expanded={isOpen} aria-controls={region} onClick={() => setOpen(!isOpen)}>
        {isOpen ? "Hide who asked" : "Who asked for which line"}
      </Button>
      {isOpen && (
        <div id={region} className="-mx-1 -mb-1 mt-1">
          <ErrorBox error={error} className="m-3" />
          {!data && !error && <Loading what="the lines" />}
          {data && <Lines blame={data} />}
        </div>
      )}
    </div>
  );
}

function Lines({ blame }: { blame: Blame }) {
  return (
    <ol tabIndex={0} aria-label={`Lines of ${blame.path}`} className="max-h-[60dvh] divide-y divide-line overflow-auto border-t border-line" data-testid="blame">
      {blame.parts.map((part) => {
        const isOurs = part.by.kind !== "before_session";
        return (
          <li key={part.first_line} className={`px-3 py-1.5 ${isOurs ? "bg-accent-soft/40" : ""}`} data-kind={part.by.kind}>
            <p className="text-[13px] text-ink-2">
              <span className="text-ink-3">{span(part.first_line, part.lines.length)}</span> <span className={isOurs ? "text-ink" : ""}>{said(part.by, blame)}</span>
            </p>
            <pre className="mt-0.5 overflow-x-auto font-mono text-[12.5px] leading-5">{part.lines.join("\n")}</pre>
          </li>
        );
      })}
    </ol>
  );
}

const span = (first: number, count: number) => (count === 1 ? `Line ${first}` : `Lines ${first}–${first + count - 1}`);

function said(by: BlamedOn, blame: Blame): string {
  switch (by.kind) {
    case "before_session":
      return `before the session: ${by.author}, “${by.summary}”`;
    case "prompts": {
      const prompts = by.prompts.flatMap((id) => blame.prompts.find((prompt) => prompt.prompt === id) ?? []);
      const asked = prompts.map((prompt) => `${prompt.author.name}: “${prompt.text}”`).join("; ");
      return by.is_running ? `${asked} (being worked on)` : asked;
    }
    case "command":
      return `a command of ${by.name}`;
    case "unmarked":
      return "since the last turn, by no prompt";
  }
}
