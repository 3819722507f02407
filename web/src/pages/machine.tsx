/** What this machine can do, and what sandboxes, pools and images hold of it now. */
import { useQuery } from "@tanstack/react-query";
import { Link } from "@tanstack/react-router";
import type { ReactNode } from "react";
import { machineQuery, machineResourcesQuery, meQuery, retentionQuery } from "../api/queries";
import type { CapabilityView, DiskView, MachineResources, PoolView, RetentionReport, RetentionView } from "../api/types";
import { ago, bytes, counted as amount, poolCost, poolText } from "../lib/format";
import { CopyButton, Empty, ErrorBox, Loading, useTitle, withCode } from "../ui/basics";
import { Icon } from "../ui/icon";

export function MachinePage() {
  useTitle("Machine");
  const resources = useQuery(machineResourcesQuery);
  const { data: me } = useQuery(meQuery);
  return (
    <div className="mx-auto max-w-4xl px-4 py-6 lg:px-8 lg:py-10">
      <Link to="/settings" className="mb-2 inline-flex min-h-10 items-center text-sm text-ink-2 hover:underline">
        Settings
      </Link>
      <h1 className="mb-5 text-[28px]">This machine</h1>
      <div className="space-y-9">
        {resources.error && <ErrorBox error={resources.error} />}
        {!resources.data && !resources.error && <Loading what="what it holds" />}
        {resources.data && (
          <>
            <Now resources={resources.data} />
            <Disk disk={resources.data.disk} />
            <Pools pools={resources.data.pools} />
          </>
        )}
        {me?.person.role === "admin" && <Retention />}
        <Capabilities />
      </div>
    </div>
  );
}

function Part({ title, children }: { title: string; children: ReactNode }) {
  return (
    <section aria-label={title}>
      <h2 className="mb-2 text-xl">{title}</h2>
      {children}
    </section>
  );
}

function Now({ resources }: { resources: MachineResources }) {
  const { sandboxes, most_sandboxes, blanks, blanks_wanted, pools } = resources;
  const warm = pools.reduce((sum, pool) => sum + pool.ready, 0);
  const memory = pools.reduce((sum, pool) => sum + (pool.memory_bytes ?? 0), 0);
  const facts: [string, string, string][] = [
    ["Sandboxes", `${sandboxes} of ${most_sandboxes}`, "run at this moment"],
    ["Warm", String(warm), `started and synced, for whoever asks next${memory > 0 ? `; ${bytes(memory)} of memory` : ""}`],
    ["Blanks", `${blanks} of ${blanks_wanted}`, "started, without an image yet"],
  ];
  return (
    <dl className="grid grid-cols-3 gap-2.5" data-testid="sandboxes-now">
      {facts.map(([name, value, says]) => (
        <div key={name} className="card flex flex-col px-3 py-2.5 sm:px-4 sm:py-3">
          <dt className="text-[13px] text-ink-3">{name}</dt>
          <dd className="font-serif text-2xl font-semibold tabular-nums">{value}</dd>
          <dd className="text-[13px] text-ink-2 max-sm:sr-only">{says}</dd>
        </div>
      ))}
    </dl>
  );
}

/** What the file system does not count is part of everything else. */
function Disk({ disk }: { disk: DiskView }) {
  const used = Math.max(0, disk.total_bytes - disk.free_bytes);
  const kinds = [
    { name: "Image layers", value: disk.layers_bytes, look: "bg-accent" },
    { name: "Workspaces", value: disk.workspaces_bytes, look: "bg-lamp" },
    { name: "Snapshots", value: disk.snapshots_bytes, look: "bg-merged" },
  ].flatMap(({ value, ...kind }) => (typeof value === "number" ? [{ ...kind, value }] : []));
  const counted = kinds.reduce((sum, kind) => sum + kind.value, 0);
  const parts = [...kinds, { name: "Everything else", value: Math.max(0, used - counted), look: "bg-line-strong" }, { name: "Free", value: disk.free_bytes, look: "bg-transparent" }];
  const share = (value: number) => `${disk.total_bytes === 0 ? 0 : (value / disk.total_bytes) * 100}%`;
  return (
    <Part title="Disk">
      <div className="card px-4 py-3.5" data-testid="disk">
        <div role="img" aria-label={parts.map((part) => `${part.name}: ${bytes(part.value)}`).join(", ")} className="flex h-4 overflow-hidden rounded-full bg-sunken">
          {parts.slice(0, -1).map((part) => (
            <div key={part.name} className={part.look} style={{ width: share(part.value) }} />
          ))}
        </div>
        <ul className="mt-2.5 flex flex-wrap gap-x-5 gap-y-1 text-[13.5px]">
          {parts.map((part) => (
            <li key={part.name} className="inline-flex items-center gap-1.5">
              <span aria-hidden="true" className={`size-2.5 rounded-full border border-line-strong ${part.look}`} />
              <span className="text-ink-2">{part.name}</span> <span className="tabular-nums">{bytes(part.value)}</span>
            </li>
          ))}
        </ul>
        <p className="mt-1.5 text-[13.5px] text-ink-2">
          {bytes(disk.total_bytes)} in all. {amount(disk.images, "image")}, {amount(disk.snapshots, "snapshot")}. Image layers may take {bytes(disk.layers_limit_bytes)}; beyond it the oldest images that nobody uses go.{" "}
          {disk.limit_per_sandbox_bytes === null || disk.limit_per_sandbox_bytes === undefined ? "What one sandbox writes is not bounded on this machine." : `One sandbox may write ${bytes(disk.limit_per_sandbox_bytes)}.`}
        </p>
      </div>
    </Part>
  );
}

function Pools({ pools }: { pools: PoolView[] }) {
  return (
    <Part title="Warm pools">
      {pools.length === 0 ? (
        <div className="card">
          <Empty icon="device" title="No pool yet">
            Once a repository's environment is built, sandboxes are kept ready for it.
          </Empty>
        </div>
      ) : (
        <ul className="card divide-y divide-line" data-testid="pools">
          {pools.map((pool) => (
            <PoolRow key={pool.repository} pool={pool} />
          ))}
        </ul>
      )}
    </Part>
  );
}

function PoolRow({ pool }: { pool: PoolView }) {
  return (
    <li className="grid gap-x-4 gap-y-0.5 px-4 py-2.5 sm:grid-cols-[minmax(8rem,1fr)_2fr]">
      <Link to="/repositories/$name" params={{ name: pool.repository }} className="truncate font-medium hover:underline">
        {pool.repository}
      </Link>
      <span>
        <span className="block">{poolText(pool)}</span>
        <span className="block text-[13px] text-ink-3">
          {pool.starts === 0 ? "No session asked for one since the server started." : `Since the server started, a day at most, ${pool.hits} of ${amount(pool.starts, "session")} found one.`} At least {pool.floor}, at most {pool.cap}.
          {poolCost(pool) && ` ${poolCost(pool)}`}
        </span>
      </span>
    </li>
  );
}

/** For administrators: what goes by itself, and what the last pass did. */
function Retention() {
  const { data, error } = useQuery(retentionQuery);
  return (
    <Part title="Retention">
      <ErrorBox error={error} />
      {data && (
        <div className="card px-4 py-3.5" data-testid="retention">
          <ul className="grid gap-x-6 gap-y-1 text-[13.5px] sm:grid-cols-2">
            {kept(data).map(([what, after]) => (
              <li key={what} className="flex justify-between gap-3">
                <span className="text-ink-2">{what}</span>
                <span>{after}</span>
              </li>
            ))}
          </ul>
          <p className="mt-2.5 text-[13.5px] text-ink-2">{data.last ? lastPass(data.last) : "No pass was made yet: the first begins a minute after the server’s start."}</p>
          <p className="mt-1.5 text-[13.5px] text-ink-2">{withCode("How long things are kept is set by `retention.*` in the server’s settings. `greenroom retention --dry-run` says what would go.")}</p>
        </div>
      )}
    </Part>
  );
}

function kept({ settings }: RetentionView): [string, string][] {
  const after = (days: number, then: string) => (days === 0 ? "kept" : `${then} after ${amount(days, "day")}`);
  return [
    ["Sessions at rest", after(settings.archive_idle_days, "archived")],
    ["Archived sessions", after(settings.delete_archived_days, "deleted")],
    ["Rows of statistics", after(settings.statistics_days, "removed")],
    ["Share links that ended", after(settings.share_links_days, "removed")],
  ];
}

function lastPass(last: RetentionReport): string {
  const rows = last.rows.reduce((sum, one) => sum + one.rows, 0);
  const stayed = last.kept.reduce((sum, one) => sum + one.sessions, 0);
  const did = [
    last.archived.sessions > 0 && `${amount(last.archived.sessions, "session")} archived`,
    last.deleted.sessions > 0 && `${amount(last.deleted.sessions, "session")} deleted (${bytes(last.deleted.bytes)})`,
    rows > 0 && `${amount(rows, "row")} removed`,
    last.failed_builds > 0 && `${amount(last.failed_builds, "failed build")} removed`,
  ].filter((part) => part !== false);
  const notes = [
    stayed > 0 && `${amount(stayed, "session")} stayed because somebody needs ${stayed === 1 ? "it" : "them"}.`,
    last.failed > 0 && `${amount(last.failed, "session")} could not be dealt with; the server’s log says why.`,
    !last.is_complete && "There is more; the next pass goes on with it.",
  ].filter((part) => part !== false);
  return [`Last pass ${ago(last.at_ms, Date.now())}: ${did.length === 0 ? "nothing was old enough" : did.join(", ")}.`, ...notes].join(" ");
}

function Capabilities() {
  const { data, error } = useQuery(machineQuery);
  const missing = data?.capabilities.filter((capability) => !capability.is_available).length ?? 0;
  return (
    <Part title="What it can do">
      <ErrorBox error={error} />
      {data && (
        <>
          <p className="mb-2 text-ink-2">
            Sandboxes run in mode “{data.mode}”. {missing === 0 ? "Nothing is missing." : `Missing: ${missing} of ${data.capabilities.length}; each says what it costs and what changes it.`}
          </p>
          <ul className="card divide-y divide-line" data-testid="capabilities">
            {[...data.capabilities].sort((a, b) => Number(a.is_available) - Number(b.is_available)).map((capability) => (
              <Capability key={capability.name} capability={capability} />
            ))}
          </ul>
        </>
      )}
    </Part>
  );
}

function Capability({ capability }: { capability: CapabilityView }) {
  const { name, is_available, detail, remedy } = capability;
  return (
    <li className="flex gap-2.5 px-4 py-2.5">
      <Icon name={is_available ? "check" : "warn"} className={`mt-0.5 size-5 ${is_available ? "text-accent" : "text-warn"}`} />
      <div className="min-w-0 flex-1">
        <p className="font-medium">
          {name}
          <span className="sr-only">{is_available ? ", available" : ", not available"}</span>
        </p>
        <p className="wrap-anywhere text-[13.5px] text-ink-2">{withCode(detail)}</p>
        {!is_available && remedy && (
          <div className="mt-1.5 flex flex-wrap items-center gap-2">
            <code className="output min-w-0 flex-1 basis-60 py-2!">{remedy}</code>
            <CopyButton text={remedy} label="Copy" />
          </div>
        )}
      </div>
    </li>
  );
}
