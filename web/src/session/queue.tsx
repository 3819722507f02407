/** The prompts that wait: their order, words and delivery, and what a stop held back. Rules are the server's; see `Command` in the API. */
import { type KeyboardEvent, useLayoutEffect, useRef, useState } from "react";
import { problemOf } from "../api/client";
import type { Command, Problem } from "../api/types";
import { Button, IconButton } from "../ui/basics";
import { Icon } from "../ui/icon";
import type { Prompt, SessionState } from "./state";
import type { SessionStore } from "./store";

interface Me {
  id: string;
  role: string;
}
interface QueueProps {
  store: SessionStore;
  state: SessionState;
  me: Me | undefined;
  mayPrompt: boolean;
  onProblem: (problem: Problem | null) => void;
  onStopAndHold: () => void;
}

export function Queue({ store, state, me: reader, mayPrompt, onProblem, onStopAndHold }: QueueProps) {
  // Who only looks changes nothing, also not what they once asked.
  const me = mayPrompt ? reader : undefined;
  const list = useRef<HTMLOListElement>(null);
  const focus = useRef<{ prompt: string; label: string } | null>(null);
  const [said, setSaid] = useState("");
  const waiting = state.queue.flatMap((id) => state.prompts.get(id) ?? []);
  const isHeld = waiting.some((prompt) => prompt.isHeld);
  const isRunning = state.running !== null;
  // A row that changes its place in the document loses the keyboard.
  useLayoutEffect(() => {
    const wanted = focus.current;
    if (!wanted) return;
    const buttons = [...(list.current?.querySelector(`[data-prompt="${wanted.prompt}"]`)?.querySelectorAll("button") ?? [])].filter((button) => !button.disabled);
    (buttons.find((button) => button.ariaLabel === wanted.label) ?? buttons[0])?.focus();
    focus.current = null;
  }, [state.queue]);
  // Between a turn's end and the next one's start a prompt is about to be taken.
  if (waiting.length === 0 || !(isRunning || isHeld)) return null;

  const give = async (command: Command) => {
    onProblem(null);
    try {
      await store.command(command);
    } catch (error) {
      onProblem(problemOf(error));
    }
  };
  const shift = (prompt: Prompt, by: -1 | 1) => {
    const from = waiting.indexOf(prompt);
    if (!mayShift(waiting, from, by, me)) return;
    const label = document.activeElement?.ariaLabel ?? "";
    focus.current = { prompt: prompt.id, label };
    setSaid(`Moved to place ${from + by + 1} of ${waiting.length}.`);
    void give({ type: "move_prompt", prompt: prompt.id, before: waiting[by < 0 ? from - 1 : from + 2]?.id ?? null });
  };
  return (
    <section aria-label="Queue" className="card max-h-[45dvh] overflow-y-auto" data-testid="queue">
      <div className="sticky top-0 z-10 flex min-h-11 flex-wrap items-center gap-2 border-b border-line bg-surface py-1 pl-3 pr-1.5">
        <h2 className="flex-1 font-sans text-[13px] font-medium text-ink-2">
          {waiting.length === 1 ? "1 prompt waits" : `${waiting.length} prompts wait`}
          {isHeld && ", held back until released"}
        </h2>
        {isHeld && me && (
          <Button look="quiet" icon="send" onClick={() => void give({ type: "release_queue" })}>
            Release
          </Button>
        )}
        {isRunning && !waiting.every((prompt) => prompt.isHeld) && me && (
          <Button look="ghost" icon="stop" className="text-[13.5px]" onClick={onStopAndHold} title="Stop the running turn, and keep what waits from being answered until it is released">
            Stop and hold
          </Button>
        )}
      </div>
      <ol ref={list} className="divide-y divide-line">
        {waiting.map((prompt, index) => (
          <QueuedPrompt key={prompt.id} prompt={prompt} me={me} isRunning={isRunning} mayUp={mayShift(waiting, index, -1, me)} mayDown={mayShift(waiting, index, 1, me)} onShift={(by) => shift(prompt, by)} give={give} />
        ))}
      </ol>
      <p role="status" className="sr-only">
        {said}
      </p>
    </section>
  );
}

const isOwn = (prompt: Prompt, me: Me | undefined) => prompt.author.on_behalf_of === me?.id;
const mayChange = (prompt: Prompt, me: Me | undefined) => isOwn(prompt, me) || me?.role === "admin";

/** One place earlier or later: never ahead of another person's, but for an admin. */
function mayShift(waiting: Prompt[], from: number, by: -1 | 1, me: Me | undefined): boolean {
  const [prompt, other] = [waiting[from], waiting[from + by]];
  if (!prompt || !other || !mayChange(prompt, me)) return false;
  return by > 0 || me?.role === "admin" || isOwn(other, me);
}

function whenAnswered(prompt: Prompt): string {
  if (prompt.isHeld) return "held back";
  return prompt.delivery === "insert" ? "joins at the next step" : "waits for this turn to end";
}

interface RowProps {
  prompt: Prompt;
  me: Me | undefined;
  isRunning: boolean;
  mayUp: boolean;
  mayDown: boolean;
  onShift: (by: -1 | 1) => void;
  give: (command: Command) => Promise<void>;
}

function QueuedPrompt({ prompt, me, isRunning, mayUp, mayDown, onShift, give }: RowProps) {
  const [edited, setEdited] = useState<string | null>(null);
  const { id } = prompt;
  const save = () => {
    const text = edited?.trim() ?? "";
    if (text !== "" && text !== prompt.text) void give({ type: "edit_prompt", prompt: id, text });
    setEdited(null);
  };
  const onKeyDown = (event: KeyboardEvent) => {
    if (!event.altKey || edited !== null || (event.key !== "ArrowUp" && event.key !== "ArrowDown")) return;
    event.preventDefault();
    onShift(event.key === "ArrowUp" ? -1 : 1);
  };
  const joins = prompt.delivery === "insert";
  return (
    <li className="py-1.5 pl-3 pr-1.5" data-testid="queued-prompt" data-prompt={id} data-delivery={prompt.delivery} data-held={prompt.isHeld || undefined} onKeyDown={onKeyDown}>
      {edited === null ? (
        <p className="line-clamp-3 whitespace-pre-wrap break-words pr-1.5 pt-1">{prompt.text}</p>
      ) : (
        <Edit text={edited} onChange={setEdited} onSave={save} onCancel={() => setEdited(null)} />
      )}
      <div className="flex flex-wrap items-center gap-x-1">
        <p className="flex min-w-0 flex-1 basis-40 items-center gap-1.5 py-1 text-[12.5px] text-ink-3">
          <Icon name={prompt.isHeld ? "stop" : joins ? "insert" : "clock"} className="size-4" />
          <span className="truncate">
            {prompt.author.name} · {whenAnswered(prompt)}
          </span>
        </p>
        {edited !== null ? (
          <span className="ml-auto flex">
            <IconButton label="Save" icon="check" onClick={save} />
            <IconButton label="Cancel editing" icon="cross" onClick={() => setEdited(null)} />
          </span>
        ) : (
          mayChange(prompt, me) && (
            <span className="ml-auto flex">
              <IconButton label="Move up (Alt+Up)" icon="up" className="disabled:opacity-35" disabled={!mayUp} onClick={() => onShift(-1)} />
              <IconButton label="Move down (Alt+Down)" icon="down" className="disabled:opacity-35" disabled={!mayDown} onClick={() => onShift(1)} />
              {isRunning && !prompt.isHeld && (
                <IconButton label={joins ? "Wait for this turn to end" : "Join the running turn"} icon={joins ? "clock" : "insert"} onClick={() => void give({ type: "set_delivery", prompt: id, delivery: joins ? "queue" : "insert" })} />
              )}
              {isOwn(prompt, me) && <IconButton label="Edit while it waits" icon="edit" onClick={() => setEdited(prompt.text)} />}
              <IconButton label="Withdraw" icon="trash" onClick={() => void give({ type: "withdraw_prompt", prompt: id })} />
            </span>
          )
        )}
      </div>
    </li>
  );
}

function Edit({ text, onChange, onSave, onCancel }: { text: string; onChange: (text: string) => void; onSave: () => void; onCancel: () => void }) {
  return (
    <textarea
      aria-label="Edit"
      autoFocus
      className="field prompt-box"
      value={text}
      onChange={(event) => onChange(event.target.value)}
      onKeyDown={(event) => {
        if (event.key === "Enter" && !event.shiftKey && !event.nativeEvent.isComposing) {
          event.preventDefault();
          onSave();
        }
        if (event.key === "Escape") {
          event.preventDefault();
          onCancel();
        }
      }}
    />
  );
}
