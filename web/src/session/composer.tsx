/** The prompt box with what waits above it: todo list, queue, problems; send, delivery choice and stop. */
import { useQuery } from "@tanstack/react-query";
import { type KeyboardEvent, useEffect, useRef, useState } from "react";
import { problemOf } from "../api/client";
import { meQuery } from "../api/queries";
import type { Delivery, Problem } from "../api/types";
import { Button, ProblemBox, useMedia } from "../ui/basics";
import { useDraft } from "./draft";
import { DraftOffer } from "./draft-offer";
import { ModelChoice } from "./model-choice";
import { Queue } from "./queue";
import { AttachArea, AttachButton } from "./attach";
import { lookingOnly, useRights } from "./rights";
import { phaseText } from "./say";
import type { SessionState } from "./state";
import type { SessionStore } from "./store";
import { TodoBar } from "./todo";
import { useAttachments } from "./use-attachments";
import { useWarm } from "./warm";
import { WarmHint } from "./warm-hint";

export function Composer({ store, state }: { store: SessionStore; state: SessionState }) {
  const { data: me } = useQuery(meQuery);
  const rights = useRights(store.id);
  const [text, setText] = useDraft(store.draft, store.typing);
  const [delivery, setDelivery] = useState<Delivery>("queue");
  const [problem, setProblem] = useState<Problem | null>(null);
  const attachments = useAttachments(store.id);
  const isTouch = useMedia("(pointer: coarse)");
  const box = useRef<HTMLTextAreaElement>(null);
  const isRunning = state.running !== null;
  // A sandbox that runs needs no other.
  const needsSandbox = state.sandbox === null || ["stopped", "lost", "failed"].includes(state.sandbox.phase);
  const warm = useWarm(needsSandbox ? state.repository : "");
  const isStopping = isRunning && state.turns.get(state.running ?? "")?.isStopping === true;

  const send = () => {
    const sent = text.trim();
    if (sent === "" || attachments.isBusy || attachments.hasFailed) return;
    setText("");
    setProblem(null);
    const { refs, files, clear } = attachments;
    store.prompt(sent, isRunning ? delivery : "queue", refs).then(() => clear(files.map((file) => file.key)), (error: unknown) => {
      setProblem(problemOf(error));
      // What could not be sent goes back, before anything typed since.
      setText((now) => (now.trim() === "" ? sent : `${sent}\n${now}`));
    });
    box.current?.focus();
  };
  const stop = (hold_queue = false) => {
    setProblem(null);
    store.command({ type: "stop", hold_queue }).catch((error: unknown) => {
      const reason = problemOf(error);
      if (reason.code !== "not_running") setProblem(reason);
    });
  };
  useEscape(isRunning && !isStopping && rights.mayPrompt, () => stop());
  const onKeyDown = (event: KeyboardEvent) => {
    if (event.key !== "Enter" || event.shiftKey || event.nativeEvent.isComposing) return;
    // On a phone's keyboard Enter is the only way to a new line.
    if (isTouch && !event.ctrlKey && !event.metaKey) return;
    event.preventDefault();
    send();
  };

  return (
    <div className="border-t border-line bg-bg pb-[env(safe-area-inset-bottom)]">
      <div className="mx-auto max-w-[760px] space-y-2 px-2.5 py-2.5 lg:px-6 lg:pb-4">
        {problem && <ProblemBox problem={problem} onDismiss={() => setProblem(null)} />}
        {state.todo.length > 0 && <TodoBar items={state.todo} isRunning={isRunning} />}
        <DraftOffer box={store.draft} />
        <Queue store={store} state={state} me={me?.person} mayPrompt={rights.mayPrompt} onProblem={setProblem} onStopAndHold={() => stop(true)} />
        {!rights.mayPrompt ? (
          <p className="px-1 py-2 text-ink-2" data-testid="looking-only">{lookingOnly(rights, me?.person.role === "viewer")}</p>
        ) : (
          <form
            className="card focus-within:border-accent"
            onSubmit={(event) => {
              event.preventDefault();
              send();
            }}
          >
            <AttachArea attachments={attachments}>
            <label htmlFor="prompt" className="sr-only">
              Prompt
            </label>
            <textarea id="prompt" ref={box} rows={1} className="prompt-box block max-h-[40dvh] min-h-12 w-full px-3.5 pt-3" placeholder={isRunning ? "Steer it, or ask for what comes next" : "Ask for a change"} value={text} onInput={warm.onType} onChange={(event) => setText(event.target.value)} onKeyDown={onKeyDown} />
            </AttachArea>
            <div className="flex flex-wrap items-center gap-2 p-2">
              <AttachButton attachments={attachments} />
              <ModelChoice store={store} state={state} onProblem={setProblem} />
              {isRunning ? <DeliveryChoice value={delivery} onChange={setDelivery} /> : warm.state === "ready" || warm.state === "preparing" ? <WarmHint state={warm.state} /> : <SandboxLine state={state} />}
              <span className="ml-auto flex gap-2">
                {isRunning && (
                  <Button look="danger" icon="stop" onClick={() => stop()} disabled={isStopping} title="Stop the running turn (Escape)">
                    {isStopping ? "Stopping" : "Stop"}
                  </Button>
                )}
                <Button type="submit" look="primary" icon="send" disabled={text.trim() === "" || attachments.isBusy || attachments.hasFailed}>
                  <span className={isRunning ? "max-sm:sr-only" : ""}>Send</span>
                </Button>
              </span>
            </div>
          </form>
        )}
      </div>
    </div>
  );
}

function SandboxLine({ state }: { state: SessionState }) {
  if (!state.sandbox) return null;
  return (
    <span className="truncate px-1.5 text-[13px] text-ink-3" data-testid="sandbox" data-phase={state.sandbox.phase}>
      {phaseText(state.sandbox.phase)}
    </span>
  );
}

const DELIVERIES: { value: Delivery; label: string; says: string }[] = [
  { value: "queue", label: "After this turn", says: "Waits until the running turn is done" },
  { value: "insert", label: "Now", says: "Joins the running turn at its next step" },
];

function DeliveryChoice({ value, onChange }: { value: Delivery; onChange: (value: Delivery) => void }) {
  return (
    <fieldset className="flex rounded-[10px] bg-sunken p-0.5">
      <legend className="sr-only">When this prompt is answered</legend>
      {DELIVERIES.map((choice) => (
        <label key={choice.value} title={choice.says} className="flex min-h-10 cursor-pointer items-center rounded-lg px-2.5 text-[13.5px] text-ink-2 has-checked:bg-surface has-checked:text-ink has-checked:shadow-(--shadow) has-focus-visible:outline-2 has-focus-visible:outline-accent">
          <input type="radio" name="delivery" value={choice.value} checked={value === choice.value} onChange={() => onChange(choice.value)} className="sr-only" />
          {choice.label}
        </label>
      ))}
    </fieldset>
  );
}

/** Escape stops the turn, unless something nearer has used it. */
function useEscape(isActive: boolean, act: () => void): void {
  const latest = useRef(act);
  latest.current = act;
  useEffect(() => {
    if (!isActive) return;
    const onKeyDown = (event: globalThis.KeyboardEvent) => {
      const isTaken = event.defaultPrevented || event.isComposing || document.querySelector(":popover-open") !== null;
      if (event.key === "Escape" && !isTaken) latest.current();
    };
    window.addEventListener("keydown", onKeyDown);
    return () => window.removeEventListener("keydown", onKeyDown);
  }, [isActive]);
}
