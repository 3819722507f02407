/** Markdown, streamed or whole. The renderer loads on first use; until then the text shows as it is. */
import { lazy, memo, Suspense } from "react";

const Rendered = lazy(() => import("./markdown-rendered"));

export const Markdown = memo(function Markdown({ text, isStreaming = false }: { text: string; isStreaming?: boolean }) {
  return (
    <Suspense fallback={<div className="md whitespace-pre-wrap">{text}</div>}>
      <Rendered text={text} isStreaming={isStreaming} />
    </Suspense>
  );
});
