/** What a step or a turn changed of the files, and how they are put back to it: asked for when somebody wants to know. */
import { useMutation, useQuery } from "@tanstack/react-query";
import { getRouteApi } from "@tanstack/react-router";
import { useId, useRef, useState } from "react";
import { ApiError, api, newKey } from "../api/client";
import { treeDiffQuery } from "../api/queries";
import type { Command } from "../api/types";
import { DiffCountText, FileDiffs } from "../diff/diff";
import { Button, ErrorBox, Loading } from "../ui/basics";
import { Icon } from "../ui/icon";
import { useRights } from "./rights";
import type { RevertItem, StepItem, StepMark, Turn } from "./state";

const route = getRouteApi("/app/sessions/$id");

const filesText = (count: number) => (count === 1 ? "1 file" : `${count} files`);

/** Below the last tool call of a step. */
export function StepLine({ step, what = "Changed" }: { step: StepMark; what?: string }) {
  const { id } = route.useParams();
  const [isOpen, setOpen] = useState(false);
  const region = useId();
  return (
    <div data-testid="step" data-step={step.step} className="mt-1 px-1 text-[13px]">
      <button type="button" aria-expanded={isOpen} aria-controls={region} onClick={() => setOpen(!isOpen)} className="inline-flex min-h-9 items-center gap-2 rounded-lg px-2 text-ink-2 hover:bg-sunken hover:text-ink">
        <Icon name="edit" className="size-4 text-ink-3" />
        <span>
          {what} {filesText(step.files)}
        </span>
        <DiffCountText additions={step.additions} deletions={step.deletions} />
        <Icon name="chevron" className={`size-3.5 transition-transform ${isOpen ? "rotate-90" : ""}`} />
      </button>
      {isOpen && (
        <div id={region} className="mt-1 rounded-xl border border-line p-2.5">
          <TreeDiff id={id} of={{ step: step.step }} emptyText="Git shows no difference." />
          <PutBack to={step.step} label="Put the files back to here" />
        </div>
      )}
    </div>
  );
}

/** Between turns: a person's commands, terminals, processes that went on. */
export function OutsideStep({ item }: { item: StepItem }) {
  return (
    <div className="mt-4">
      <StepLine step={item.step} what="Between the steps, commands changed" />
    </div>
  );
}

/** At a turn's end. */
export function TurnFiles({ turn }: { turn: Turn }) {
  const { id } = route.useParams();
  const [isOpen, setOpen] = useState(false);
  const region = useId();
  const { steps } = turn;
  if (!steps) return null;
  return (
    <>
      <button type="button" aria-expanded={isOpen} aria-controls={region} onClick={() => setOpen(!isOpen)} data-testid="turn-diff" className="inline-flex min-h-10 items-center gap-1.5 rounded-lg px-2 text-ink-2 hover:bg-sunken hover:text-ink">
        <Icon name="edit" className="size-4" /> {isOpen ? "Hide what changed" : "What this turn changed"}
      </button>
      {isOpen && (
        <div id={region} className="mt-1 w-full rounded-xl border border-line p-2.5 text-ink">
          <TreeDiff id={id} of={{ turn: turn.id }} emptyText="After this turn the files were as before it." />
          {steps.from !== null && <PutBack to={steps.from} label="Put the files back to before this turn" />}
          <PutBack to={steps.last} label="Put the files back to its end" />
        </div>
      )}
    </>
  );
}

function TreeDiff({ id, of, emptyText }: { id: string; of: { step: number } | { turn: string } | { revert_to: number }; emptyText: string }) {
  const { data, error } = useQuery(treeDiffQuery(id, of));
  return (
    <>
      <ErrorBox error={error} />
      {!data && !error && <Loading what="the diff" />}
      {data && <FileDiffs files={data} emptyText={emptyText} />}
    </>
  );
}

/** What would change is shown before it is done. */
function PutBack({ to, label }: { to: number; label: string }) {
  const { id } = route.useParams();
  const { mayPrompt } = useRights(id);
  const [isAsked, setAsked] = useState(false);
  const region = useId();
  const revert = useRevert(id, () => setAsked(false));
  if (!mayPrompt) return null;
  return (
    <div className="mt-2">
      <Button look="ghost" icon="refresh" aria-expanded={isAsked} aria-controls={region} onClick={() => setAsked(!isAsked)}>
        {label}
      </Button>
      {isAsked && (
        <section id={region} aria-label={label} data-testid="put-back" className="mt-2 rounded-xl border border-line-strong bg-surface p-3">
          <p className="mb-2 text-ink-2">This is what would change. What is there now is kept as a step, so that you can go forward again. Ignored files and the branch stay as they are; the agent is told.</p>
          <TreeDiff id={id} of={{ revert_to: to }} emptyText="The files are like this already." />
          <div className="mt-3 flex flex-wrap gap-2">
            <Button look="primary" isBusy={revert.isPending} onClick={() => revert.mutate({ type: "revert", to })}>
              Put the files back
            </Button>
            <Button onClick={() => setAsked(false)}>Leave them as they are</Button>
          </div>
          <ErrorBox error={revert.error} onDismiss={() => revert.reset()} className="mt-3" />
        </section>
      )}
    </div>
  );
}

/** The log says how it ended. */
function useRevert(id: string, onTaken: () => void) {
  // The same key until it is taken: a repeated click after a lost answer does nothing more.
  const key = useRef<string>(undefined);
  return useMutation({
    mutationFn: async (command: Command) => {
      const { problem } = await api.submit(id, (key.current ??= newKey()), command);
      key.current = undefined;
      if (problem) throw new ApiError(409, problem);
    },
    onSuccess: onTaken,
  });
}

export function RevertView({ item }: { item: RevertItem }) {
  const { id } = route.useParams();
  const { mayPrompt } = useRights(id);
  const forward = useRevert(id, () => undefined);
  const { done } = item;
  return (
    <div data-testid="revert" className="mt-4 rounded-xl border border-line bg-raised px-3.5 py-2.5 text-[14px] text-ink-2">
      <p className="flex flex-wrap items-center gap-2">
        <Icon name={done ? "refresh" : item.isOver ? "warn" : "arc"} className={`size-[18px] text-ink-3 ${done || item.isOver ? "" : "spin"}`} />
        <span className="min-w-0 flex-1 break-words">
          {done
            ? `${item.name} put the files back to step ${item.to}: ${filesText(done.changedCount)} changed. What was there is step ${done.from}.`
            : item.isOver
              ? `${item.name} wanted the files back as step ${item.to} left them.`
              : `${item.name} is putting the files back to step ${item.to}.`}
        </span>
        {done?.forward != null && mayPrompt && (
          <Button look="ghost" isBusy={forward.isPending} onClick={() => forward.mutate({ type: "forward" })}>
            Go forward again, to step {done.forward}
          </Button>
        )}
      </p>
      <ErrorBox error={forward.error} onDismiss={() => forward.reset()} className="mt-2" />
    </div>
  );
}
