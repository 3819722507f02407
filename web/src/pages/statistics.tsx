/** Figures of what happened: turns, tokens, money, time, tools and changes. What is not known is said, not shown as zero. */
import { useQuery } from "@tanstack/react-query";
import { Link } from "@tanstack/react-router";
import { type ReactNode, useState } from "react";
import { statisticsQuery } from "../api/queries";
import type { Figures, StatisticsBy, StatisticsView } from "../api/types";
import { cost, count, counted, duration } from "../lib/format";
import { Empty, ErrorBox, Loading, SelectField, useTitle } from "../ui/basics";

const RANGES = [
  { value: "7", label: "7 days" },
  { value: "30", label: "30 days" },
  { value: "90", label: "90 days" },
  { value: "365", label: "365 days" },
];
const DAY_MS = 24 * 3_600_000;
const day = (atMs: number): string => new Date(atMs).toISOString().slice(0, 10);

export function StatisticsPage() {
  useTitle("Figures");
  const [days, setDays] = useState("30");
  const [by, setBy] = useState<StatisticsBy>("repository");
  const now = Date.now();
  const range = { from: day(now - (Number(days) - 1) * DAY_MS), to: day(now) };
  const daily = useQuery(statisticsQuery({ ...range, by: "day" }));
  const grouped = useQuery(statisticsQuery({ ...range, by }));
  const error = daily.error ?? grouped.error;
  return (
    <div className="mx-auto max-w-4xl px-4 py-6 lg:px-8 lg:py-10">
      <Link to="/settings" className="mb-2 inline-flex min-h-10 items-center text-sm text-ink-2 hover:underline">
        Settings
      </Link>
      <div className="mb-5 flex flex-wrap items-center gap-3">
        <h1 className="flex-1 text-[28px]">Figures</h1>
        <SelectField label="Range" isLabelHidden value={days} onChange={setDays} choices={RANGES} />
      </div>
      <ErrorBox error={error} className="mb-4" />
      {!daily.data && !error && <Loading what="the figures" />}
      {daily.data && isEmpty(daily.data.totals) && (
        <div className="card">
          <Empty icon="chart" title="Nothing happened yet">
            Turns, tokens, money and changes are counted as they happen. Ask for a change, or look at a longer time.
          </Empty>
        </div>
      )}
      {daily.data && !isEmpty(daily.data.totals) && (
        <div className="space-y-9">
          <Totals figures={daily.data.totals} />
          <Days statistics={daily.data} />
          {grouped.data && <Groups statistics={grouped.data} by={by} onBy={setBy} />}
          <Tools statistics={daily.data} />
        </div>
      )}
    </div>
  );
}

const isEmpty = (figures: Figures): boolean => figures.prompts + figures.turns + figures.changes_opened + figures.changes_merged === 0;

function Totals({ figures }: { figures: Figures }) {
  const facts: [string, string, string][] = [
    ["Turns", count(figures.turns), [figures.failed + figures.budget_reached > 0 && `${count(figures.failed + figures.budget_reached)} failed`, figures.stopped > 0 && `${count(figures.stopped)} stopped`].filter(Boolean).join(", ") || "none failed"],
    ["Cost", costText(figures), figures.unpriced_turns > 0 && figures.cost_microusd != null ? `and ${count(figures.unpriced_turns)} turns at an unknown price` : figures.cost_microusd == null ? "no model with a known price" : "of all turns"],
    ["Tokens", figures.input_tokens == null ? "Not known" : tokensText(figures), figures.input_tokens == null ? "the provider counts none" : "read and written"],
    ["Time", figures.turn_ms == null ? "–" : duration(figures.turn_ms), "of all turns together"],
    ["Changes", count(figures.changes_merged), `merged of ${count(figures.changes_opened)} opened`],
    ["People", count(figures.people), `in ${counted(figures.sessions, "session")}`],
  ];
  return (
    <dl className="grid grid-cols-2 gap-2.5 sm:grid-cols-3" data-testid="figures">
      {facts.map(([name, value, says]) => (
        <div key={name} className="card flex flex-col px-3 py-2.5 sm:px-4 sm:py-3">
          <dt className="text-[13px] text-ink-3">{name}</dt>
          <dd className="font-serif text-2xl font-semibold tabular-nums">{value}</dd>
          <dd className="text-[13px] text-ink-2">{says}</dd>
        </div>
      ))}
    </dl>
  );
}

/** A bar for each day; the same figures are in the table below it, for whoever does not see bars. */
function Days({ statistics }: { statistics: StatisticsView }) {
  const known = new Map(statistics.groups.map((group) => [group.name, group.figures]));
  const first = Date.parse(statistics.from);
  const length = Math.round((Date.parse(statistics.to) - first) / DAY_MS) + 1;
  const days = Array.from({ length }, (_, at) => day(first + at * DAY_MS));
  const most = Math.max(1, ...statistics.groups.map((group) => group.figures.turns));
  return (
    <section aria-label="Turns by day">
      <h2 className="mb-2 text-xl">Turns by day</h2>
      <div className="card px-3 py-3">
        <div aria-hidden="true" className="flex h-36 items-end gap-px sm:gap-0.5">
          {days.map((name) => {
            const figures = known.get(name);
            const failed = (figures?.failed ?? 0) + (figures?.budget_reached ?? 0);
            const share = (value: number) => `${(value / most) * 100}%`;
            return (
              <span key={name} title={`${name}: ${figures?.turns ?? 0} turns, ${failed} failed`} className="flex h-full min-w-0 flex-1 flex-col justify-end">
                <span className="block bg-bad" style={{ height: share(failed) }} />
                <span className="block bg-accent" style={{ height: share((figures?.turns ?? 0) - failed) }} />
              </span>
            );
          })}
        </div>
        <div aria-hidden="true" className="mt-1.5 flex flex-wrap justify-between gap-x-3 border-t border-line pt-1.5 text-[12.5px] text-ink-3">
          <span>{statistics.from}</span>
          <span className="order-last w-full text-center sm:order-none sm:w-auto">
            <span className="mr-1 inline-block size-2.5 bg-accent" />
            ended well or stopped <span className="ml-2 mr-1 inline-block size-2.5 bg-bad" />
            failed · most {count(most)}
          </span>
          <span>{statistics.to}</span>
        </div>
      </div>
      <details className="mt-2">
        <summary className="mb-1 w-fit cursor-pointer rounded-lg px-1 py-2 text-sm text-ink-2">As a table</summary>
        <FiguresTable first="Day" rows={statistics.groups.map((group) => ({ name: group.name, figures: group.figures }))} />
      </details>
    </section>
  );
}

function Groups({ statistics, by, onBy }: { statistics: StatisticsView; by: StatisticsBy; onBy: (by: StatisticsBy) => void }) {
  return (
    <section aria-label="By repository or person">
      <div className="mb-2 flex items-center gap-3">
        <h2 className="flex-1 text-xl">By {by}</h2>
        <SelectField
          label="Counted by"
          isLabelHidden
          value={by}
          onChange={(value) => onBy(value as StatisticsBy)}
          choices={[
            { value: "repository", label: "Repository" },
            { value: "person", label: "Person" },
          ]}
        />
      </div>
      <FiguresTable first={by === "person" ? "Person" : "Repository"} rows={statistics.groups.map((group) => ({ name: group.name, figures: group.figures }))} />
    </section>
  );
}

function FiguresTable({ first, rows }: { first: string; rows: { name: string; figures: Figures }[] }) {
  return (
    <Table head={[first, "Prompts", "Turns", "Failed", "Time", "Tokens", "Cost", "Merged"]}>
      {rows.map(({ name, figures }, at) => (
        <Row
          key={name + at}
          cells={[
            name,
            count(figures.prompts),
            count(figures.turns),
            count(figures.failed + figures.budget_reached),
            figures.turn_ms == null ? "–" : duration(figures.turn_ms),
            tokensText(figures),
            costText(figures),
            count(figures.changes_merged),
          ]}
        />
      ))}
    </Table>
  );
}

function Tools({ statistics }: { statistics: StatisticsView }) {
  if (statistics.tools.length === 0) return null;
  return (
    <section aria-label="Tools">
      <h2 className="mb-2 text-xl">Tools</h2>
      <Table head={["Tool", "Calls", "Failed", "Time"]}>
        {statistics.tools.map((tool) => (
          <Row key={tool.tool} cells={[tool.tool, count(tool.calls), count(tool.failures), tool.duration_ms == null ? "–" : duration(tool.duration_ms)]} />
        ))}
      </Table>
    </section>
  );
}

function Table({ head, children }: { head: string[]; children: ReactNode }) {
  return (
    <div className="card overflow-x-auto" tabIndex={0} role="region" aria-label={`Figures by ${head[0]?.toLowerCase() ?? ""}`}>
      <table className="w-full text-[14.5px] tabular-nums">
        <thead className="text-left text-[13px] text-ink-3">
          <tr>
            {head.map((name, at) => (
              <th key={name} scope="col" className={`whitespace-nowrap px-3 py-2 font-medium ${at > 0 ? "text-right" : ""}`}>
                {name}
              </th>
            ))}
          </tr>
        </thead>
        <tbody className="divide-y divide-line">{children}</tbody>
      </table>
    </div>
  );
}

function Row({ cells }: { cells: string[] }) {
  return (
    <tr>
      <th scope="row" className="min-w-28 max-w-56 wrap-anywhere px-3 py-2 text-left font-normal">
        {cells[0]}
      </th>
      {cells.slice(1).map((cell, at) => (
        <td key={at} className="whitespace-nowrap px-3 py-2 text-right">
          {cell}
        </td>
      ))}
    </tr>
  );
}

function tokensText(figures: Figures): string {
  const parts = [figures.input_tokens, figures.output_tokens, figures.cache_read_tokens, figures.cache_write_tokens];
  return parts.every((part) => part == null) ? "–" : count(parts.reduce<number>((sum, part) => sum + (part ?? 0), 0));
}

function costText(figures: Figures): string {
  if (figures.cost_microusd == null) return "Not known";
  return cost(figures.cost_microusd) || "$0.00";
}
