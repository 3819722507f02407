/** Who could not be told of this session, until somebody has it tried again. */
import { useState } from "react";
import { problemOf } from "../api/client";
import type { Consumer, Problem } from "../api/types";
import { Button, ProblemBox, withCode } from "../ui/basics";
import { Icon } from "../ui/icon";
import { CONSUMER_NAMES } from "./say";
import type { SessionState } from "./state";
import type { SessionStore } from "./store";

export function DeadLetters({ store, state }: { store: SessionStore; state: SessionState }) {
  const [asked, setAsked] = useState<Consumer | null>(null);
  const [problem, setProblem] = useState<Problem | null>(null);
  if (state.deadLetters.size === 0) return null;
  const retry = async (consumer: Consumer) => {
    setProblem(null);
    setAsked(consumer);
    try {
      await store.command({ type: "retry_dead_letter", consumer });
    } catch (error) {
      setProblem(problemOf(error));
    } finally {
      setAsked(null);
    }
  };
  return (
    <section aria-label="Not delivered" className="space-y-2 border-b border-line bg-surface px-3 py-2 lg:px-5" data-testid="dead-letters">
      {[...state.deadLetters].map(([consumer, why]) => (
        <div key={consumer} role="status" className="flex flex-wrap items-start gap-x-3 gap-y-2 rounded-xl border border-warn/30 bg-warn-soft px-3.5 py-2.5">
          <Icon name="warn" className="mt-0.5 size-5 text-warn" />
          <div className="min-w-0 flex-1 basis-60">
            <p className="wrap-anywhere font-medium">
              {CONSUMER_TITLES[consumer]} {withCode(why.message)}
            </p>
            {why.hint && <p className="wrap-anywhere text-ink-2">{withCode(why.hint)}</p>}
            <p className="mt-0.5 font-mono text-xs text-ink-3">{why.code}</p>
          </div>
          <Button icon="refresh" isBusy={asked === consumer} onClick={() => void retry(consumer)} aria-label={`Try again: ${CONSUMER_NAMES[consumer]}`}>
            Try again
          </Button>
        </div>
      ))}
      {problem && <ProblemBox problem={problem} onDismiss={() => setProblem(null)} />}
    </section>
  );
}

const CONSUMER_TITLES: Record<Consumer, string> = {
  directory: "The list of sessions is behind this session.",
  collector: "Traces of this session were not delivered.",
  forge: "The state of the change could not be brought here.",
  family: "Sessions that this one began, or the one that began it, could not be told.",
};
