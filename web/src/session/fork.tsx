/** Going on from an earlier turn in a new session, and where a forked session comes from. */
import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { getRouteApi, Link, useNavigate } from "@tanstack/react-router";
import { useRef } from "react";
import { api, newKey } from "../api/client";
import { sessionQuery, sessionsQuery } from "../api/queries";
import type { ForkPoint } from "../api/types";
import { ErrorBox } from "../ui/basics";
import { Icon } from "../ui/icon";
import { useRights } from "./rights";

const route = getRouteApi("/app/sessions/$id");

/** `refusal`: why there is nothing to fork from. */
export function ForkButton({ turn, refusal }: { turn: string; refusal: string | null }) {
  const { id } = route.useParams();
  const { mayPrompt } = useRights(id);
  const navigate = useNavigate();
  const queries = useQueryClient();
  // The same key until it has succeeded: a repeated click after a lost answer makes no second session.
  const key = useRef<string>(undefined);
  const fork = useMutation({
    mutationFn: () => api.forkSession(id, { turn }, (key.current ??= newKey())),
    onSuccess: async (session) => {
      key.current = undefined;
      void queries.invalidateQueries({ queryKey: sessionsQuery.queryKey, exact: true });
      await navigate({ to: "/sessions/$id", params: { id: session.id } });
    },
  });
  if (!mayPrompt) return null;
  const isOff = refusal !== null;
  return (
    <>
      <button
        type="button"
        aria-disabled={isOff || fork.isPending}
        aria-busy={fork.isPending || undefined}
        title={refusal ?? "Go on from here in a new session, with these files and this conversation"}
        onClick={() => !isOff && !fork.isPending && fork.mutate()}
        className="ml-auto inline-flex min-h-10 items-center gap-1.5 rounded-lg px-2 text-ink-2 hover:bg-sunken hover:text-ink aria-disabled:cursor-default aria-disabled:text-ink-3 aria-disabled:hover:bg-transparent"
      >
        <Icon name={fork.isPending ? "arc" : "branch"} className={`size-4 ${fork.isPending ? "spin" : ""}`} /> Fork from here
        {refusal && <span className="sr-only">, not possible: {refusal}</span>}
      </button>
      <ErrorBox error={fork.error} onDismiss={() => fork.reset()} className="w-full" />
    </>
  );
}

export function ForkedFrom({ from }: { from: ForkPoint }) {
  const { data: origin, error } = useQuery({ ...sessionQuery(from.session), retry: false });
  return (
    <p data-testid="forked-from" className="mb-6 flex items-center gap-2 rounded-xl border border-line bg-raised px-3.5 py-2.5 text-[14px] text-ink-2">
      <Icon name="branch" className="size-[18px] text-ink-3" />
      <span className="min-w-0 break-words">
        Forked from{" "}
        {error ? (
          "a session that is gone"
        ) : (
          <Link to="/sessions/$id" params={{ id: from.session }} className="text-accent underline">
            {origin?.title || "another session"}
          </Link>
        )}
        {from.snapshot ? ", with its conversation and its files as they were then." : ", with its conversation; it had changed no file by then."}
      </span>
    </p>
  );
}
