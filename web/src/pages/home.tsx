/** Ask for a change, and every session there is. */
import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { getRouteApi, Link, useNavigate } from "@tanstack/react-router";
import { type KeyboardEvent, useMemo, useRef, useState } from "react";
import { api, newKey } from "../api/client";
import { useHasNews } from "../api/reads";
import { archivedQuery, meQuery, modelsQuery, repositoriesQuery, sessionsQuery } from "../api/queries";
import type { Effort, RepositoryView, SessionView } from "../api/types";
import { firstLine } from "../lib/format";
import { Ago, Button, ChangeBadge, Empty, ErrorBox, Loading, SelectField, useTitle } from "../ui/basics";
import { Icon } from "../ui/icon";
import { useDraft, useNewDraft } from "../session/draft";
import { DraftOffer } from "../session/draft-offer";
import { AttachArea, AttachButton } from "../session/attach";
import { useAttachments } from "../session/use-attachments";
import { ImportForm } from "../session/archive";
import { effortChoices, modelChoices } from "../session/model-choice";
import { useWarm } from "../session/warm";
import { WarmHint } from "../session/warm-hint";
import { Found, SearchBox } from "../ui/search";
import { ChildMark } from "../ui/child-mark";
import { NewsDot } from "../ui/news-dot";
import { standingOf, StatusText } from "../ui/status";

export function HomePage() {
  useTitle("");
  const { data: me } = useQuery(meQuery);
  const repositories = useQuery(repositoriesQuery);
  return (
    <div className="mx-auto max-w-3xl px-4 py-6 lg:px-8 lg:py-12">
      <h1 className="mb-4 text-[26px] lg:text-[32px]">What should be changed?</h1>
      {repositories.error && <ErrorBox error={repositories.error} className="mb-4" />}
      {repositories.data?.length === 0 && <NoRepositories mayAdd={me?.person.role === "admin"} />}
      {me?.person.role === "viewer" && <p className="text-ink-2">As a viewer you can watch sessions; ask an administrator to become a member.</p>}
      {me?.person.role !== "viewer" && repositories.data && repositories.data.length > 0 && <Composer repositories={repositories.data} />}
      <Sessions repositories={me?.person.role === "viewer" ? [] : (repositories.data ?? [])} />
    </div>
  );
}

function NoRepositories({ mayAdd }: { mayAdd: boolean }) {
  return (
    <div className="card">
      <Empty icon="repository" title="No repository yet">
        <p>{mayAdd ? "Add one, and Greenroom builds an environment for it." : "An administrator adds one; then you can ask for changes in it."}</p>
        {mayAdd && (
          <Link to="/repositories" className="mt-4 inline-flex min-h-10 items-center rounded-[10px] bg-accent px-4 font-medium text-on-accent">
            Add a repository
          </Link>
        )}
      </Empty>
    </div>
  );
}

const LAST_REPOSITORY = "greenroom-last-repository";

function Composer({ repositories }: { repositories: RepositoryView[] }) {
  const search = getRouteApi("/app/").useSearch();
  const navigate = useNavigate();
  const queries = useQueryClient();
  const models = useQuery(modelsQuery);
  const names = useMemo(() => repositories.map((repository) => repository.name), [repositories]);
  const [chosen, setChosen] = useState(() => search.repository ?? localStorage.getItem(LAST_REPOSITORY) ?? "");
  const repository = names.includes(chosen) ? chosen : (names[0] ?? "");
  const warm = useWarm(repository);
  const [model, setModel] = useState("");
  const [effort, setEffort] = useState("");
  const efforts = effortChoices(models.data ?? [], model || null);
  const chooseModel = (name: string) => {
    setModel(name);
    // Another model may not know it.
    setEffort("");
  };
  const draft = useNewDraft(search.repository);
  const [prompt, setPrompt] = useDraft(draft);
  const attachments = useAttachments(null);
  // The same prompt sent again after a lost answer must not make a second session.
  const key = useRef({ body: "", key: "" });
  const create = useMutation({
    mutationFn: () => {
      const body = { repository, prompt, ...(model ? { model } : {}), ...(effort ? { effort: effort as Effort } : {}), ...(attachments.refs.length > 0 ? { attachments: attachments.refs } : {}) };
      const text = JSON.stringify(body);
      if (key.current.body !== text) key.current = { body: text, key: newKey() };
      return api.createSession(body, key.current.key);
    },
    onSuccess: async (session) => {
      localStorage.setItem(LAST_REPOSITORY, repository);
      setPrompt("");
      void queries.invalidateQueries({ queryKey: sessionsQuery.queryKey });
      await navigate({ to: "/sessions/$id", params: { id: session.id } });
    },
  });
  const canSend = prompt.trim() !== "" && repository !== "" && !create.isPending && !attachments.isBusy && !attachments.hasFailed;
  const onKeyDown = (event: KeyboardEvent) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey) && canSend) {
      event.preventDefault();
      create.mutate();
    }
  };
  const state = repositories.find((candidate) => candidate.name === repository);
  return (
    <form
      aria-label="New session"
      className="card overflow-hidden focus-within:border-accent"
      onSubmit={(event) => {
        event.preventDefault();
        if (canSend) create.mutate();
      }}
    >
      <DraftOffer box={draft} />
      <AttachArea attachments={attachments}>
      <label htmlFor="new-prompt" className="sr-only">
        Prompt
      </label>
      <textarea id="new-prompt" className="prompt-box block max-h-[50vh] min-h-28 w-full px-4 pt-3.5" placeholder="Make the failing test pass." value={prompt} onInput={warm.onType} onChange={(event) => setPrompt(event.target.value)} onKeyDown={onKeyDown} />
      </AttachArea>
      <div className="flex flex-wrap items-center gap-2 p-2.5">
        <AttachButton attachments={attachments} />
        <SelectField label="Repository" isLabelHidden value={repository} onChange={setChosen} choices={names.map((name) => ({ value: name, label: name }))} className="min-w-36 max-w-56 flex-1" />
        {models.data && models.data.length > 0 && (
          <SelectField label="Model" isLabelHidden value={model} onChange={chooseModel} choices={modelChoices(models.data, null)} className="min-w-36 max-w-56 flex-1" />
        )}
        {efforts.length > 0 && <SelectField label="Effort" isLabelHidden value={effort} onChange={setEffort} choices={efforts} className="min-w-32 max-w-44 flex-1" />}
        <span className="ml-auto flex min-w-0 max-sm:ml-1">
          <WarmHint state={warm.state} />
        </span>
        <span className="hidden text-[13px] text-ink-3 sm:inline">
          <kbd className="font-sans">Ctrl</kbd> + <kbd className="font-sans">Enter</kbd>
        </span>
        <Button type="submit" look="primary" icon="send" disabled={!canSend} isBusy={create.isPending} className="min-h-11 max-sm:ml-auto">
          Send
        </Button>
      </div>
      {state && !state.image && <ImageNote repository={state} />}
      {create.error && <ErrorBox error={create.error} className="m-2.5 mt-0" />}
    </form>
  );
}

function ImageNote({ repository }: { repository: RepositoryView }) {
  const isFailed = repository.build?.state === "failed";
  return (
    <p className="flex items-center gap-1.5 border-t border-line bg-raised px-4 py-2 text-[13px] text-ink-2">
      <Icon name={isFailed ? "warn" : "clock"} className="size-4" />
      <span>
        {isFailed ? "Its environment could not be built. " : "Its environment is being built; the agent answers at once and edits when it is ready. "}
        <Link to="/repositories/$name" params={{ name: repository.name }} className="text-accent underline">
          See the build
        </Link>
      </span>
    </p>
  );
}

function Sessions({ repositories }: { repositories: readonly RepositoryView[] }) {
  const [isArchived, setArchived] = useState(false);
  const [isImporting, setImporting] = useState(false);
  const [words, setWords] = useState("");
  const listed = useQuery(sessionsQuery);
  const archived = useQuery({ ...archivedQuery, enabled: isArchived });
  const { data: sessions, error } = isArchived ? archived : listed;
  const isSearching = words.trim() !== "";
  return (
    <section aria-labelledby="sessions-title" className="mt-9">
      <div className="mb-2 flex flex-wrap items-center gap-x-3 gap-y-2">
        <h2 id="sessions-title" className="flex-1 text-xl">
          {isArchived ? "Archived sessions" : "Sessions"}
        </h2>
        <Button look="ghost" icon="archive" aria-pressed={isArchived} onClick={() => setArchived(!isArchived)}>
          {isArchived ? "Show the others" : "Archived"}
        </Button>
        {repositories.length > 0 && (
          <Button look="ghost" icon="insert" aria-expanded={isImporting} onClick={() => setImporting(!isImporting)}>
            Import
          </Button>
        )}
        <SearchBox words={words} onWords={setWords} />
      </div>
      {isImporting && <ImportForm repositories={repositories} />}
      {isSearching ? <Found words={words} /> : <>
      {error && <ErrorBox error={error} />}
      {!sessions && !error && <Loading what="sessions" />}
      {sessions?.length === 0 && isArchived && (
        <div className="card">
          <Empty icon="archive" title="No archived session">
            A session is archived in its details: it leaves the list and stays readable.
          </Empty>
        </div>
      )}
      {sessions?.length === 0 && !isArchived && (
        <div className="card">
          <Empty icon="chat" title="No session yet">
            Write what should be changed above. The agent works in its own sandbox; you can watch, steer and stop it.
          </Empty>
        </div>
      )}
      {sessions && sessions.length > 0 && (
        <ul className="card divide-y divide-line overflow-hidden" data-testid="sessions">
          {sessions.map((session) => (
            <SessionRow key={session.id} session={session} />
          ))}
        </ul>
      )}
      </>}
    </section>
  );
}

function SessionRow({ session }: { session: SessionView }) {
  return (
    <li>
      <Link to="/sessions/$id" params={{ id: session.id }} className="flex items-start gap-3 px-4 py-3 hover:bg-raised">
        <span className="min-w-0 flex-1">
          <span className="flex items-center gap-2 font-medium">
            {useHasNews(session) && <NewsDot />}
            {session.parent && <ChildMark />}
            <span className="truncate">{firstLine(session.title)}</span>
          </span>
          <span className="mt-0.5 flex flex-wrap items-center gap-x-2 text-[13px] text-ink-3">
            <StatusText status={standingOf(session)} />
            <span>{session.repository}</span>
            <span>{session.created_by_name}</span>
            <Ago atMs={session.updated_at_ms} />
            {session.queued_prompts > 0 && <span>{session.queued_prompts} waiting</span>}
          </span>
        </span>
        {session.change && <ChangeBadge state={session.change.state} number={session.change.number} />}
      </Link>
    </li>
  );
}
