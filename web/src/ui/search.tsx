/** Finding sessions by what was asked and answered in them. */
import { useQuery } from "@tanstack/react-query";
import { Link } from "@tanstack/react-router";
import { useDeferredValue, useEffect, useRef } from "react";
import { searchQuery } from "../api/queries";
import type { SearchHit } from "../api/types";
import { firstLine } from "../lib/format";
import { Ago, Empty, ErrorBox, Loading } from "./basics";
import { Icon } from "./icon";

const LONGEST = 200;

/** `/` puts the keyboard here, from anywhere that takes no text. */
export function SearchBox({ words, onWords }: { words: string; onWords: (words: string) => void }) {
  const box = useRef<HTMLInputElement>(null);
  useEffect(() => {
    const onKey = (event: KeyboardEvent) => {
      const target = event.target as HTMLElement | null;
      const isText = target?.isContentEditable || target?.matches?.("input, textarea, select");
      if (event.key !== "/" || isText || event.ctrlKey || event.metaKey || event.altKey) return;
      event.preventDefault();
      box.current?.focus();
    };
    document.addEventListener("keydown", onKey);
    return () => document.removeEventListener("keydown", onKey);
  }, []);
  return (
    <div role="search" className="relative w-full sm:w-64">
      <Icon name="search" className="pointer-events-none absolute left-3 top-1/2 size-4 -translate-y-1/2 text-ink-3" />
      <input
        ref={box}
        type="search"
        aria-label="Search sessions"
        aria-keyshortcuts="/"
        placeholder="Search (/)"
        className="field w-full pl-9"
        maxLength={LONGEST}
        value={words}
        onChange={(event) => onWords(event.target.value)}
        onKeyDown={(event) => {
          if (event.key !== "Escape") return;
          event.preventDefault();
          onWords("");
          event.currentTarget.blur();
        }}
      />
    </div>
  );
}

export function Found({ words }: { words: string }) {
  const asked = useDeferredValue(words.trim());
  const { data, error } = useQuery(searchQuery(asked));
  const said = data && (data.length === 0 ? "No session found." : data.length === 1 ? "1 session found." : `${data.length} sessions found.`);
  return (
    <div data-testid="found">
      <p role="status" className="sr-only">
        {error ? "" : said}
      </p>
      <ErrorBox error={error} />
      {!data && !error && <Loading what="what was found" />}
      {!error && data?.length === 0 && (
        <div className="card">
          <Empty icon="search" title="Nothing found">
            No session has all these words in its title, prompts, answers, branch or repository.
          </Empty>
        </div>
      )}
      {!error && data && data.length > 0 && (
        <ul className="card divide-y divide-line overflow-hidden">
          {data.map((hit) => (
            <FoundRow key={hit.session.id} hit={hit} />
          ))}
        </ul>
      )}
    </div>
  );
}

function FoundRow({ hit: { session, matches } }: { hit: SearchHit }) {
  return (
    <li>
      <Link to="/sessions/$id" params={{ id: session.id }} className="block px-4 py-3 hover:bg-raised">
        <span className="block truncate font-medium">{firstLine(session.title)}</span>
        <span className="mt-0.5 flex flex-wrap gap-x-2 text-[13px] text-ink-3">
          <span>{session.repository}</span>
          <span>{session.created_by_name}</span>
          <Ago atMs={session.updated_at_ms} />
          {session.is_archived && <span>archived</span>}
        </span>
        {matches
          .filter((match) => match.found_in === "prompt" || match.found_in === "answer" || match.found_in === "branch")
          .map((match) => (
            <span key={match.seq + match.found_in} className="mt-1 block wrap-anywhere text-[14px] text-ink-2">
              <span className="text-ink-3">{WHERE[match.found_in]} </span>
              {match.snippet.map((part, at) => (part.is_match ? <mark key={at} className="rounded-sm bg-warn-soft text-ink">{part.text}</mark> : part.text))}
            </span>
          ))}
      </Link>
    </li>
  );
}

const WHERE = { title: "Title:", repository: "Repository:", branch: "Branch:", prompt: "Asked:", answer: "Answered:" } as const;
