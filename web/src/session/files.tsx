/** Files of a session as people see them: pictures in place, everything else as a download. */
import type { Attachment } from "../api/types";
import { blobUrl } from "../api/upload";
import { bytes } from "../lib/format";
import { Icon } from "../ui/icon";
import type { ArtifactItem, SessionState } from "./state";

const PICTURES = new Set(["image/png", "image/jpeg", "image/gif", "image/webp"]);
const isPicture = (file: Attachment) => PICTURES.has(file.media_type);

export function AttachedView({ session, files }: { session: string; files: readonly Attachment[] }) {
  if (files.length === 0) return null;
  return (
    <ul aria-label="Attached files" className="mt-2 flex flex-wrap items-start gap-2" data-testid="attachments">
      {files.map((file) => (
        <li key={file.digest} className="min-w-0 max-w-full">
          {isPicture(file) ? <Picture session={session} file={file} alt={file.name} className="max-h-40" /> : <Download session={session} file={file} title={file.name} />}
        </li>
      ))}
    </ul>
  );
}

export function ArtifactView({ item }: { item: ArtifactItem }) {
  return (
    <figure className="mt-4 rounded-xl border border-line bg-surface p-3" data-testid="artifact">
      {isPicture(item.file) && <Picture session={item.session} file={item.file} alt={item.title} className="max-h-[26rem]" />}
      <figcaption className={isPicture(item.file) ? "mt-2" : ""}>
        <Download session={item.session} file={item.file} title={item.title} />
        {item.description && <p className="mt-2 whitespace-pre-wrap break-words text-[14px] text-ink-2">{item.description}</p>}
      </figcaption>
    </figure>
  );
}

/** Everything that was published, newest first. */
export function ArtifactList({ state }: { state: SessionState }) {
  const items = state.order.map((key) => state.items.get(key)).filter((item): item is ArtifactItem => item?.kind === "artifact");
  if (items.length === 0) return null;
  return (
    <section aria-label="Artifacts" data-testid="artifacts">
      <h2 className="mb-2 text-lg">Artifacts</h2>
      <ul className="space-y-2">
        {items.reverse().map((item) => (
          <li key={item.key}>
            <Download session={item.session} file={item.file} title={item.title} />
          </li>
        ))}
      </ul>
    </section>
  );
}

/** Its place is kept while it loads, so that nothing jumps. */
function Picture({ session, file, alt, className }: { session: string; file: Attachment; alt: string; className: string }) {
  const url = blobUrl(session, file);
  return (
    <a href={url} target="_blank" rel="noreferrer" className="inline-grid min-h-11 min-w-11 max-w-full place-items-center">
      <img src={url} alt={alt} width={file.width ?? undefined} height={file.height ?? undefined} loading="lazy" decoding="async" className={`h-auto w-auto max-w-full rounded-lg border border-line bg-sunken object-contain ${className}`} />
    </a>
  );
}

function Download({ session, file, title }: { session: string; file: Attachment; title: string }) {
  return (
    <a href={blobUrl(session, file)} download={file.name} className="inline-flex min-h-11 max-w-full items-center gap-2.5 rounded-lg border border-line bg-raised px-3 py-1.5 hover:bg-sunken">
      <Icon name="down" className="size-[18px] text-ink-3" />
      <span className="min-w-0">
        <span className="block truncate">{title}</span>
        <span className="block truncate text-[12.5px] text-ink-3">
          {title === file.name ? "" : `${file.name} · `}
          {bytes(file.bytes)}
        </span>
      </span>
    </a>
  );
}
