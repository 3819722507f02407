/** Sessions that agents began: the one above this one, all beneath it, and what becomes of them when it is put away. */
import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { Link } from "@tanstack/react-router";
import { type ReactNode, useEffect } from "react";
import { api, ApiError, newKey } from "../api/client";
import { sessionQuery, sessionTreeQuery } from "../api/queries";
import type { SessionTree, SessionView } from "../api/types";
import { Button, ErrorBox } from "../ui/basics";
import { Icon } from "../ui/icon";
import { standingOf, StatusText } from "../ui/status";
import { Section } from "./details";
import { useRights } from "./rights";
import type { SessionState } from "./state";

/** In a session's header. The parent may be gone, or not this person's to see: then only that there was one. */
export function ParentLink({ id }: { id: string }) {
  const { data } = useQuery({ ...sessionQuery(id), retry: false });
  return (
    <Link to="/sessions/$id" params={{ id }} className="inline-flex min-h-6 min-w-0 items-center gap-1 hover:underline" data-testid="parent-link">
      <Icon name="branch" className="size-3.5 shrink-0" />
      <span className="truncate">from {data ? `“${data.title}”` : "another session"}</span>
    </Link>
  );
}

export function Family({ id, state }: { id: string; state: SessionState }) {
  const queries = useQueryClient();
  const { data: tree, error } = useQuery(sessionTreeQuery(id));
  const isRunning = state.running !== null;
  useEffect(() => {
    void queries.invalidateQueries({ queryKey: sessionTreeQuery(id).queryKey });
  }, [queries, id, state.familySeq, isRunning]);
  if (error) return <ErrorBox error={error} />;
  if (!tree || tree.sessions.length < 2) return null;
  return (
    <Section title="Sessions of this work">
      <Level tree={tree} of={tops(tree)} here={id} />
      <StopChildren id={id} tree={tree} />
    </Section>
  );
}

/** Those whose parent is not here: the root, and what hangs below something that is not this person's to see. */
function tops(tree: SessionTree): SessionView[] {
  const known = new Set(tree.sessions.map((session) => session.id));
  return tree.sessions.filter((session) => !session.parent || !known.has(session.parent));
}

const childrenOf = (tree: SessionTree, id: string) => tree.sessions.filter((session) => session.parent === id);

function Level({ tree, of, here }: { tree: SessionTree; of: SessionView[]; here: string }): ReactNode {
  if (of.length === 0) return null;
  return (
    <ul className="space-y-1" data-testid="family-level">
      {of.map((session) => (
        <li key={session.id}>
          <Link
            to="/sessions/$id"
            params={{ id: session.id }}
            aria-current={session.id === here ? "page" : undefined}
            className={`block rounded-[10px] px-2.5 py-1.5 hover:bg-raised ${session.id === here ? "bg-sunken" : ""}`}
          >
            <span className="block truncate">{session.title}</span>
            <span className="flex flex-wrap items-center gap-x-2 text-[13px] text-ink-3">
              <StatusText status={standingOf(session)} />
              <span>{session.repository}</span>
              {session.change && <span>#{session.change.number}{session.change.state === "merged" ? " merged" : ""}</span>}
            </span>
          </Link>
          <div className="ml-4 border-l border-line pl-2">
            <Level tree={tree} of={childrenOf(tree, session.id)} here={here} />
          </div>
        </li>
      ))}
    </ul>
  );
}

/** The children of a session that are at work. */
function useWorking(id: string): SessionView[] {
  const { data: tree } = useQuery(sessionTreeQuery(id));
  return tree ? childrenOf(tree, id).filter((session) => session.status === "running") : [];
}

function useFate(id: string) {
  const queries = useQueryClient();
  return useMutation({
    mutationFn: async (type: "stop_children" | "release_children") => {
      const receipt = await api.submit(id, newKey(), { type });
      if (receipt.problem) throw new ApiError(409, receipt.problem);
    },
    onSettled: () => queries.invalidateQueries({ queryKey: sessionTreeQuery(id).queryKey }),
  });
}

function StopChildren({ id, tree }: { id: string; tree: SessionTree }) {
  const { mayPrompt } = useRights(id);
  const fate = useFate(id);
  const isAny = childrenOf(tree, id).some((session) => session.status === "running");
  if (!mayPrompt || !isAny) return null;
  return (
    <div className="mt-2">
      <ErrorBox error={fate.error} className="mb-2" />
      <Button icon="stop" isBusy={fate.isPending} onClick={() => fate.mutate("stop_children")}>
        Stop the sessions begun here
      </Button>
    </div>
  );
}

/** Asked before a session is put away. */
export function ChildrenFirst({ id }: { id: string }) {
  const working = useWorking(id);
  const fate = useFate(id);
  if (working.length === 0) return null;
  const isReleased = fate.isSuccess && fate.variables === "release_children";
  return (
    <div className="mb-2 w-full rounded-xl border border-warn/30 bg-warn-soft px-3.5 py-2.5" role="group" aria-label="Sessions begun here">
      <p className="mb-2">
        {working.length === 1 ? "A session that was begun here is at work." : `${working.length} sessions that were begun here are at work.`}{" "}
        {isReleased ? "They go on alone." : "Say what becomes of them first."}
      </p>
      <ErrorBox error={fate.error} className="mb-2" />
      {!isReleased && (
        <div className="flex flex-wrap gap-2">
          <Button icon="stop" isBusy={fate.isPending && fate.variables === "stop_children"} onClick={() => fate.mutate("stop_children")}>
            Stop them
          </Button>
          <Button isBusy={fate.isPending && fate.variables === "release_children"} onClick={() => fate.mutate("release_children")}>
            Let them go on alone
          </Button>
        </div>
      )}
    </div>
  );
}
