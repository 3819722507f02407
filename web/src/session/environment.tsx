/** What surrounds a conversation: its sandbox, services, ports to open, kept files, and hosts that were refused. */
import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import type { ReactNode } from "react";
import { api } from "../api/client";
import { egressQuery, meQuery, sessionEnvironmentQuery } from "../api/queries";
import type { PortView, ServicePhase, SessionEnvironment, SnapshotReason } from "../api/types";
import { bytes } from "../lib/format";
import { Ago, Badge, Button, ErrorBox, ProblemBox } from "../ui/basics";
import { Icon, type IconName } from "../ui/icon";
import { useRights } from "./rights";
import { denyText, phaseText } from "./say";
import type { Denied, Service, SessionState } from "./state";

export function Environment({ id, state }: { id: string; state: SessionState }) {
  const { data, error } = useQuery(sessionEnvironmentQuery(id));
  const { mayPrompt } = useRights(id);
  return (
    <>
      <Part title="Sandbox">
        <Sandbox state={state} environment={data} />
        <ErrorBox error={error} className="mt-2" />
      </Part>
      {data && <Services services={data.services} known={state.services} />}
      {data && <Ports ports={data.ports} isRunning={data.is_running} mayAct={mayPrompt} />}
      {state.denied.size > 0 && <DeniedHosts repository={state.repository} denied={[...state.denied.values()]} />}
      {data && <Snapshots environment={data} state={state} />}
    </>
  );
}

function Part({ title, children }: { title: string; children: ReactNode }) {
  return (
    <section aria-label={title}>
      <h2 className="mb-2 text-lg">{title}</h2>
      {children}
    </section>
  );
}

function Sandbox({ state, environment }: { state: SessionState; environment: SessionEnvironment | undefined }) {
  const phase = state.sandbox ? phaseText(state.sandbox.phase) : "Not started yet";
  const held: [string, string | null][] = [
    ["Memory", size(environment?.memory_bytes)],
    ["Processes", environment?.processes?.toString() ?? null],
    ["Changed files", size(environment?.disk_bytes)],
  ];
  return (
    <div data-testid="sandbox-usage">
      <p className="text-ink-2">{phase}</p>
      {environment?.is_running && (
        <dl className="mt-2 grid grid-cols-3 gap-2">
          {held.map(([name, value]) => (
            <div key={name} className="card px-3 py-2">
              <dt className="text-[12.5px] text-ink-3">{name}</dt>
              <dd className="tabular-nums">{value ?? <span className="text-ink-3">not counted</span>}</dd>
            </div>
          ))}
        </dl>
      )}
    </div>
  );
}

const size = (value: number | null | undefined): string | null => (value === null || value === undefined ? null : bytes(value));

const PHASES: Record<ServicePhase, { icon: IconName; look: string; word: string }> = {
  starting: { icon: "clock", look: "text-warn", word: "Starting" },
  ready: { icon: "check", look: "text-accent", word: "Ready" },
  failed: { icon: "warn", look: "text-bad", word: "Not running" },
};

/** The log is quicker than the next look at the environment. */
function Services({ services, known }: { services: SessionEnvironment["services"]; known: ReadonlyMap<string, Service> }) {
  if (services.length === 0 && known.size === 0) return null;
  const names = [...new Set([...services.map((service) => service.name), ...known.keys()])];
  const shown = names.flatMap((name) => known.get(name) ?? services.find((service) => service.name === name) ?? []);
  return (
    <Part title="Services">
      <ul className="card divide-y divide-line" data-testid="services">
        {shown.map((service) => {
          const { icon, look, word } = PHASES[service.state];
          return (
            <li key={service.name} className="px-3.5 py-2" data-state={service.state}>
              <p className="flex items-center gap-2">
                <Icon name={icon} className={`size-[18px] ${look}`} />
                <span className="min-w-0 flex-1 truncate">{service.name}</span>
                <span className={`text-[13px] ${look}`}>{word}</span>
              </p>
              {service.problem && <ProblemBox problem={service.problem} className="my-1.5" />}
            </li>
          );
        })}
      </ul>
    </Part>
  );
}

/** `mayAct`: whoever only looks sees the pages of the recipe's ports while the sandbox runs. */
function Ports({ ports, isRunning, mayAct }: { ports: PortView[]; isRunning: boolean; mayAct: boolean }) {
  const isOpen = (port: PortView) => mayAct || (isRunning && Boolean(port.name));
  return (
    <Part title="Previews">
      {!mayAct && ports.length > 0 && (
        <p className="mb-2 text-ink-2">
          {isRunning ? "You can look at the pages of named ports, but not send anything to them." : "The sandbox is not running. Only who takes part in this session can start it."}
        </p>
      )}
      {ports.length === 0 ? (
        <p className="text-ink-2">{isRunning ? "Nothing listens on a port. A server that the agent starts appears here." : "None declared. Ports appear here while the sandbox runs."}</p>
      ) : (
        <ul className="card divide-y divide-line" data-testid="ports">
          {ports.map((port) => (
            <li key={port.port} className="flex items-center gap-3 px-3.5 py-2">
              <span className="min-w-0 flex-1">
                <span className="block truncate">{port.name ?? `Port ${port.port}`}</span>
                <span className="block text-[13px] text-ink-3">
                  {port.name && `Port ${port.port} · `}
                  {port.is_listening ? <span className="text-accent">listening</span> : "nothing listens yet"}
                </span>
              </span>
              {isOpen(port) && (
                <a href={port.url} target="_blank" rel="noopener" aria-label={`Open ${port.name ?? `port ${port.port}`} in a new tab`} className="inline-flex min-h-10 items-center gap-2 rounded-[10px] border border-line-strong px-3.5 hover:bg-raised">
                  <Icon name="open" className="size-[18px]" /> Open
                </a>
              )}
            </li>
          ))}
        </ul>
      )}
    </Part>
  );
}

const REASONS: Record<SnapshotReason, string> = { turn: "after a turn", exit: "when the sandbox stopped", out_of_memory: "when memory ran out" };

function Snapshots({ environment, state }: { environment: SessionEnvironment; state: SessionState }) {
  const { snapshots } = environment;
  if (snapshots.length === 0) return null;
  return (
    <Part title="Kept files">
      <details className="card group">
        <summary className="flex min-h-11 list-none items-center gap-2 px-3.5">
          <span className="flex-1">
            {snapshots.length === 1 ? "1 copy" : `${snapshots.length} copies`}, the newest <Ago atMs={snapshots[0]?.at_ms ?? 0} />
          </span>
          <Icon name="chevron" className="size-4 text-ink-3 transition-transform group-open:rotate-90" />
        </summary>
        <ol className="max-h-72 divide-y divide-line overflow-y-auto border-t border-line" data-testid="snapshots">
          {snapshots.map((snapshot) => (
            <li key={snapshot.id} className="px-3.5 py-2">
              <p className="line-clamp-1">{promptOf(state, snapshot.turn) ?? "Before the first turn"}</p>
              <p className="text-[13px] text-ink-3">
                Taken {REASONS[snapshot.reason] ?? ""} <Ago atMs={snapshot.at_ms} />
              </p>
            </li>
          ))}
        </ol>
      </details>
    </Part>
  );
}

function promptOf(state: SessionState, turn: string | null | undefined): string | undefined {
  const prompt = state.turns.get(turn ?? "")?.firstPrompt;
  return state.prompts.get(prompt ?? "")?.text;
}

/** An admin lets a host through for every session of the repository, from the next connection on. */
function DeniedHosts({ repository, denied }: { repository: string; denied: Denied[] }) {
  const { data: me } = useQuery(meQuery);
  const isAdmin = me?.person.role === "admin";
  return (
    <Part title="Refused connections">
      {!isAdmin && <p className="mb-2 text-ink-2">An administrator can add to the repository's allow-list.</p>}
      <ul className="card divide-y divide-line" data-testid="denied">
        {denied.map((host) => (
          <DeniedHost key={`${host.host}:${host.port}`} repository={repository} denied={host} isAdmin={isAdmin} />
        ))}
      </ul>
    </Part>
  );
}

function DeniedHost({ repository, denied, isAdmin }: { repository: string; denied: Denied; isAdmin: boolean }) {
  const queries = useQueryClient();
  const host = denied.port === 443 || denied.port === 80 ? denied.host : `${denied.host}:${denied.port}`;
  const egress = useQuery({ ...egressQuery(repository), enabled: isAdmin && repository !== "" });
  const isAllowed = egress.data?.additions.some((addition) => addition.host === host) === true;
  const allow = useMutation({
    mutationFn: async () => {
      const { additions } = await api.egress(repository);
      return api.setEgress(repository, [...additions.filter((addition) => addition.host !== host), { host, allows_private: false }]);
    },
    onSuccess: (view) => queries.setQueryData(egressQuery(repository).queryKey, view),
  });
  return (
    <li className="px-3.5 py-2">
      <div className="flex flex-wrap items-center gap-x-3 gap-y-1">
        <code className="min-w-0 flex-1 wrap-anywhere font-mono text-[13px]">
          {denied.host}:{denied.port}
        </code>
        {denied.reason !== null && <span className="text-[13px] text-ink-3">{denyText(denied.reason)}</span>}
        {denied.times > 1 && <span className="text-[13px] text-ink-3">{denied.times} times</span>}
        {isAllowed ? (
          <Badge look="bg-accent-soft text-accent" icon="check">
            Allowed now
          </Badge>
        ) : (
          isAdmin &&
          (denied.reason ?? "not_allowed") === "not_allowed" && (
            <Button isBusy={allow.isPending} onClick={() => allow.mutate()}>
              Allow for {repository}
            </Button>
          )
        )}
      </div>
      <ErrorBox error={allow.error} className="mt-2" />
    </li>
  );
}
