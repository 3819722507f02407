/** Attaching files to a prompt: a button, a drop anywhere on the composer, a paste; and the chosen files above the words. */
import { type ClipboardEvent, type DragEvent, type ReactNode, useRef, useState } from "react";
import { bytes } from "../lib/format";
import { IconButton } from "../ui/basics";
import { Icon } from "../ui/icon";
import { type Attaching, type Attachments, filesIn } from "./use-attachments";

export function AttachButton({ attachments }: { attachments: Attachments }) {
  const input = useRef<HTMLInputElement>(null);
  return (
    <>
      <IconButton label="Attach files" icon="clip" className="text-ink-2" onClick={() => input.current?.click()} />
      <input
        ref={input}
        type="file"
        multiple
        hidden
        data-testid="attach-input"
        onChange={(event) => {
          attachments.add(event.target.files ?? []);
          // The same file may be chosen again.
          event.target.value = "";
        }}
      />
    </>
  );
}

/** Around a composer: takes what is dropped on it and pasted into it. */
export function AttachArea({ attachments, children }: { attachments: Attachments; children: ReactNode }) {
  const [isOver, setOver] = useState(false);
  const hasFiles = (event: DragEvent) => event.dataTransfer.types.includes("Files");
  const onDragOver = (event: DragEvent) => {
    if (!hasFiles(event)) return;
    event.preventDefault();
    setOver(true);
  };
  const onDrop = (event: DragEvent) => {
    setOver(false);
    if (!hasFiles(event)) return;
    event.preventDefault();
    attachments.add(filesIn(event.dataTransfer));
  };
  const onPaste = (event: ClipboardEvent) => {
    const files = filesIn(event.clipboardData);
    if (files.length === 0) return;
    event.preventDefault();
    attachments.add(files);
  };
  return (
    <div className="relative" data-testid="attach-area" onDragOver={onDragOver} onDragLeave={() => setOver(false)} onDrop={onDrop} onPaste={onPaste}>
      {children}
      {isOver && <p className="pointer-events-none absolute inset-0 grid place-items-center rounded-xl border-2 border-dashed border-accent bg-accent-soft/90 font-medium text-accent">Drop files to attach them</p>}
      <AttachedFiles attachments={attachments} />
    </div>
  );
}

function AttachedFiles({ attachments }: { attachments: Attachments }) {
  const { files, refusal, remove } = attachments;
  if (files.length === 0 && refusal === null) return null;
  return (
    <div className="px-2.5 pb-1">
      {files.length > 0 && (
        <ul aria-label="Files to send" className="flex flex-wrap gap-2" data-testid="attached">
          {files.map((file) => (
            <FileChip key={file.key} file={file} onRemove={() => remove(file.key)} />
          ))}
        </ul>
      )}
      <p role="status" className={refusal ? "py-1 text-[13px] text-bad" : "sr-only"}>
        {refusal ?? statusOf(files)}
      </p>
    </div>
  );
}

function statusOf(files: readonly Attaching[]): string {
  const sent = files.filter((file) => file.file).length;
  return `${sent} of ${files.length} files uploaded`;
}

function FileChip({ file, onRemove }: { file: Attaching; onRemove: () => void }) {
  const isOnItsWay = file.file === null && file.problem === null;
  return (
    <li data-testid="attaching" data-state={file.problem ? "failed" : isOnItsWay ? "uploading" : "ready"} className={`flex min-w-0 max-w-full items-center gap-2 rounded-lg border py-1 pl-1.5 sm:max-w-72 ${file.problem ? "border-bad/40 bg-bad-soft" : "border-line bg-raised"}`}>
      {file.preview ? <img src={file.preview} alt="" className="size-9 shrink-0 rounded-md object-cover" /> : <Icon name={file.problem ? "warn" : "file"} className={file.problem ? "size-5 text-bad" : "size-5 text-ink-3"} />}
      <span className="min-w-0 flex-1">
        <span className="block truncate text-[13.5px]">{file.name}</span>
        {isOnItsWay ? (
          <progress className="block h-1 w-full accent-accent" max={1} value={file.progress} aria-label={`Upload of ${file.name}`} />
        ) : (
          <span className={`block wrap-anywhere text-[12.5px] ${file.problem ? "text-bad" : "text-ink-3"}`}>{file.problem ? file.problem.message : bytes(file.bytes)}</span>
        )}
      </span>
      <IconButton label={`Remove ${file.name}`} icon="cross" className="text-ink-3" onClick={onRemove} />
    </li>
  );
}
