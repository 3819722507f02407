/** One repository: its images, their steps and logs. */
import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { getRouteApi, Link, useNavigate } from "@tanstack/react-router";
import { useState } from "react";
import { api } from "../api/client";
import { imagesQuery, machineResourcesQuery, meQuery, repositoriesQuery, repositoryQuery } from "../api/queries";
import type { RepositoryView } from "../api/types";
import { poolCost, poolText } from "../lib/format";
import { Button, CopyButton, ErrorBox, Loading, useTitle } from "../ui/basics";
import { Icon } from "../ui/icon";
import { Images } from "./repository-images";
import { Mirror } from "./repository-mirror";
import { Network } from "./repository-network";

const route = getRouteApi("/app/repositories/$name");

export function RepositoryPage() {
  const { name } = route.useParams();
  useTitle(name);
  const repository = useQuery(repositoryQuery(name));
  const { image } = route.useSearch();
  const images = useQuery(imagesQuery(name));
  return (
    <div className="mx-auto max-w-4xl px-4 py-5 lg:px-8 lg:py-8">
      <Link to="/repositories" className="mb-3 inline-flex min-h-10 items-center text-sm text-ink-2 hover:underline">
        All repositories
      </Link>
      <ErrorBox error={repository.error ?? images.error} className="mb-4" />
      {!repository.data && !repository.error && <Loading what="the repository" />}
      {repository.data && <Top repository={repository.data} />}
      {images.data && <Images name={name} images={images.data} chosen={image} />}
      {repository.data && <Mirror repository={repository.data} />}
      {repository.data && <Network name={name} />}
      {repository.data && <Removal name={name} />}
    </div>
  );
}

function Top({ repository }: { repository: RepositoryView }) {
  const { data: me } = useQuery(meQuery);
  const navigate = useNavigate();
  const queries = useQueryClient();
  const build = useMutation({
    mutationFn: () => api.buildImage(repository.name),
    onSuccess: async (image) => {
      await queries.invalidateQueries({ queryKey: repositoriesQuery.queryKey });
      await navigate({ to: "/repositories/$name", params: { name: repository.name }, search: { image: image.id } });
    },
  });
  const clone = `${location.origin}${repository.clone_path}`;
  const isBuilding = repository.build?.state === "building";
  return (
    <div>
      <div className="flex flex-wrap items-start gap-3">
        <h1 className="min-w-0 flex-1 basis-full wrap-anywhere text-[26px] sm:basis-0">{repository.name}</h1>
        <Link to="/" search={{ repository: repository.name }} className="inline-flex min-h-10 items-center gap-2 rounded-[10px] bg-accent px-3.5 font-medium text-on-accent hover:bg-accent-strong">
          <Icon name="plus" className="size-[18px]" /> New session
        </Link>
        {me?.person.role !== "viewer" && (
          <Button icon="refresh" onClick={() => build.mutate()} isBusy={build.isPending} disabled={isBuilding}>
            {isBuilding ? "Building" : "Rebuild image"}
          </Button>
        )}
      </div>
      <ErrorBox error={build.error} className="mt-3" />
      <dl className="mt-3 grid grid-cols-[8rem_1fr] gap-x-3 gap-y-1.5 text-[14.5px]">
        <dt className="text-ink-3">Mirrored from</dt>
        <dd className="wrap-anywhere">{repository.source}</dd>
        <dt className="text-ink-3">Default branch</dt>
        <dd className="wrap-anywhere">
          {repository.default_branch}
          {repository.head && <code className="ml-2 font-mono text-[13px] text-ink-3">{repository.head.slice(0, 10)}</code>}
        </dd>
        <dt className="text-ink-3">Approvals</dt>
        <dd>{repository.required_approvals === 0 ? "None required" : `${repository.required_approvals} required to merge`}</dd>
        <Pool name={repository.name} />
        <dt className="pt-2 text-ink-3">Clone</dt>
        <dd className="flex flex-wrap items-center gap-2">
          <code className="wrap-anywhere font-mono text-[13px]">{clone}</code>
          <CopyButton text={clone} look="ghost" />
        </dd>
      </dl>
    </div>
  );
}

/** Nothing is said where the machine's resources may not be seen, or the pool is not there yet. */
function Pool({ name }: { name: string }) {
  const { data } = useQuery({ ...machineResourcesQuery, refetchInterval: 20_000, retry: false });
  const pool = data?.pools.find((candidate) => candidate.repository === name);
  return (
    <>
      <dt className="text-ink-3">Warm sandboxes</dt>
      <dd data-testid="pool">
        {pool ? poolText(pool) : "None yet"}
        {pool && poolCost(pool) && <span className="block text-[13px] text-ink-3">{poolCost(pool)}</span>}
      </dd>
    </>
  );
}

function Removal({ name }: { name: string }) {
  const { data: me } = useQuery(meQuery);
  const navigate = useNavigate();
  const queries = useQueryClient();
  const [isAsking, setAsking] = useState(false);
  const remove = useMutation({
    mutationFn: () => api.removeRepository(name),
    onSuccess: async () => {
      await navigate({ to: "/repositories" });
      queries.removeQueries({ queryKey: ["repositories", name] });
      void queries.invalidateQueries({ queryKey: repositoriesQuery.queryKey });
    },
  });
  if (me?.person.role !== "admin") return null;
  return (
    <section aria-label="Remove" className="mt-10 border-t border-line pt-5">
      <ErrorBox error={remove.error} className="mb-3" />
      {isAsking ? (
        <div className="flex flex-wrap items-center gap-2">
          <p className="w-full text-ink-2">The mirror, its images and its changes go from this server. Where it was mirrored from is not touched.</p>
          <Button look="danger" icon="trash" isBusy={remove.isPending} onClick={() => remove.mutate()}>
            Remove {name}
          </Button>
          <Button onClick={() => setAsking(false)}>Keep it</Button>
        </div>
      ) : (
        <Button icon="trash" onClick={() => setAsking(true)}>
          Remove repository
        </Button>
      )}
    </section>
  );
}
