/**
 * The list of sessions kept as it is on the server: a snapshot first, then each change. While the page is out of sight
 * nothing is kept open, since a browser has few connections for all its tabs; back in sight it begins with a new snapshot.
 */
import { type QueryClient, useQueryClient } from "@tanstack/react-query";
import { useEffect } from "react";
import { readNewDrafts, tellNewDraft } from "../session/draft";
import { archivedQuery, sessionsQuery } from "./queries";
import { readOn, readsOf, readsQuery } from "./reads";
import type { SessionView, SessionsFrame } from "./types";

/** As long as a list of the server's. */
const LONGEST = 200;
const FIRST_PAUSE_MS = 1000;
const LONGEST_PAUSE_MS = 30_000;

/** Newest first, as the server gives it. */
export function applyLine(list: readonly SessionView[] | undefined, frame: SessionsFrame): SessionView[] | undefined {
  if (frame.type === "snapshot") return frame.sessions;
  // The connection's end says the same.
  if (frame.type === "error") return list as SessionView[] | undefined;
  // Without a list there is nothing to change: the snapshot comes first.
  if (list === undefined) return undefined;
  if (frame.type === "read" || frame.type === "draft") return [...list];
  if (frame.type === "removed") return list.filter((session) => session.id !== frame.session);
  const { session } = frame;
  if (session.is_archived) return list.filter((known) => known.id !== session.id || known.head_seq > session.head_seq);
  const at = list.findIndex((known) => known.id === session.id);
  if (at >= 0) return (list[at]?.head_seq ?? 0) > session.head_seq ? [...list] : list.with(at, session);
  const before = list.findIndex((known) => isNewer(session, known));
  return list.toSpliced(before < 0 ? list.length : before, 0, session).slice(0, LONGEST);
}

/** Whether the list of archived sessions is not what it was; it is asked for again where somebody looks at it. */
export function concernsArchived(archived: readonly SessionView[] | undefined, frame: SessionsFrame): boolean {
  if (frame.type === "snapshot") return true;
  const isListed = (id: string) => archived?.some((known) => known.id === id) ?? false;
  if (frame.type === "removed") return isListed(frame.session);
  return frame.type === "changed" && (frame.session.is_archived || isListed(frame.session.id));
}

const isNewer = (a: SessionView, b: SessionView): boolean => (a.created_at_ms === b.created_at_ms ? a.id > b.id : a.created_at_ms > b.created_at_ms);

export function useSessionsStream(): void {
  const queries = useQueryClient();
  useEffect(() => follow(queries), [queries]);
}

/** Until the answer is called. */
function follow(queries: QueryClient): () => void {
  let source: EventSource | undefined;
  let timer: ReturnType<typeof setTimeout> | undefined;
  let pauseMs = FIRST_PAUSE_MS;
  const close = () => {
    clearTimeout(timer);
    source?.close();
    source = undefined;
  };
  const open = () => {
    close();
    const opened = new EventSource("/api/v1/sessions/stream");
    source = opened;
    const onFrame = (message: MessageEvent<string>) => {
      pauseMs = FIRST_PAUSE_MS;
      const frame = JSON.parse(message.data) as SessionsFrame;
      if (frame.type === "draft") return tellNewDraft(frame);
      if (frame.type === "read") return void queries.setQueryData(readsQuery.queryKey, (reads) => readOn(reads, frame));
      if (frame.type === "snapshot") {
        queries.setQueryData(readsQuery.queryKey, readsOf(frame.reads ?? []));
        readNewDrafts();
      }
      if (concernsArchived(queries.getQueryData(archivedQuery.queryKey), frame)) void queries.invalidateQueries({ queryKey: archivedQuery.queryKey });
      // A list that was asked for meanwhile would be older.
      void queries.cancelQueries({ queryKey: sessionsQuery.queryKey, exact: true });
      queries.setQueryData(sessionsQuery.queryKey, (list) => applyLine(list, frame));
    };
    for (const name of ["snapshot", "changed", "removed", "read", "draft"]) opened.addEventListener(name, onFrame as EventListener);
    // A browser connects again by itself only after some failures: here after all, with growing pauses.
    opened.onerror = () => {
      close();
      timer = setTimeout(() => {
        open();
        // The sign-in may be over, which this tells: not at once, since who signs out here is about to leave the page.
        void queries.invalidateQueries({ queryKey: sessionsQuery.queryKey, exact: true });
      }, pauseMs);
      pauseMs = Math.min(pauseMs * 2, LONGEST_PAUSE_MS);
    };
  };
  const onSight = () => (document.visibilityState === "visible" ? open() : close());
  onSight();
  document.addEventListener("visibilitychange", onSight);
  return () => {
    document.removeEventListener("visibilitychange", onSight);
    close();
  };
}
