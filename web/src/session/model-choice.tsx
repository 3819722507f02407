/** Which model answers the next turns, and how hard it thinks: a quiet pair of selectors in the prompt's form. */
import { useQuery } from "@tanstack/react-query";
import { useState } from "react";
import { problemOf } from "../api/client";
import { modelsQuery } from "../api/queries";
import type { Effort, ModelView, Problem } from "../api/types";
import type { SessionState } from "./state";
import type { SessionStore } from "./store";

export const EFFORTS: Record<Effort, string> = { minimal: "Minimal", low: "Low", medium: "Medium", high: "High", xhigh: "Very high", max: "Most" };

/** What a model is chosen from: those that sessions can use. */
export function modelChoices(models: readonly ModelView[], chosen: string | null): { value: string; label: string }[] {
  const usable = models.filter((model) => model.uses_tools || model.name === chosen).map(({ name }) => ({ value: name, label: name }));
  // It may have been removed since.
  const isGone = chosen !== null && !models.some(({ name }) => name === chosen);
  return [{ value: "", label: "Default model" }, ...usable, ...(isGone ? [{ value: chosen, label: `${chosen} (removed)` }] : [])];
}

/** Empty where the model cannot be asked. */
export function effortChoices(models: readonly ModelView[], chosen: string | null): { value: string; label: string }[] {
  const model = models.find((candidate) => (chosen === null ? candidate.is_default : candidate.name === chosen));
  if (!model || model.efforts.length === 0) return [];
  const own = model.effort ? `Effort: ${EFFORTS[model.effort].toLowerCase()}` : "Usual effort";
  return [{ value: "", label: own }, ...model.efforts.map((effort) => ({ value: effort, label: EFFORTS[effort] }))];
}

export function ModelChoice({ store, state, onProblem }: { store: SessionStore; state: SessionState; onProblem: (problem: Problem | null) => void }) {
  const { data: models } = useQuery(modelsQuery);
  const [isBusy, setBusy] = useState(false);
  if (!models || models.length === 0) return null;
  const choose = (model: string | null, effort: Effort | null) => {
    onProblem(null);
    setBusy(true);
    const choice = { ...(model ? { model } : {}), ...(effort ? { effort } : {}) };
    store
      .command({ type: "choose_model", ...choice })
      .catch((error: unknown) => onProblem(problemOf(error)))
      .finally(() => setBusy(false));
  };
  const efforts = effortChoices(models, state.model);
  return (
    <>
      <QuietSelect label="Model" value={state.model ?? ""} choices={modelChoices(models, state.model)} isDisabled={isBusy} onChange={(name) => choose(name || null, null)} />
      {(efforts.length > 0 || state.effort) && <QuietSelect label="Effort" value={state.effort ?? ""} choices={efforts} isDisabled={isBusy} onChange={(effort) => choose(state.model, (effort || null) as Effort | null)} />}
    </>
  );
}

function QuietSelect({ label, value, choices, isDisabled, onChange }: { label: string; value: string; choices: { value: string; label: string }[]; isDisabled: boolean; onChange: (value: string) => void }) {
  return (
    <select
      aria-label={label}
      title={`${label}, from the next turn on`}
      className="min-h-10 max-w-36 cursor-pointer truncate rounded-lg bg-transparent px-1.5 text-[13px] text-ink-2 hover:bg-sunken hover:text-ink disabled:opacity-60"
      value={value}
      disabled={isDisabled}
      onChange={(event) => onChange(event.target.value)}
    >
      {choices.map((choice) => (
        <option key={choice.value} value={choice.value}>
          {choice.label}
        </option>
      ))}
    </select>
  );
}
