/** What is known of a session beside its conversation: where, who, what it used, how its turns began. */
import { useMutation } from "@tanstack/react-query";
import { useNavigate } from "@tanstack/react-router";
import { type ReactNode, useState } from "react";
import { api, ApiError, newKey } from "../api/client";
import { cost, usageText } from "../lib/format";
import { Button, CopyButton, ErrorBox } from "../ui/basics";
import { Export } from "./archive";
import { Context } from "./context";
import { Environment } from "./environment";
import { ChildrenFirst, Family } from "./family";
import { ArtifactList } from "./files";
import { Timeline } from "./items";
import { Rename } from "./rename";
import { useRights } from "./rights";
import { outcomeText, usedText } from "./say";
import type { SessionState, Turn } from "./state";
import { Sharing } from "./sharing";
import { sessionStore } from "./store";
import { TodoList } from "./todo";
import { Waterfalls } from "./waterfall";

export function Details({ id, state }: { id: string; state: SessionState }) {
  const turns = [...state.turnOrder].reverse().flatMap((turn) => state.turns.get(turn) ?? []);
  return (
    <div className="space-y-6">
      <Facts id={id} state={state} />
      <Family id={id} state={state} />
      <Sharing id={id} />
      <Environment id={id} state={state} />
      {state.todo.length > 0 && (
        <Section title="Todo">
          <TodoList items={state.todo} />
        </Section>
      )}
      <ArtifactList state={state} />
      <Context id={id} state={state} />
      <Section title="Turns">
        {turns.length === 0 && <p className="text-ink-2">No turn yet.</p>}
        <ol className="space-y-2">
          {turns.map((turn) => (
            <TurnFacts key={turn.id} turn={turn} prompt={state.prompts.get(turn.firstPrompt ?? "")?.text} />
          ))}
        </ol>
        {turns.length > 0 && <Waterfalls id={id} isRunning={state.running !== null} />}
      </Section>
      <Export id={id} />
      <Archiving id={id} state={state} />
      <Removal id={id} isRunning={state.running !== null} />
    </div>
  );
}

function Facts({ id, state }: { id: string; state: SessionState }) {
  const { mayPrompt } = useRights(id);
  const people = [...state.prompters.values()];
  const price = cost(state.usage.cost_microusd);
  const rows: [string, ReactNode][] = [
    ["Title", mayPrompt ? <Rename key="title" id={id} title={state.title} /> : state.title],
    ["Repository", state.repository],
    ["Branch", <code key="branch" className="wrap-anywhere font-mono text-[13px]">{state.branch}</code>],
    ["Base", <code key="base" className="wrap-anywhere font-mono text-[13px]">{state.baseBranch}</code>],
    ["Model", [state.model ?? "The default at each turn", state.effort && `effort ${state.effort}`].filter(Boolean).join(", ")],
    ["Asked by", people.length > 0 ? people.join(", ") : (state.author?.name ?? "–")],
    ["Used", usedText(state.usage)],
    ["Cost", state.usage.requests === 0 ? "–" : price || "Not known for this model"],
  ];
  return (
    <Section title="Session">
      <dl className="grid grid-cols-[7rem_1fr] gap-x-3 gap-y-1.5" data-testid="session-facts">
        {rows.map(([name, value]) => (
          <div key={name} className="contents">
            <dt className="text-ink-3">{name}</dt>
            <dd className="min-w-0 break-words">{value}</dd>
          </div>
        ))}
      </dl>
      <div className="mt-3">
        <CopyButton text={`${location.origin}/sessions/${id}`} label="Copy link" />
      </div>
    </Section>
  );
}

function TurnFacts({ turn, prompt }: { turn: Turn; prompt: string | undefined }) {
  const usage = usageText(turn.usage);
  return (
    <li className="card px-3.5 py-2.5">
      <p className="line-clamp-2">{prompt ?? (turn.firstPrompt === null ? "Summary of the conversation" : "Turn")}</p>
      <p className="text-[13px] text-ink-3">{[turn.outcome ? outcomeText(turn.outcome) : "Running", turn.model, usage].filter(Boolean).join(" · ")}</p>
      {turn.marks.length > 0 && <Timeline turn={turn} />}
    </li>
  );
}

export function Section({ title, children }: { title: string; children: ReactNode }) {
  return (
    <section aria-label={title}>
      <h2 className="mb-2 text-lg">{title}</h2>
      {children}
    </section>
  );
}

function Archiving({ id, state }: { id: string; state: SessionState }) {
  const { isArchived } = state;
  const isBusy = state.running !== null || state.queue.length > 0;
  const give = useMutation({
    mutationFn: async () => {
      const receipt = await api.submit(id, newKey(), { type: isArchived ? "unarchive" : "archive" });
      if (receipt.problem) throw new ApiError(409, receipt.problem);
    },
  });
  return (
    <Section title="Archive">
      <ErrorBox error={give.error} className="mb-2" />
      <p className="mb-2 text-ink-2">
        {isArchived ? "This session is hidden from the list. The next prompt brings it back, too." : "Hides the session from the list and lets its sandbox go. Everything stays readable, and the next prompt brings it back."}
      </p>
      {!isArchived && <ChildrenFirst id={id} />}
      <Button icon="archive" isBusy={give.isPending} disabled={!isArchived && isBusy} title={!isArchived && isBusy ? "Stop the turn and withdraw what waits first" : undefined} onClick={() => give.mutate()}>
        {isArchived ? "Bring it back" : "Archive this session"}
      </Button>
    </Section>
  );
}

function Removal({ id, isRunning }: { id: string; isRunning: boolean }) {
  const { mayManage } = useRights(id);
  const [isAsking, setAsking] = useState(false);
  const navigate = useNavigate();
  const store = sessionStore(id);
  const remove = useMutation({
    mutationFn: () => api.deleteSession(id),
    onMutate: () => {
      store.isBeingDeleted = true;
    },
    onError: () => {
      store.isBeingDeleted = false;
    },
    onSuccess: () => navigate({ to: "/" }),
  });
  if (!mayManage) return null;
  return (
    <Section title="Delete">
      <ErrorBox error={remove.error} className="mb-2" />
      {isAsking ? (
        <div className="flex flex-wrap items-center gap-2">
          <p className="w-full text-ink-2">The log and the sandbox's files go. Branches and changes that were opened stay.</p>
          <ChildrenFirst id={id} />
          <Button look="danger" icon="trash" isBusy={remove.isPending} onClick={() => remove.mutate()}>
            Delete for good
          </Button>
          <Button onClick={() => setAsking(false)}>Keep it</Button>
        </div>
      ) : (
        <Button icon="trash" disabled={isRunning} title={isRunning ? "Stop the running turn first" : undefined} onClick={() => setAsking(true)}>
          Delete session
        </Button>
      )}
    </Section>
  );
}
