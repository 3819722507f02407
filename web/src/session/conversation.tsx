/** The log as a conversation. Follows the newest entry until the person scrolls up. */
import { type RefObject, useCallback, useEffect, useLayoutEffect, useRef, useState } from "react";
import { Button, Empty, Loading } from "../ui/basics";
import { Icon } from "../ui/icon";
import { ImportedFrom } from "./archive";
import { ForkedFrom } from "./fork";
import { ItemView } from "./items";
import { NewMark } from "./live";
import { askKey } from "./reduce";
import { announcement, forkRefusal, phaseText } from "./say";
import type { Item, SessionState } from "./state";
import type { Outgoing } from "./store";

const NEAR_PX = 60;
const NEAR_TOP_PX = 300;
/** Items further than this from the end are laid out only near the screen. */
const FAR_FROM = 60;
/** Items drawn at first, and with each step back. */
const PAGE = 300;

interface Props {
  state: SessionState;
  outgoing: readonly Outgoing[];
  onSeen: (seq: number) => void;
  isLoadingEarlier: boolean;
  loadEarlier: () => Promise<void>;
}

export function Conversation({ state, outgoing, onSeen, isLoadingEarlier, loadEarlier }: Props) {
  const { box, content, isFollowing, jump } = useFollow(state, outgoing);
  useSteadyView(box, isFollowing, state.firstSeq);
  useSeen(state.isCaughtUp && isFollowing ? state.headSeq : 0, onSeen);
  const isEmpty = state.order.length === 0 && state.queue.length === 0 && outgoing.length === 0;
  return (
    <div className="relative min-h-0 flex-1">
      <div ref={box} className="h-full overflow-y-auto overscroll-contain" tabIndex={0} aria-label="Log of the session" role="log" aria-live="off">
        <div ref={content} className="mx-auto max-w-[760px] px-3.5 pb-4 pt-5 lg:px-6">
          {state.forkedFrom && state.firstSeq <= 1 && <ForkedFrom from={state.forkedFrom} />}
          {state.importedFrom && !state.forkedFrom && state.firstSeq <= 1 && <ImportedFrom from={state.importedFrom} />}
          {isEmpty && !state.isCaughtUp && <Loading what="the session" />}
          {isEmpty && state.isCaughtUp && (
            <Empty icon="chat" title="Nothing has been asked yet">
              Write the first prompt below.
            </Empty>
          )}
          <Items state={state} box={box} isLoadingEarlier={isLoadingEarlier} loadEarlier={loadEarlier} />
          {outgoing.map((prompt) => (
            <OutgoingPrompt key={prompt.key} prompt={prompt} />
          ))}
          <WorkingLine state={state} />
        </div>
      </div>
      {!isFollowing && (
        <Button icon="down" onClick={jump} className="absolute bottom-3 left-1/2 -translate-x-1/2 rounded-full! shadow-md">
          Jump to latest
        </Button>
      )}
      <p className="sr-only" role="status" aria-live="polite">
        {announcement(state)}
      </p>
    </div>
  );
}

function Items({ state, box, isLoadingEarlier, loadEarlier }: Omit<Props, "outgoing" | "onSeen"> & { box: RefObject<HTMLDivElement | null> }) {
  const [page, setPage] = useState(1);
  const [hasFailed, setFailed] = useState(false);
  const earlier = async () => {
    try {
      await loadEarlier();
      setPage((shown) => shown + 1);
      setFailed(false);
    } catch {
      setFailed(true);
    }
  };
  const hidden = Math.max(0, state.order.length - page * PAGE);
  const far = state.order.length - FAR_FROM - hidden;
  return (
    <>
      {hidden > 0 && (
        <p className="mb-4 text-center">
          <Button onClick={() => setPage(page + 1)}>Show {Math.min(hidden, PAGE)} earlier entries</Button>
        </p>
      )}
      {hidden === 0 && state.firstSeq > 1 && (
        <div className="mb-4 text-center">
          <WhenScrolledTo box={box} act={() => !isLoadingEarlier && !hasFailed && void earlier()} />
          <Button onClick={() => void earlier()} isBusy={isLoadingEarlier} data-testid="load-earlier">
            {hasFailed ? "Earlier entries could not be loaded. Try again" : "Load earlier entries"}
          </Button>
        </div>
      )}
      {state.order.slice(hidden).map((key, index) => {
        const item = state.items.get(key);
        // A question is shown by what was asked and answered, not as a call too.
        if (!item || (item.kind === "tool" && item.name === "question" && state.items.has(askKey(item.call)))) return null;
        return (
          <div key={key} className={`first:*:mt-0 ${index < far ? "far" : ""}`}>
            {key === state.newFrom && <NewMark />}
            <ItemView item={item} turn={turnOf(item, state)} noFork={item.kind === "turn_end" ? forkRefusal(state, item.turn) : null} />
          </div>
        );
      })}
    </>
  );
}

/** Acts when the person scrolls up to here; what is only drawn here at first does not count. */
function WhenScrolledTo({ box, act }: { box: RefObject<HTMLDivElement | null>; act: () => void }) {
  const acts = useRef(act);
  acts.current = act;
  useEffect(() => {
    const element = box.current;
    if (!element) return;
    let top = element.scrollTop;
    const onScroll = () => {
      const isUp = element.scrollTop < top;
      top = element.scrollTop;
      if (isUp && top < NEAR_TOP_PX) acts.current();
    };
    element.addEventListener("scroll", onScroll, { passive: true });
    return () => element.removeEventListener("scroll", onScroll);
  }, [box]);
  return null;
}

/** What is read stays where it is when more of the past comes above it. */
function useSteadyView(box: RefObject<HTMLDivElement | null>, isFollowing: boolean, firstSeq: number) {
  const seen = useRef({ firstSeq, fromEnd: 0 });
  useLayoutEffect(() => {
    const element = box.current;
    if (!element) return;
    if (seen.current.firstSeq > firstSeq && !isFollowing) element.scrollTop = element.scrollHeight - seen.current.fromEnd;
    seen.current.firstSeq = firstSeq;
  }, [box, firstSeq, isFollowing]);
  useEffect(() => {
    const element = box.current;
    if (!element) return;
    const note = () => (seen.current.fromEnd = element.scrollHeight - element.scrollTop);
    note();
    element.addEventListener("scroll", note, { passive: true });
    return () => element.removeEventListener("scroll", note);
  }, [box]);
}

/** The turn that is shown with this item: its start with its first prompt, its files with its end. */
function turnOf(item: Item, state: SessionState) {
  const turn = state.turns.get(item.turn ?? "");
  if (item.kind === "turn_end") return turn;
  return item.kind === "prompt" && turn?.firstPrompt === item.prompt.id ? turn : undefined;
}

function OutgoingPrompt({ prompt }: { prompt: Outgoing }) {
  return (
    <div className="mt-6 rounded-2xl border border-dashed border-line-strong bg-surface/60 px-4 py-3" data-testid="prompt-sending">
      <p className="whitespace-pre-wrap break-words text-ink-2">{prompt.text}</p>
      <p className="mt-1 flex items-center gap-1.5 text-[13px] text-ink-3">
        <Icon name="arc" className="spin size-3.5" /> Sending
      </p>
    </div>
  );
}

function WorkingLine({ state }: { state: SessionState }) {
  if (state.running === null) return null;
  const last = state.items.get(state.order.at(-1) ?? "");
  const isShownAlready = last?.kind === "tool" || ((last?.kind === "text" || last?.kind === "thinking") && !last.isDone && last.body.text !== "");
  const isStopping = state.turns.get(state.running)?.isStopping === true;
  const isAsking = last?.kind === "ask" && last.end === null;
  if ((isShownAlready || isAsking) && !isStopping) return null;
  const phase = state.sandbox && state.sandbox.phase !== "ready" ? phaseText(state.sandbox.phase) : null;
  return (
    <p className="mt-4 flex items-center gap-2 text-ink-3" data-testid="working">
      <span className="breathe size-2 rounded-full bg-accent" />
      {isStopping ? "Stopping" : last?.kind === "retry" && !last.isOver ? "Waiting for the model" : last?.kind === "compaction" && !last.done ? "Summarising" : "Working"}
      {phase && <span>· {phase}</span>}
    </p>
  );
}

/** What is at the end has been seen when the page is in sight. */
function useSeen(seq: number, onSeen: (seq: number) => void): void {
  useEffect(() => {
    const look = () => {
      if (seq > 0 && document.visibilityState === "visible") onSeen(seq);
    };
    look();
    document.addEventListener("visibilitychange", look);
    return () => document.removeEventListener("visibilitychange", look);
  }, [seq, onSeen]);
}

/** Keeps the end in view while `isFollowing`; scrolling up ends that, reaching the end begins it again. */
function useFollow(...changes: unknown[]) {
  const box = useRef<HTMLDivElement>(null);
  const content = useRef<HTMLDivElement>(null);
  const follows = useRef(true);
  const lastTop = useRef(0);
  const [isFollowing, setFollowing] = useState(true);
  const toEnd = useCallback(() => {
    if (box.current && follows.current) box.current.scrollTop = box.current.scrollHeight;
  }, []);
  const set = useCallback((value: boolean) => {
    follows.current = value;
    setFollowing(value);
  }, []);
  useLayoutEffect(toEnd, changes);
  useEffect(() => {
    const element = box.current;
    if (!element || !content.current) return;
    const onScroll = () => {
      const isNear = element.scrollHeight - element.scrollTop - element.clientHeight < NEAR_PX;
      const wentUp = element.scrollTop < lastTop.current - 1;
      lastTop.current = element.scrollTop;
      if (isNear) set(true);
      else if (wentUp) set(false);
    };
    element.addEventListener("scroll", onScroll, { passive: true });
    // Text that arrives lazily (markdown, diffs) and a resized window change heights without a new entry.
    const observer = new ResizeObserver(toEnd);
    observer.observe(content.current);
    observer.observe(element);
    return () => {
      element.removeEventListener("scroll", onScroll);
      observer.disconnect();
    };
  }, [set, toEnd]);
  const jump = () => {
    set(true);
    toEnd();
  };
  return { box, content, isFollowing, jump };
}
