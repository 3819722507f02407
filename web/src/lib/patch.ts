/** Unified diffs: what a renderer needs around them, and what a summary says. Pure. */

export interface DiffCount {
  additions: number;
  deletions: number;
}

/** Renderers want file headers; a tool's diff may begin at its first hunk. */
export function withFileHeader(path: string, diff: string): string {
  if (/^--- /m.test(diff.slice(0, diff.search(/^@@ /m) + 1 || undefined))) return diff;
  const from = diff.search(/^@@ /m);
  return `--- a/${path}\n+++ b/${path}\n${from > 0 ? diff.slice(from) : diff}`;
}

export function countDiff(diff: string): DiffCount {
  let additions = 0;
  let deletions = 0;
  let inHunk = false;
  for (const line of diff.split("\n")) {
    if (line.startsWith("@@")) inHunk = true;
    else if (line.startsWith("diff --git ")) inHunk = false;
    else if (inHunk && line.startsWith("+")) additions += 1;
    else if (inHunk && line.startsWith("-")) deletions += 1;
  }
  return { additions, deletions };
}

export function hasHunks(patch: string): boolean {
  return /^@@ /m.test(patch);
}
