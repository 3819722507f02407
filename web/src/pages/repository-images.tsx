/** A repository's environment images: which are kept and why, what the chosen one holds, and how it was built. */
import { useQuery } from "@tanstack/react-query";
import { Link } from "@tanstack/react-router";
import type { ReactNode } from "react";
import { imageContentsQuery } from "../api/queries";
import type { CheckView, DeclaredPort, DeclaredService, ImageContents, ImageView, LayerView, ListedImage } from "../api/types";
import { bytes, counted, duration, keptText } from "../lib/format";
import { Ago, ErrorBox, ProblemBox } from "../ui/basics";
import { BuildLog } from "../ui/build-log";
import { Icon } from "../ui/icon";
import { ImageBadge } from "../ui/image-badge";

export function Images({ name, images, chosen }: { name: string; images: ListedImage[]; chosen: string | undefined }) {
  const sorted = [...images].sort((a, b) => b.started_at_ms - a.started_at_ms);
  const shown = sorted.find((image) => image.id === chosen) ?? sorted[0];
  return (
    <section aria-label="Environment images" className="mt-7">
      <h2 className="mb-2 text-xl">Environment images</h2>
      {sorted.length === 0 && <p className="text-ink-2">None has been built yet.</p>}
      {sorted.length > 1 && (
        <ul className="card mb-4 max-h-72 divide-y divide-line overflow-y-auto" data-testid="images">
          {sorted.map((image) => (
            <li key={image.id}>
              <Link to="/repositories/$name" params={{ name }} search={{ image: image.id }} replace aria-current={image.id === shown?.id || undefined} className={`block px-4 py-2 ${image.id === shown?.id ? "bg-accent-soft" : "hover:bg-raised"}`}>
                <span className="flex items-center gap-3">
                  <ImageBadge image={image} />
                  <code className="min-w-0 flex-1 truncate font-mono text-[13px]">{image.commit?.slice(0, 10) ?? "commit not known yet"}</code>
                  {typeof image.size_bytes === "number" && <span className="text-[13px] tabular-nums text-ink-2">{bytes(image.size_bytes)}</span>}
                  <Ago atMs={image.started_at_ms} className="text-[13px] text-ink-2" />
                </span>
                {image.kept && <span className="mt-0.5 block text-[13px] text-ink-2">{keptText(image.kept, Date.now())}</span>}
              </Link>
            </li>
          ))}
        </ul>
      )}
      {shown && <Image key={shown.id} image={shown} />}
    </section>
  );
}

function Image({ image }: { image: ListedImage }) {
  const took = image.finished_at_ms ? duration(image.finished_at_ms - image.started_at_ms) : undefined;
  const facts = [typeof image.size_bytes === "number" && bytes(image.size_bytes), image.kept && keptText(image.kept, Date.now())].filter(Boolean);
  return (
    <div className="space-y-5" data-testid="image" data-state={image.state}>
      <p className="flex flex-wrap items-center gap-x-3 gap-y-1 text-sm text-ink-2">
        <ImageBadge image={image} />
        <span>
          started <Ago atMs={image.started_at_ms} />
          {took && `, took ${took}`}
        </span>
        {image.commit && <code className="font-mono text-[13px]">{image.commit.slice(0, 10)}</code>}
        {facts.length > 0 && <span data-testid="image-kept">{facts.join(" · ")}</span>}
      </p>
      {image.problem && <ProblemBox problem={image.problem} />}
      <Steps image={image} />
      {image.state === "ready" && <Contents id={image.id} />}
      <BuildLog imageId={image.id} />
    </div>
  );
}

function Part({ title, note, children }: { title: string; note?: string; children: ReactNode }) {
  return (
    <section aria-label={title}>
      <h3 className="mb-1.5 flex flex-wrap items-baseline gap-x-2 font-sans text-[15px] font-semibold">
        {title}
        {note && <span className="text-[13px] font-normal text-ink-2">{note}</span>}
      </h3>
      {children}
    </section>
  );
}

const ROW = "grid grid-cols-[1fr_auto] items-center gap-x-4 px-4 py-2 sm:grid-cols-[minmax(10rem,1fr)_2fr_6rem]";

function Bar({ share, isPale }: { share: number; isPale: boolean }) {
  return (
    <span aria-hidden="true" className="hidden h-2 rounded-full bg-sunken sm:block">
      <span className={`block h-2 rounded-full ${isPale ? "bg-line-strong" : "bg-accent/70"}`} style={{ width: `${Math.max(1, share * 100)}%` }} />
    </span>
  );
}

function Steps({ image }: { image: ImageView }) {
  if (image.steps.length === 0) return null;
  const longest = Math.max(1, ...image.steps.map((step) => step.duration_ms));
  return (
    <Part title="Steps" note="and how long each took">
      <ol className="card divide-y divide-line">
        {image.steps.map((step, index) => (
          <li key={`${index}:${step.name}`} className={ROW}>
            <span className="min-w-0 break-words">{step.name}</span>
            <Bar share={step.duration_ms / longest} isPale={step.is_reused} />
            <span className="text-right text-[13px] tabular-nums text-ink-2">{step.is_reused ? "used again" : duration(step.duration_ms)}</span>
          </li>
        ))}
      </ol>
    </Part>
  );
}

function Contents({ id }: { id: string }) {
  const { data, error } = useQuery(imageContentsQuery(id));
  if (error) return <ErrorBox error={error} />;
  if (!data) return null;
  return (
    <>
      <Layers contents={data} />
      {data.checks.length > 0 && <Checks checks={data.checks} />}
      {data.services.length > 0 && <Services services={data.services} />}
      {data.ports.length > 0 && <Ports ports={data.ports} />}
    </>
  );
}

function Layers({ contents }: { contents: ImageContents }) {
  const { layers, base, size_bytes } = contents;
  const largest = Math.max(1, ...layers.map((layer) => layer.size_bytes));
  return (
    <Part title="Layers" note={`${bytes(size_bytes)} over ${base ?? "the programs of this machine"}`}>
      <ol className="card divide-y divide-line" data-testid="layers">
        {layers.map((layer, index) => (
          <li key={`${index}:${layer.step}`} className={ROW}>
            <span className="min-w-0">
              <span className="block break-words">{layer.step}</span>
              {layer.images > 1 && <span className="block text-[13px] text-ink-2">{sharedText(layer)}</span>}
            </span>
            <Bar share={layer.size_bytes / largest} isPale={layer.images > 1} />
            <span className="text-right text-[13px] tabular-nums text-ink-2">{bytes(layer.size_bytes)}</span>
          </li>
        ))}
      </ol>
    </Part>
  );
}

const sharedText = (layer: LayerView): string => `Shared by ${counted(layer.images, "image")}, kept once`;

function Checks({ checks }: { checks: CheckView[] }) {
  return (
    <Part title="Checks" note="run once, when it was built">
      <ul className="card divide-y divide-line" data-testid="checks">
        {checks.map((check) => (
          <li key={check.name} className="flex items-center gap-2.5 px-4 py-2" data-passed={check.has_passed}>
            <Icon name={check.has_passed ? "check" : "warn"} className={`size-5 ${check.has_passed ? "text-accent" : check.is_optional ? "text-warn" : "text-bad"}`} />
            <span className="min-w-0 flex-1">
              <span className="block break-words">{check.name}</span>
              <span className="block text-[13px] text-ink-2">{checkText(check)}</span>
            </span>
            <span className="text-right text-[13px] tabular-nums text-ink-2">{duration(check.duration_ms)}</span>
          </li>
        ))}
      </ul>
    </Part>
  );
}

function checkText({ has_passed, is_optional, ended }: CheckView): string {
  if (has_passed) return "Passed";
  return `Failed: ${ended}${is_optional ? "; it is optional, so the image is good all the same" : ""}`;
}

function Services({ services }: { services: DeclaredService[] }) {
  return (
    <Part title="Services" note="up when a session starts">
      <ul className="card divide-y divide-line" data-testid="declared-services">
        {services.map((service) => (
          <li key={service.name} className="px-4 py-2">
            <p className="flex flex-wrap items-baseline gap-x-3">
              <span className="font-medium">{service.name}</span>
              <code className="min-w-0 wrap-anywhere font-mono text-[13px] text-ink-2">{service.run}</code>
            </p>
            <p className="text-[13px] text-ink-2">{readyText(service)}</p>
          </li>
        ))}
      </ul>
    </Part>
  );
}

function readyText({ ready_when, within_seconds, is_restarted }: DeclaredService): string {
  const ready = ready_when ? `Up when ${ready_when}, within ${within_seconds} s` : "Up once it was started";
  return `${ready}.${is_restarted ? " Started again when it ends." : ""}`;
}

function Ports({ ports }: { ports: DeclaredPort[] }) {
  return (
    <Part title="Ports" note="that open from a session">
      <ul className="card divide-y divide-line" data-testid="declared-ports">
        {ports.map((port) => (
          <li key={port.port} className="flex items-baseline gap-3 px-4 py-2">
            <span className="min-w-0 flex-1 break-words">{port.name}</span>
            <span className="text-[13px] tabular-nums text-ink-2">
              Port {port.port}
              {!port.is_http && ", not a page"}
            </span>
          </li>
        ))}
      </ul>
    </Part>
  );
}
