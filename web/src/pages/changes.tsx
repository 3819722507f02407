/** Every change, open ones first. */
import { useQuery } from "@tanstack/react-query";
import { Link } from "@tanstack/react-router";
import { changesQuery } from "../api/queries";
import type { ChangeView } from "../api/types";
import { Ago, ChangeBadge, Empty, ErrorBox, Loading, useTitle } from "../ui/basics";

export function ChangesPage() {
  useTitle("Changes");
  const { data, error } = useQuery(changesQuery);
  const sorted = [...(data ?? [])].sort((a, b) => Number(b.state === "open") - Number(a.state === "open") || b.updated_at_ms - a.updated_at_ms);
  return (
    <div className="mx-auto max-w-4xl px-4 py-6 lg:px-8 lg:py-10">
      <h1 className="mb-4 text-[28px]">Changes</h1>
      <ErrorBox error={error} className="mb-4" />
      {!data && !error && <Loading what="changes" />}
      {data?.length === 0 && (
        <div className="card">
          <Empty icon="merge" title="No change yet">
            When an agent's work is ready it opens a change here. Another person approves it, then it can be merged.
          </Empty>
        </div>
      )}
      {sorted.length > 0 && (
        <ul className="card divide-y divide-line overflow-hidden" data-testid="changes">
          {sorted.map((change) => (
            <ChangeRow key={change.id} change={change} />
          ))}
        </ul>
      )}
    </div>
  );
}

function ChangeRow({ change }: { change: ChangeView }) {
  const approvals = change.approvals.filter((approval) => approval.is_current).length;
  return (
    <li>
      <Link to="/changes/$id" params={{ id: change.id }} className="flex items-start gap-3 px-4 py-3 hover:bg-raised">
        <span className="min-w-0 flex-1">
          <span className="block wrap-anywhere font-medium">
            {change.title} <span className="font-normal text-ink-3">#{change.number}</span>
          </span>
          <span className="flex flex-wrap gap-x-2 text-[13px] text-ink-3">
            <span>{change.repository}</span>
            <span>{change.author_name}</span>
            <Ago atMs={change.updated_at_ms} />
            {change.state === "open" && change.required_approvals > 0 && (
              <span>
                {approvals} of {change.required_approvals} approvals
              </span>
            )}
          </span>
        </span>
        <ChangeBadge state={change.state} />
      </Link>
    </li>
  );
}
