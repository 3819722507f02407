/** How a repository follows the place it was mirrored from, and the push hook of that place. */
import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { api } from "../api/client";
import { meQuery, repositoriesQuery } from "../api/queries";
import type { HookCreated, RepositoryView } from "../api/types";
import { Ago, Button, CopyButton, ErrorBox, ProblemBox } from "../ui/basics";

export function Mirror({ repository }: { repository: RepositoryView }) {
  const { mirror, name } = repository;
  const { data: me } = useQuery(meQuery);
  const queries = useQueryClient();
  const again = () => queries.invalidateQueries({ queryKey: repositoriesQuery.queryKey });
  const create = useMutation({ mutationFn: () => api.createHook(name), onSuccess: again });
  const remove = useMutation({
    mutationFn: () => api.removeHook(name),
    onSuccess: async () => {
      create.reset();
      await again();
    },
  });
  const hasHook = mirror.hook_made_at_ms !== null && mirror.hook_made_at_ms !== undefined;
  return (
    <section aria-label="Source" className="mt-7" data-testid="mirror">
      <h2 className="mb-2 text-xl">Source</h2>
      <p className="text-ink-2">
        {mirror.refreshed_at_ms ? (
          <>
            Its commits were last fetched <Ago atMs={mirror.refreshed_at_ms} />.
          </>
        ) : (
          "Its commits have not been fetched since it was added."
        )}{" "}
        {hasHook ? "Its forge says when something is pushed." : "Nobody says when something is pushed there: the schedule looks."}
      </p>
      {mirror.problem && <ProblemBox problem={mirror.problem} className="mt-3" />}
      {me?.person.role === "admin" && (
        <div className="mt-3 flex flex-wrap gap-2">
          <Button icon="refresh" onClick={() => create.mutate()} isBusy={create.isPending}>
            {hasHook ? "Make another hook secret" : "Make a push hook"}
          </Button>
          {hasHook && (
            <Button icon="trash" onClick={() => remove.mutate()} isBusy={remove.isPending}>
              Remove the hook
            </Button>
          )}
        </div>
      )}
      <ErrorBox error={create.error ?? remove.error} className="mt-3" />
      {create.data && <Made hook={create.data} />}
    </section>
  );
}

function Made({ hook }: { hook: HookCreated }) {
  return (
    <dl aria-label="The push hook" className="card mt-3 grid grid-cols-[5rem_1fr_auto] items-center gap-x-3 gap-y-2 px-4 py-3 text-[14.5px]">
      <dt className="text-ink-3">Address</dt>
      <dd className="wrap-anywhere font-mono text-[13px]">{hook.url}</dd>
      <CopyButton text={hook.url} look="ghost" />
      <dt className="text-ink-3">Secret</dt>
      <dd className="wrap-anywhere font-mono text-[13px]">{hook.secret}</dd>
      <CopyButton text={hook.secret} look="ghost" />
      <dd className="col-span-3 text-[13.5px] text-ink-2">The secret is shown this once. At the forge: content type application/json, the push event.</dd>
    </dl>
  );
}
