/** The log of an image build, live from its beginning. */
import { useQueryClient } from "@tanstack/react-query";
import { useEffect, useLayoutEffect, useRef, useState } from "react";
import type { BuildFrame } from "../api/types";
import { plainTerminal } from "../lib/format";
import { Icon } from "./icon";

/** Beyond this only the end is kept. */
const KEPT = 1_000_000;

interface Log {
  text: string;
  state: "connecting" | "open" | "finished" | "lost";
}

export function BuildLog({ imageId }: { imageId: string }) {
  const log = useBuildLog(imageId);
  const box = useRef<HTMLPreElement>(null);
  const follows = useRef(true);
  useLayoutEffect(() => {
    if (box.current && follows.current) box.current.scrollTop = box.current.scrollHeight;
  }, [log.text]);
  const onScroll = () => {
    const element = box.current;
    if (element) follows.current = element.scrollHeight - element.scrollTop - element.clientHeight < 40;
  };
  return (
    <section aria-label="Build log">
      <p className="mb-1 flex items-center gap-2 text-sm text-ink-2">
        <span className="font-medium text-ink">Build log</span>
        {log.state === "open" && (
          <span className="inline-flex items-center gap-1">
            <Icon name="arc" className="spin size-3.5" /> live
          </span>
        )}
        {log.state === "lost" && <span className="text-warn">The connection was lost; it is tried again.</span>}
      </p>
      <pre ref={box} onScroll={onScroll} tabIndex={0} aria-label="Build output" data-testid="build-log" data-state={log.state} className="output max-h-[60vh] min-h-24">
        {log.text ? plainTerminal(log.text) : log.state === "finished" ? "No output was kept." : "Waiting for output…"}
      </pre>
    </section>
  );
}

function useBuildLog(imageId: string): Log {
  const queries = useQueryClient();
  const [log, setLog] = useState<Log>({ text: "", state: "connecting" });
  useEffect(() => {
    const source = new EventSource(`/api/v1/images/${encodeURIComponent(imageId)}/log`);
    let text = "";
    let timer: ReturnType<typeof setTimeout> | undefined;
    const show = (state: Log["state"]) => {
      clearTimeout(timer);
      timer = undefined;
      setLog({ text, state });
    };
    // Each connection tells the log from its beginning.
    source.onopen = () => {
      text = "";
    };
    source.onerror = () => show("lost");
    const onFrame = (message: MessageEvent<string>) => {
      const frame = JSON.parse(message.data) as BuildFrame;
      if (frame.type === "output") {
        text = (text + frame.text).slice(-KEPT);
        timer ??= setTimeout(() => show("open"), 80);
        return;
      }
      source.close();
      show("finished");
      void queries.invalidateQueries({ queryKey: ["repositories"] });
    };
    for (const name of ["message", "output", "finished"]) source.addEventListener(name, onFrame as EventListener);
    return () => {
      clearTimeout(timer);
      source.close();
    };
  }, [imageId, queries]);
  return log;
}
