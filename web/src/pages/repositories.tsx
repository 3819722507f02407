/** Repositories with the state of their environment images, and the form that adds one. */
import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { Link, useNavigate } from "@tanstack/react-router";
import { useState } from "react";
import { api } from "../api/client";
import { meQuery, repositoriesQuery } from "../api/queries";
import type { RepositoryView } from "../api/types";
import { Ago, Button, Empty, ErrorBox, Field, Loading, useTitle } from "../ui/basics";
import { ImageBadge } from "../ui/image-badge";

export function RepositoriesPage() {
  useTitle("Repositories");
  const { data: me } = useQuery(meQuery);
  const { data, error } = useQuery(repositoriesQuery);
  const [isAdding, setAdding] = useState(false);
  const mayAdd = me?.person.role === "admin";
  return (
    <div className="mx-auto max-w-4xl px-4 py-6 lg:px-8 lg:py-10">
      <div className="mb-4 flex items-center justify-between gap-3">
        <h1 className="text-[28px]">Repositories</h1>
        {mayAdd && !isAdding && (
          <Button look="primary" icon="plus" onClick={() => setAdding(true)}>
            Add
          </Button>
        )}
      </div>
      {isAdding && <AddForm onClose={() => setAdding(false)} />}
      <ErrorBox error={error} className="mb-4" />
      {!data && !error && <Loading what="repositories" />}
      {data?.length === 0 && !isAdding && (
        <div className="card">
          <Empty icon="repository" title="No repository yet">
            {mayAdd ? "Add one by its path on the server or its URL. Its branches and tags are mirrored, then its environment is built." : "An administrator can add one."}
          </Empty>
        </div>
      )}
      {data && data.length > 0 && (
        <ul className="card divide-y divide-line overflow-hidden" data-testid="repositories">
          {data.map((repository) => (
            <Row key={repository.id} repository={repository} />
          ))}
        </ul>
      )}
    </div>
  );
}

function Row({ repository }: { repository: RepositoryView }) {
  return (
    <li>
      <Link to="/repositories/$name" params={{ name: repository.name }} className="flex items-start gap-3 px-4 py-3 hover:bg-raised">
        <span className="min-w-0 flex-1">
          <span className="block font-medium">{repository.name}</span>
          <span className="block wrap-anywhere text-[13px] text-ink-3">{repository.source}</span>
        </span>
        <span className="flex flex-col items-end gap-1">
          <ImageBadge image={repository.build ?? repository.image} />
          {repository.image?.finished_at_ms && (
            <span className="text-[12.5px] text-ink-3">
              {repository.build && "good image "}
              <Ago atMs={repository.image.finished_at_ms} />
            </span>
          )}
        </span>
      </Link>
    </li>
  );
}

function AddForm({ onClose }: { onClose: () => void }) {
  const queries = useQueryClient();
  const navigate = useNavigate();
  const [name, setName] = useState("");
  const [source, setSource] = useState("");
  const [approvals, setApprovals] = useState("");
  const add = useMutation({
    mutationFn: () => api.addRepository({ name: name.trim(), source: source.trim(), ...(approvals === "" ? {} : { required_approvals: Number(approvals) }) }),
    onSuccess: async (repository) => {
      void queries.invalidateQueries({ queryKey: repositoriesQuery.queryKey });
      await navigate({ to: "/repositories/$name", params: { name: repository.name } });
    },
  });
  return (
    <form
      aria-label="Add a repository"
      className="card mb-5 space-y-4 p-4"
      onSubmit={(event) => {
        event.preventDefault();
        add.mutate();
      }}
    >
      <div className="grid gap-4 sm:grid-cols-2">
        <Field label="Name" required autoFocus autoCapitalize="none" spellCheck={false} maxLength={64} value={name} onChange={(event) => setName(event.target.value)} hint="a-z, 0-9, '.', '_' and '-'." />
        <Field label="Approvals needed to merge" type="number" min={0} max={20} inputMode="numeric" placeholder="1" value={approvals} onChange={(event) => setApprovals(event.target.value)} />
      </div>
      <Field label="Path or URL" required autoCapitalize="none" spellCheck={false} value={source} onChange={(event) => setSource(event.target.value)} hint="A path on the server, or a git URL. Branches and tags are mirrored." />
      <ErrorBox error={add.error} />
      <div className="flex gap-2">
        <Button type="submit" look="primary" isBusy={add.isPending}>
          Add repository
        </Button>
        <Button onClick={onClose}>Cancel</Button>
      </div>
    </form>
  );
}
