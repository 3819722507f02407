/** A change: what it says, who made it, what it changes; approve and merge. */
import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { Link } from "@tanstack/react-router";
import { api } from "../api/client";
import { changeDiffQuery, changeQuery, sessionsQuery } from "../api/queries";
import type { ChangeView, Permission } from "../api/types";
import { FileDiffs } from "../diff/diff";
import { Ago, Avatar, Badge, Button, ChangeBadge, ErrorBox, Loading } from "./basics";
import { Icon } from "./icon";
import { Markdown } from "./markdown";

export default function ChangeDetail({ change, isInSession = false }: { change: ChangeView; isInSession?: boolean }) {
  const diff = useQuery(changeDiffQuery(change.id, change.head));
  return (
    <article aria-label={`Change #${change.number}`} className="space-y-6">
      <Top change={change} isInSession={isInSession} />
      <Decision change={change} />
      {change.body.trim() !== "" && (
        <div className="card px-4 py-3">
          <Markdown text={change.body} />
        </div>
      )}
      <Commits change={change} />
      <section aria-label="Files">
        <h2 className="mb-1 text-lg">Files</h2>
        <ErrorBox error={diff.error} />
        {!diff.data && !diff.error && <Loading what="the diff" />}
        {diff.data && <FileDiffs files={diff.data} maySplit={!isInSession} emptyText="This change holds no difference." />}
      </section>
    </article>
  );
}

function Top({ change, isInSession }: { change: ChangeView; isInSession: boolean }) {
  const Title = isInSession ? "h2" : "h1";
  return (
    <div>
      <Title className="text-[22px] leading-tight lg:text-[26px]">
        {change.title} <span className="font-normal text-ink-3">#{change.number}</span>
      </Title>
      <p className="mt-2 flex flex-wrap items-center gap-x-2.5 gap-y-1 text-sm text-ink-2">
        <ChangeBadge state={change.state} />
        {change.is_unreviewed && (
          <Badge look="bg-warn-soft text-warn" icon="warn">
            Unreviewed
          </Badge>
        )}
        <span>{change.author_name}</span>
        <span className="wrap-anywhere">
          <code className="font-mono text-[12.5px]">{change.branch}</code> into <code className="font-mono text-[12.5px]">{change.base}</code> of {change.repository}
        </span>
        <Ago atMs={change.opened_at_ms} />
        {!isInSession && change.session && (
          <Link to="/sessions/$id" params={{ id: change.session }} className="text-accent underline">
            Session
          </Link>
        )}
        {isInSession && (
          <Link to="/changes/$id" params={{ id: change.id }} className="text-accent underline">
            Full page
          </Link>
        )}
      </p>
    </div>
  );
}

function Decision({ change }: { change: ChangeView }) {
  const queries = useQueryClient();
  const onSuccess = (changed: ChangeView) => {
    queries.setQueryData(changeQuery(change.id).queryKey, changed);
    void queries.invalidateQueries({ queryKey: ["changes"] });
    void queries.invalidateQueries({ queryKey: sessionsQuery.queryKey });
  };
  // A refusal may mean that the change has moved since it was read.
  const onError = () => void queries.invalidateQueries({ queryKey: ["changes", change.id] });
  const approve = useMutation({ mutationFn: () => api.approve(change.id, change.head), onSuccess, onError });
  const merge = useMutation({ mutationFn: () => api.merge(change.id), onSuccess, onError });
  const current = change.approvals.filter((approval) => approval.is_current);
  return (
    <section aria-label="Review" className="card px-4 py-3">
      <p className="flex items-center gap-2" data-testid="review-state">
        <Icon name={change.state === "merged" ? "merge" : current.length >= change.required_approvals ? "check" : "clock"} className={`size-5 ${change.state === "merged" ? "text-merged" : "text-accent"}`} />
        <span>{reviewText(change, current.length)}</span>
      </p>
      {change.approvals.length > 0 && (
        <ul className="mt-2 space-y-1" aria-label="Approvals">
          {change.approvals.map((approval) => (
            <li key={`${approval.by}:${approval.at_ms}`} className="flex items-center gap-2 text-sm text-ink-2">
              <Avatar name={approval.name} className="size-6 text-[10px]" />
              <span>
                {approval.name} approved <Ago atMs={approval.at_ms} />
                {!approval.is_current && ", before the branch moved on"}
              </span>
            </li>
          ))}
        </ul>
      )}
      {change.state === "open" && (
        <>
          <div className="mt-3 flex flex-wrap gap-2">
            <Button icon="check" onClick={() => approve.mutate()} disabled={!change.may_approve.is_allowed || merge.isPending} isBusy={approve.isPending} aria-describedby="approve-reason" className="min-h-11">
              Approve
            </Button>
            <Button look="primary" icon="merge" onClick={() => merge.mutate()} disabled={!change.may_merge.is_allowed || approve.isPending} isBusy={merge.isPending} aria-describedby="merge-reason" className="min-h-11">
              Merge
            </Button>
          </div>
          <Reason id="approve-reason" what="Approve" permission={change.may_approve} />
          <Reason id="merge-reason" what="Merge" permission={change.may_merge} />
        </>
      )}
      <div role="status" data-testid="action-result">
        {approve.isSuccess && change.state === "open" && <p className="mt-2 text-accent">Your approval is recorded.</p>}
        {merge.isSuccess && <p className="mt-2 text-accent">The change is merged into {change.base}.</p>}
      </div>
      <ErrorBox error={approve.error ?? merge.error} className="mt-3" />
    </section>
  );
}

function reviewText(change: ChangeView, current: number): string {
  if (change.state === "merged") return `Merged${change.merge_commit ? ` as ${change.merge_commit.slice(0, 10)}` : ""}${change.is_unreviewed ? ", unreviewed" : ""}.`;
  if (change.state === "closed") return "Closed without merging.";
  if (change.required_approvals === 0) return current === 0 ? "No approval is required." : `${people(current)} approved; none is required.`;
  if (current >= change.required_approvals) return `Approved: ${current} of ${change.required_approvals} needed.`;
  return `Waits for approval: ${current} of ${change.required_approvals} so far.`;
}

const people = (number: number): string => (number === 1 ? "One person" : `${number} people`);

function Reason({ id, what, permission }: { id: string; what: string; permission: Permission }) {
  if (permission.is_allowed) return null;
  return (
    <p id={id} className="mt-2 text-sm text-ink-2">
      <span className="font-medium text-ink">{what}:</span> {permission.reason ?? "not possible for you now."}
    </p>
  );
}

function Commits({ change }: { change: ChangeView }) {
  return (
    <section aria-label="Commits">
      <h2 className="mb-2 text-lg">Commits</h2>
      {change.commits.length === 0 && <p className="text-ink-2">None.</p>}
      <ul className="card divide-y divide-line">
        {change.commits.map((commit) => (
          <li key={commit.hash} className="flex flex-wrap items-baseline gap-x-3 px-4 py-2.5" data-testid="commit">
            <span className="min-w-0 flex-1 basis-60 break-words">{commit.subject}</span>
            <span className="text-[13px] text-ink-3">
              <span title={commit.author_email}>{commit.author_name}</span> · <code className="font-mono text-xs">{commit.hash.slice(0, 10)}</code> · <Ago atMs={commit.at_ms} />
            </span>
          </li>
        ))}
      </ul>
    </section>
  );
}
