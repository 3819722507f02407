/** A diff as plain coloured lines: while the renderer loads, and for diffs too large for it. */
export function PlainPatch({ patch }: { patch: string }) {
  // As in the renderer: what comes before the first hunk is said by the heading.
  const hunks = patch.slice(Math.max(0, patch.search(/^@@ /m)));
  return (
    <pre className="overflow-x-auto px-3 py-2 font-mono text-[12.5px] leading-5">
      {hunks.trimEnd().split("\n").map((line, index) => (
        <span key={index} className={`block min-h-5 ${look(line)}`}>
          {line}
        </span>
      ))}
    </pre>
  );
}

function look(line: string): string {
  if (line.startsWith("@@") || line.startsWith("diff ") || line.startsWith("index ")) return "text-ink-3";
  if (line.startsWith("+")) return "text-add";
  if (line.startsWith("-")) return "text-del";
  return "";
}
