/** One session, live: conversation, diff, change and details. */
import { useQuery, useQueryClient } from "@tanstack/react-query";
import { getRouteApi, Link, useNavigate } from "@tanstack/react-router";
import * as Tabs from "@radix-ui/react-tabs";
import { lazy, Suspense, useEffect } from "react";
import type { FileDiffView, Presence } from "../api/types";
import { changeQuery, sessionDiffQuery } from "../api/queries";
import { FileDiffs } from "../diff/diff";
import type { SessionTab } from "../router";
import type { ConnectionState } from "../session/connection";
import { AnsweringProvider } from "../session/ask";
import { Origins } from "../session/blame";
import { Composer } from "../session/composer";
import { Conversation } from "../session/conversation";
import { DeadLetters } from "../session/dead-letters";
import { Details } from "../session/details";
import { ParentLink } from "../session/family";
import { Faces, LiveLine } from "../session/live";
import type { SessionState } from "../session/state";
import { useFreshRights } from "../session/rights";
import { useSession } from "../session/use-session";
import { Button, ErrorBox, Loading, ProblemBox, Empty, useMedia, useSeconds, useTitle } from "../ui/basics";
import { Icon, type IconName } from "../ui/icon";

const ChangeDetail = lazy(() => import("../ui/change-detail"));
const route = getRouteApi("/app/sessions/$id");

const TABS: { value: SessionTab; label: string; icon: IconName }[] = [
  { value: "conversation", label: "Conversation", icon: "chat" },
  { value: "diff", label: "Diff", icon: "file" },
  { value: "change", label: "Change", icon: "merge" },
  { value: "details", label: "Details", icon: "panel" },
];

export function SessionPage() {
  const { id } = route.useParams();
  // A page per session: nothing of one session's view stays for the next.
  return <Session key={id} id={id} />;
}

function Session({ id }: { id: string }) {
  const { tab = "conversation" } = route.useSearch();
  const navigate = useNavigate();
  const isWide = useMedia("(min-width: 1280px)");
  const { store, state, connection, outgoing, presence, readers, isLoadingEarlier } = useSession(id);
  useTitle(state.title);
  useRefreshOnTurnEnd(id, state);
  useFreshRights(id, state.peopleSeq, state.isCaughtUp);
  const setTab = (value: string) => void navigate({ to: "/sessions/$id", params: { id }, search: value === "conversation" ? {} : { tab: value as SessionTab }, replace: true });
  if (connection.kind === "refused" && state.headSeq === 0) {
    return (
      <div className="mx-auto max-w-xl space-y-4 px-4 py-12">
        <ProblemBox problem={connection.problem} />
        <Link to="/" className="text-accent underline">
          Go to the sessions
        </Link>
      </div>
    );
  }
  return (
    <Tabs.Root value={tab} onValueChange={setTab} className="flex h-full flex-col">
      <Header state={state} connection={connection} presence={presence} />
      {connection.kind === "refused" && <ProblemBox problem={connection.problem} className="mx-3 mt-3" />}
      <DeadLetters store={store} state={state} />
      <div className="flex min-h-0 flex-1">
        <Tabs.Content value="conversation" forceMount={isWide || undefined} tabIndex={-1} className="flex min-w-0 flex-1 flex-col outline-none data-[state=inactive]:hidden xl:data-[state=inactive]:flex">
          <AnsweringProvider store={store}>
            <Conversation
              state={state}
              outgoing={outgoing}
              onSeen={store.seen}
              isLoadingEarlier={isLoadingEarlier}
              loadEarlier={() => store.loadEarlier()}
            />
          </AnsweringProvider>
          <LiveLine state={state} presence={presence} readers={readers} />
          <Composer store={store} state={state} />
        </Tabs.Content>
        {TABS.slice(1).map(({ value }) => (
          <Tabs.Content key={value} value={value} className={`min-w-0 overflow-y-auto bg-bg px-4 py-4 data-[state=inactive]:hidden ${isWide ? "w-[46%] max-w-[820px] border-l border-line" : "flex-1"}`}>
            <Panel tab={value} id={id} state={state} />
          </Tabs.Content>
        ))}
      </div>
    </Tabs.Root>
  );
}

/** The changes and diffs beside the stream look again when a turn ends or the change moves. */
function useRefreshOnTurnEnd(id: string, state: SessionState): void {
  const queries = useQueryClient();
  const { running, change, isCaughtUp } = state;
  const isRunning = running !== null;
  useEffect(() => {
    void queries.invalidateQueries({ queryKey: ["sessions", id, "diff"] });
    void queries.invalidateQueries({ queryKey: ["changes"] });
  }, [queries, id, isCaughtUp, isRunning, change?.id, change?.state]);
}

function Panel({ tab, id, state }: { tab: SessionTab; id: string; state: SessionState }) {
  if (tab === "diff") return <DiffPanel id={id} isRunning={state.running !== null} />;
  if (tab === "change") return <ChangePanel state={state} />;
  return <Details id={id} state={state} />;
}

function DiffPanel({ id, isRunning }: { id: string; isRunning: boolean }) {
  const { data, error, refetch, isFetching } = useQuery(sessionDiffQuery(id, isRunning));
  return (
    <div>
      <div className="mb-2 flex items-center gap-2">
        <h2 className="flex-1 text-lg">Working tree against the base</h2>
        <Button icon="refresh" look="ghost" isBusy={isFetching && !data} onClick={() => void refetch()}>
          Refresh
        </Button>
      </div>
      <ErrorBox error={error} className="mb-3" />
      {!data && !error && <Loading what="the diff" />}
      {data && <FileDiffs files={data} emptyText="Nothing has been changed yet." below={(file) => !file.is_binary && file.deletions + file.additions > 0 && hasText(file) && <Origins id={id} path={file.path} />} />}
    </div>
  );
}

/** A file that was deleted has no lines to ask about. */
const hasText = (file: FileDiffView) => !/^\+\+\+ \/dev\/null$/m.test(file.patch);

function ChangePanel({ state }: { state: SessionState }) {
  const id = state.change?.id;
  const { data, error } = useQuery({ ...changeQuery(id ?? ""), enabled: id !== undefined });
  if (!id) {
    return (
      <Empty icon="merge" title="No change yet">
        The agent opens one when its work is ready. You can also ask: “open a change”.
      </Empty>
    );
  }
  return (
    <>
      <ErrorBox error={error} className="mb-3" />
      {!data && !error && <Loading what="the change" />}
      {data && (
        <Suspense fallback={<Loading what="the change" />}>
          <ChangeDetail change={data} isInSession />
        </Suspense>
      )}
    </>
  );
}

function Header({ state, connection, presence }: { state: SessionState; connection: ConnectionState; presence: Presence }) {
  return (
    <header className="border-b border-line bg-surface pt-[env(safe-area-inset-top)]">
      <div className="flex items-center gap-2 px-2 pt-1.5 lg:px-5 lg:pt-3">
        <Link to="/" aria-label="Back to sessions" className="inline-flex size-10 items-center justify-center rounded-[10px] hover:bg-sunken lg:hidden">
          <Icon name="back" />
        </Link>
        <div className="min-w-0 flex-1">
          <h1 className="truncate text-[17px] leading-tight lg:text-xl">{state.title || "Session"}</h1>
          <p className="flex items-center gap-x-2 overflow-hidden whitespace-nowrap text-[13px] text-ink-3">
            {state.repository && (
              <Link to="/repositories/$name" params={{ name: state.repository }} className="inline-flex min-h-6 items-center hover:underline">
                {state.repository}
              </Link>
            )}
            {state.parent && <ParentLink id={state.parent} />}
            {state.branch && <span className="hidden truncate font-mono text-xs sm:inline">{state.branch}</span>}
          </p>
        </div>
        <Faces presence={presence} />
        <ConnectionChip connection={connection} isCaughtUp={state.isCaughtUp} />
      </div>
      <Tabs.List aria-label="Views of this session" className="flex overflow-x-auto px-1 lg:px-3">
        {TABS.map((tab) => (
          <Tabs.Trigger key={tab.value} value={tab.value} className="flex min-h-11 items-center gap-1.5 border-b-2 border-transparent px-2.5 text-[14.5px] text-ink-2 data-[state=active]:border-accent data-[state=active]:font-medium data-[state=active]:text-ink lg:px-3">
            <Icon name={tab.icon} className="hidden size-[17px] sm:block" />
            {tab.label}
            {tab.value === "change" && state.change && <span className="text-ink-3">#{state.change.number}</span>}
          </Tabs.Trigger>
        ))}
      </Tabs.List>
    </header>
  );
}

function ConnectionChip({ connection, isCaughtUp }: { connection: ConnectionState; isCaughtUp: boolean }) {
  const now = useSeconds(connection.kind === "waiting");
  const { text, look, dot } = (() => {
    switch (connection.kind) {
      case "live":
        return isCaughtUp ? { text: "Live", look: "text-accent", dot: "bg-accent" } : { text: "Catching up", look: "text-ink-2", dot: "bg-ink-3 breathe" };
      case "connecting":
        return { text: "Connecting", look: "text-ink-2", dot: "border-2 border-ink-3 breathe" };
      case "waiting": {
        const seconds = Math.max(0, Math.ceil((connection.untilMs - now) / 1000));
        return { text: seconds > 1 ? `Offline, again in ${seconds} s` : "Offline, reconnecting", look: "text-warn", dot: "border-2 border-warn" };
      }
      case "refused":
        return { text: connection.problem.message, look: "text-bad", dot: "border-2 border-bad" };
    }
  })();
  return (
    <span data-testid="connection" data-state={connection.kind} className={`inline-flex shrink-0 items-center gap-1.5 rounded-full bg-sunken px-2.5 py-1 text-[12.5px] ${look}`}>
      <span className={`size-2 rounded-full ${dot}`} />
      <span role="status">{text}</span>
    </span>
  );
}
