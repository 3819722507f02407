/** Diffs of files: one, or a list of collapsible ones. */
import { lazy, memo, type ReactNode, Suspense, useId, useState } from "react";
import type { FileDiffView } from "../api/types";
import { hasHunks } from "../lib/patch";
import { Empty, useMedia } from "../ui/basics";
import { Icon } from "../ui/icon";
import { PlainPatch } from "./plain";

const PrettyPatch = lazy(() => import("./pretty"));

/** Larger patches are shown without colours of the language. */
const PRETTY_LIMIT = 200_000;
const OPEN_LINES = 500;
const OPEN_FILES = 20;

export const Patch = memo(function Patch({ path, patch, isSplit = false }: { path: string; patch: string; isSplit?: boolean }) {
  if (patch.length > PRETTY_LIMIT) return <PlainPatch patch={patch} />;
  return (
    <Suspense fallback={<PlainPatch patch={patch} />}>
      <PrettyPatch path={path} patch={patch} isSplit={isSplit} />
    </Suspense>
  );
});

export function DiffCountText({ additions, deletions }: { additions: number; deletions: number }) {
  return (
    <span className="whitespace-nowrap font-mono text-[12.5px]">
      <span className="text-add">
        +{additions}
        <span className="sr-only"> lines added,</span>
      </span>{" "}
      <span className="text-del">
        −{deletions}
        <span className="sr-only"> lines removed</span>
      </span>
    </span>
  );
}

/** `below`: what else is known of an open file. */
export function FileDiffs({ files, maySplit = false, emptyText, below }: { files: FileDiffView[]; maySplit?: boolean; emptyText: string; below?: (file: FileDiffView) => ReactNode }) {
  const isWide = useMedia("(min-width: 1280px)");
  if (files.length === 0) return <Empty icon="file" title={emptyText} />;
  const additions = files.reduce((sum, file) => sum + file.additions, 0);
  const deletions = files.reduce((sum, file) => sum + file.deletions, 0);
  return (
    <div>
      <p className="mb-2 text-sm text-ink-2">
        {files.length === 1 ? "1 file" : `${files.length} files`} <DiffCountText additions={additions} deletions={deletions} />
      </p>
      <ul className="space-y-3">
        {files.map((file, index) => (
          <FileSection key={file.path} file={file} isSplit={maySplit && isWide} opens={index < OPEN_FILES && file.additions + file.deletions <= OPEN_LINES} below={below} />
        ))}
      </ul>
    </div>
  );
}

function FileSection({ file, isSplit, opens, below }: { file: FileDiffView; isSplit: boolean; opens: boolean; below?: (file: FileDiffView) => ReactNode }) {
  const [isOpen, setOpen] = useState(opens);
  const id = useId();
  return (
    <li className="card" data-testid="file-diff">
      <button type="button" aria-expanded={isOpen} aria-controls={id} onClick={() => setOpen(!isOpen)} className={`sticky top-0 z-[1] flex min-h-11 w-full items-center gap-2 rounded-[12px] bg-raised px-3 text-left ${isOpen ? "rounded-b-none border-b border-line" : ""}`}>
        <Icon name="chevron" className={`size-4 text-ink-3 transition-transform ${isOpen ? "rotate-90" : ""}`} />
        <span className="min-w-0 flex-1 wrap-anywhere font-mono text-[13px]">
          {file.old_path && file.old_path !== file.path && <span className="text-ink-3">{file.old_path} → </span>}
          {file.path}
        </span>
        <DiffCountText additions={file.additions} deletions={file.deletions} />
      </button>
      {isOpen && (
        <div id={id} className="overflow-hidden rounded-b-[12px]">
          <FileBody file={file} isSplit={isSplit} />
          {below?.(file)}
        </div>
      )}
    </li>
  );
}

function FileBody({ file, isSplit }: { file: FileDiffView; isSplit: boolean }) {
  if (file.is_binary) return <p className="px-4 py-3 text-ink-2">A binary file; its contents are not shown.</p>;
  if (file.is_truncated && !hasHunks(file.patch)) return <p className="px-4 py-3 text-ink-2">Too much changed to show this file here; clone the branch to see it.</p>;
  if (!hasHunks(file.patch)) return <p className="px-4 py-3 text-ink-2">{file.old_path && file.old_path !== file.path ? "Renamed without changes." : "No lines changed (empty file or mode)."}</p>;
  return (
    <>
      <Patch path={file.path} patch={file.patch} isSplit={isSplit && file.additions > 0 && file.deletions > 0} />
      {file.is_truncated && <p className="border-t border-line px-4 py-2 text-sm text-ink-2">This diff is longer than what is shown here; clone the branch to see all of it.</p>}
    </>
  );
}
