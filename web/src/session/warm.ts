/**
 * Makes a sandbox ready while a prompt is being written. Asked at the first keystroke and then at most once in twenty
 * seconds for each repository, whatever page types; never waited for, and never a reason to say that something failed.
 */
import { useCallback, useEffect, useRef, useState } from "react";
import { api } from "../api/client";
import type { WarmView } from "../api/types";

export const AGAIN_MS = 20_000;
export type WarmState = WarmView["state"];

/** When each repository was last asked for. Exported for its test. */
export class Pace {
  private readonly asked = new Map<string, number>();

  isDue(repository: string, nowMs: number): boolean {
    const last = this.asked.get(repository);
    if (last !== undefined && nowMs - last < AGAIN_MS) return false;
    this.asked.set(repository, nowMs);
    return true;
  }
}

const pace = new Pace();
/** What was last answered: another box for the same repository shows it at once. */
const known = new Map<string, WarmState>();

export function useWarm(repository: string): { state: WarmState | null; onType: () => void } {
  const [state, setState] = useState<WarmState | null>(null);
  const shown = useRef(repository);
  useEffect(() => {
    shown.current = repository;
    setState(null);
  }, [repository]);
  const onType = useCallback(() => {
    if (repository === "") return;
    setState(known.get(repository) ?? null);
    if (!pace.isDue(repository, Date.now())) return;
    api.warm(repository).then(
      (view) => {
        known.set(repository, view.state);
        if (shown.current === repository) setState(view.state);
      },
      () => known.delete(repository),
    );
  }, [repository]);
  return { state, onType };
}
