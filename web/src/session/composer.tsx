/** The prompt box with what waits above it: todo list, queued prompts, problems; send, delivery choice and stop. */
import { useQuery } from "@tanstack/react-query";
import { type KeyboardEvent, useEffect, useRef, useState } from "react";
import { problemOf } from "../api/client";
import { meQuery } from "../api/queries";
import type { Delivery, Problem } from "../api/types";
import { Button, IconButton, ProblemBox, useMedia } from "../ui/basics";
import { Icon } from "../ui/icon";
import { useDraft } from "./draft";
import { DraftOffer } from "./draft-offer";
import { phaseText } from "./say";
import type { Prompt, SessionState } from "./state";
import type { SessionStore } from "./store";
import { TodoBar } from "./todo";
import { useWarm } from "./warm";
import { WarmHint } from "./warm-hint";

export function Composer({ store, state }: { store: SessionStore; state: SessionState }) {
  const { data: me } = useQuery(meQuery);
  const [text, setText] = useDraft(store.draft, store.typing);
  const [delivery, setDelivery] = useState<Delivery>("queue");
  const [problem, setProblem] = useState<Problem | null>(null);
  const isTouch = useMedia("(pointer: coarse)");
  const box = useRef<HTMLTextAreaElement>(null);
  const isRunning = state.running !== null;
  // A sandbox that runs needs no other.
  const needsSandbox = state.sandbox === null || ["stopped", "lost", "failed"].includes(state.sandbox.phase);
  const warm = useWarm(needsSandbox ? state.repository : "");
  const isStopping = isRunning && state.turns.get(state.running ?? "")?.isStopping === true;

  const send = () => {
    const sent = text.trim();
    if (sent === "") return;
    setText("");
    setProblem(null);
    store.prompt(sent, isRunning ? delivery : "queue").catch((error: unknown) => {
      setProblem(problemOf(error));
      // What could not be sent goes back, before anything typed since.
      setText((now) => (now.trim() === "" ? sent : `${sent}\n${now}`));
    });
    box.current?.focus();
  };
  const stop = () => {
    setProblem(null);
    store.command({ type: "stop" }).catch((error: unknown) => {
      const reason = problemOf(error);
      if (reason.code !== "not_running") setProblem(reason);
    });
  };
  useEscape(isRunning && !isStopping, stop);
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
        <Queue store={store} state={state} me={me?.person} onProblem={setProblem} />
        {me?.person.role === "viewer" ? (
          <p className="px-1 py-2 text-ink-2">As a viewer you can watch; ask an administrator to become a member.</p>
        ) : (
          <form
            className="card focus-within:border-accent"
            onSubmit={(event) => {
              event.preventDefault();
              send();
            }}
          >
            <label htmlFor="prompt" className="sr-only">
              Prompt
            </label>
            <textarea id="prompt" ref={box} rows={1} className="prompt-box block max-h-[40dvh] min-h-12 w-full px-3.5 pt-3" placeholder={isRunning ? "Steer it, or ask for what comes next" : "Ask for a change"} value={text} onInput={warm.onType} onChange={(event) => setText(event.target.value)} onKeyDown={onKeyDown} />
            <div className="flex flex-wrap items-center gap-2 p-2">
              {isRunning ? <DeliveryChoice value={delivery} onChange={setDelivery} /> : warm.state === "ready" || warm.state === "preparing" ? <WarmHint state={warm.state} /> : <SandboxLine state={state} />}
              <span className="ml-auto flex gap-2">
                {isRunning && (
                  <Button look="danger" icon="stop" onClick={stop} disabled={isStopping} title="Stop the running turn (Escape)">
                    {isStopping ? "Stopping" : "Stop"}
                  </Button>
                )}
                <Button type="submit" look="primary" icon="send" disabled={text.trim() === ""}>
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

interface QueueProps {
  store: SessionStore;
  state: SessionState;
  me: { id: string; role: string } | undefined;
  onProblem: (problem: Problem | null) => void;
}

function Queue({ store, state, me, onProblem }: QueueProps) {
  if (state.queue.length === 0 || state.running === null) return null;
  const fail = (error: unknown) => onProblem(problemOf(error));
  return (
    <section aria-label="Queue" className="card divide-y divide-line" data-testid="queue">
      {state.queue.map((id) => {
        const prompt = state.prompts.get(id);
        if (!prompt) return null;
        const mayChange = me !== undefined && (me.role === "admin" || me.id === prompt.author.on_behalf_of);
        return (
          <QueuedPrompt
            key={id}
            prompt={prompt}
            mayChange={mayChange}
            onEdit={(text) => store.command({ type: "edit_prompt", prompt: id, text }).catch(fail)}
            onWithdraw={() => void store.command({ type: "withdraw_prompt", prompt: id }).catch(fail)}
          />
        );
      })}
    </section>
  );
}

function QueuedPrompt({ prompt, mayChange, onEdit, onWithdraw }: { prompt: Prompt; mayChange: boolean; onEdit: (text: string) => void; onWithdraw: () => void }) {
  const [edited, setEdited] = useState<string | null>(null);
  const save = () => {
    if (edited !== null && edited.trim() !== "" && edited !== prompt.text) onEdit(edited.trim());
    setEdited(null);
  };
  return (
    <div className="flex items-start gap-2 py-1.5 pl-3 pr-1.5" data-testid="queued-prompt">
      <Icon name="clock" className="mt-2.5 size-[18px] text-ink-3" />
      <div className="min-w-0 flex-1 py-2">
        {edited === null ? (
          <p className="line-clamp-3 whitespace-pre-wrap break-words">{prompt.text}</p>
        ) : (
          <textarea
            aria-label="Edit"
            autoFocus
            className="field prompt-box"
            value={edited}
            onChange={(event) => setEdited(event.target.value)}
            onKeyDown={(event) => {
              if (event.key === "Enter" && !event.shiftKey) {
                event.preventDefault();
                save();
              }
              if (event.key === "Escape") {
                event.preventDefault();
                setEdited(null);
              }
            }}
          />
        )}
        <p className="text-[12.5px] text-ink-3">
          {prompt.author.name} · {prompt.delivery === "insert" ? "joins at the next step" : "waits for this turn to end"}
        </p>
      </div>
      {mayChange &&
        (edited === null ? (
          <>
            <IconButton label="Edit while it waits" icon="edit" onClick={() => setEdited(prompt.text)} />
            <IconButton label="Withdraw" icon="trash" onClick={onWithdraw} />
          </>
        ) : (
          <>
            <IconButton label="Save" icon="check" onClick={save} />
            <IconButton label="Cancel editing" icon="cross" onClick={() => setEdited(null)} />
          </>
        ))}
    </div>
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
