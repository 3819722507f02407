/** What the model sees of the session, part by part, and what the next request costs. */
import { useMutation, useQuery } from "@tanstack/react-query";
import { useState } from "react";
import { api, ApiError, newKey } from "../api/client";
import { sessionContextQuery } from "../api/queries";
import type { ContextPartKind, ContextView } from "../api/types";
import { cost, count, counted } from "../lib/format";
import { Button, ErrorBox } from "../ui/basics";
import { Section } from "./details";
import { useRights } from "./rights";
import type { SessionState } from "./state";

const NAMES: Record<ContextPartKind, string> = {
  tools: "Tools",
  system: "System prompt",
  instructions: "AGENTS.md",
  skills: "Skills",
  environment: "Services and ports",
  summary: "Summary",
  prompts: "Prompts",
  answers: "Answers",
  tool_outputs: "Outputs of tools",
};

/** Asks the server only once it is opened, and while a turn runs not for each of its entries. */
export function Context({ id, state }: { id: string; state: SessionState }) {
  const [isOpen, setOpen] = useState(false);
  const { mayPrompt } = useRights(id);
  const isRunning = state.running !== null;
  const { data, error, isFetching, refetch } = useQuery({ ...sessionContextQuery(id, state.running ?? state.headSeq), enabled: isOpen });
  const compact = useMutation({
    mutationFn: async () => {
      const receipt = await api.submit(id, newKey(), { type: "compact" });
      if (receipt.problem) throw new ApiError(409, receipt.problem);
    },
  });
  const refusal = isRunning ? "Wait for the end of the turn, or stop it" : state.turns.size === 0 ? "Nothing was answered yet" : undefined;
  return (
    <Section title="Context">
      <details onToggle={(event) => setOpen(event.currentTarget.open)} data-testid="context">
        <summary className="min-h-9 cursor-pointer text-ink-2 hover:text-ink">What the model sees</summary>
        <ErrorBox error={error} />
        {isOpen && !data && !error && <p className="text-ink-2">Reading the log…</p>}
        {data && <Shown context={data} />}
        {data && isRunning && (
          <Button className="mt-2" isBusy={isFetching} onClick={() => void refetch()}>
            Look again
          </Button>
        )}
      </details>
      {mayPrompt && (
        <div className="mt-2">
          <ErrorBox error={compact.error} className="mb-2" />
          <Button icon="collapse" isBusy={compact.isPending} disabled={refusal !== undefined} title={refusal} onClick={() => compact.mutate()}>
            Summarise now
          </Button>
          <p className="mt-1 text-[13px] text-ink-3">The model then goes on from a summary, which makes requests cheaper. It happens by itself when its window is full. Nothing is deleted.</p>
        </div>
      )}
    </Section>
  );
}

function Shown({ context }: { context: ContextView }) {
  const { window_tokens: window, reserve_tokens: reserve, next_request: next } = context;
  const whole = Math.max(1, window ?? context.tokens);
  return (
    <div className="mt-1">
      {window != null && (
        <>
          <div className="flex h-2 overflow-hidden rounded-full bg-sunken" role="img" aria-label={`${Math.round((context.tokens / whole) * 100)} % of the model's window`}>
            {context.parts.map(({ part, tokens }, at) => (
              <span key={part} className="h-full bg-accent" style={{ width: `${(tokens / whole) * 100}%`, opacity: 1 - (at % 3) * 0.25 }} />
            ))}
          </div>
          <p className="mt-1 text-[13px] text-ink-3">
            {count(context.tokens)} of {count(window)} tokens{reserve != null && `; room is made at ${count(window - reserve)}`}
          </p>
        </>
      )}
      <table className="mt-2 w-full text-[14px]">
        <caption className="sr-only">Parts of the next request</caption>
        <thead>
          <tr className="text-left text-[13px] text-ink-3">
            <th className="font-normal">Part</th>
            <th className="text-right font-normal">Count</th>
            <th className="text-right font-normal">Tokens, about</th>
          </tr>
        </thead>
        <tbody>
          {context.parts.map(({ part, tokens, items }) => (
            <tr key={part}>
              <td className="py-0.5">{NAMES[part] ?? part}</td>
              <td className="py-0.5 text-right tabular-nums">{items}</td>
              <td className="py-0.5 text-right tabular-nums">{count(tokens)}</td>
            </tr>
          ))}
        </tbody>
        <tfoot>
          <tr className="border-t border-line font-medium">
            <td className="pt-1">Next request</td>
            <td />
            <td className="pt-1 text-right tabular-nums">{count(context.tokens)}</td>
          </tr>
        </tfoot>
      </table>
      <ul className="mt-2 space-y-1 text-[13px] text-ink-3">
        <li>{context.counted_tokens === 0 ? "All of it is estimated; the next answer brings the provider's count." : `${count(context.counted_tokens)} tokens were counted by the provider, the rest is estimated.`}</li>
        <li>{next ? `Sending it costs ${money(next.cached_microusd)} from the provider's cache, ${money(next.uncached_microusd)} without.` : "What sending it costs is not known for this model."}</li>
        {context.pruned_outputs > 0 && <li>{counted(context.pruned_outputs, "output")} of tools left the model's view.</li>}
        {context.compactions.length > 0 && <li>Summarised {counted(context.compactions.length, "time")}, last from {count(context.compactions.at(-1)?.tokens_before ?? 0)} to {count(context.compactions.at(-1)?.tokens_after ?? 0)} tokens.</li>}
      </ul>
    </div>
  );
}

/** A request from the cache costs less than a cent. */
const money = (microusd: number) => (microusd < 10_000 ? `$${(microusd / 1_000_000).toFixed(4)}` : cost(microusd));
