/** That a sandbox is being made ready for what is written: a few quiet words where nothing else moves. */
import type { WarmState } from "./warm";

const WORDS: Partial<Record<WarmState, string>> = { ready: "Sandbox ready", preparing: "Preparing a sandbox" };

export function WarmHint({ state }: { state: WarmState | null }) {
  const words = state ? WORDS[state] : undefined;
  return (
    <span role="status" data-testid="warm" data-state={state ?? "none"} className="inline-flex min-w-0 items-center gap-1.5 truncate text-[13px] text-ink-3">
      {words && (
        <>
          <span aria-hidden="true" className={`size-2 shrink-0 rounded-full ${state === "ready" ? "bg-accent" : "border-2 border-ink-3"}`} />
          <span className="truncate">{words}</span>
        </>
      )}
    </span>
  );
}
