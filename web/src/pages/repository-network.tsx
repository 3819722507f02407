/** What a repository's sandboxes may reach, and the secrets that are added on their way out. */
import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { type ReactNode, useState } from "react";
import { api } from "../api/client";
import { egressQuery, meQuery, secretsQuery } from "../api/queries";
import type { AddSecret, EgressAddition, EgressSource, EgressView, SecretInjection, SecretView } from "../api/types";
import { Badge, Button, ErrorBox, Field, IconButton, Loading, SelectField } from "../ui/basics";
import { Icon } from "../ui/icon";

const SOURCES: Record<EgressSource, string> = {
  default: "Package registries",
  installation: "This installation's mirrors",
  recipe: "The environment's recipe",
  admin: "Added by an administrator",
  secret: "For a declared secret",
};

export function Network({ name }: { name: string }) {
  const { data: me } = useQuery(meQuery);
  const { data, error } = useQuery(egressQuery(name));
  const isAdmin = me?.person.role === "admin";
  return (
    <section aria-label="Network" className="mt-9">
      <h2 className="mb-1 text-xl">Network</h2>
      <p className="mb-2 text-ink-2">Sandboxes reach these hosts and no others.</p>
      <ErrorBox error={error} />
      {!data && !error && <Loading what="the allow-list" />}
      {data && <Additions name={name} view={data} isAdmin={isAdmin} />}
      {data && <Rules view={data} />}
      {isAdmin && <Secrets name={name} />}
    </section>
  );
}

function Rules({ view }: { view: EgressView }) {
  const sources = [...new Set(view.rules.map((rule) => rule.source))].filter((source) => source !== "admin");
  return (
    <div className="card divide-y divide-line" data-testid="egress">
      {sources.map((source) => {
        const rules = view.rules.filter((rule) => rule.source === source);
        return (
          <details key={source} className="group">
            <summary className="flex min-h-11 list-none items-center gap-2 px-4">
              <span className="flex-1">{SOURCES[source] ?? source}</span>
              <span className="text-[13px] tabular-nums text-ink-3">{rules.length}</span>
              <Icon name="chevron" className="size-4 text-ink-3 transition-transform group-open:rotate-90" />
            </summary>
            <ul className="px-4 pb-3 font-mono text-[13px] leading-6 sm:columns-2">
              {rules.map((rule) => (
                <li key={rule.host} className="wrap-anywhere">
                  {rule.host}
                  {rule.is_tls_ended && <span className="font-sans text-ink-3"> · a secret is added</span>}
                </li>
              ))}
            </ul>
          </details>
        );
      })}
    </div>
  );
}

function Additions({ name, view, isAdmin }: { name: string; view: EgressView; isAdmin: boolean }) {
  const queries = useQueryClient();
  const [host, setHost] = useState("");
  const [isPrivate, setPrivate] = useState(false);
  const set = useMutation({
    mutationFn: (additions: EgressAddition[]) => api.setEgress(name, additions),
    onSuccess: (changed) => {
      queries.setQueryData(egressQuery(name).queryKey, changed);
      setHost("");
      setPrivate(false);
    },
  });
  if (!isAdmin && view.additions.length === 0) return null;
  return (
    <div className="mb-3">
      {view.additions.length > 0 && (
        <ul className="card mb-2.5 divide-y divide-line" data-testid="egress-additions">
          {view.additions.map((addition) => (
            <li key={addition.host} className="flex min-h-11 items-center gap-2 py-0.5 pl-4 pr-1">
              <code className="min-w-0 flex-1 wrap-anywhere font-mono text-[13px]">{addition.host}</code>
              {addition.allows_private && <Badge>Private network too</Badge>}
              {isAdmin && <IconButton label={`Remove ${addition.host}`} icon="trash" disabled={set.isPending} onClick={() => set.mutate(view.additions.filter((other) => other !== addition))} />}
            </li>
          ))}
        </ul>
      )}
      {isAdmin && (
        <form
          aria-label="Additions to the allow-list"
          onSubmit={(event) => {
            event.preventDefault();
            set.mutate([...view.additions.filter((addition) => addition.host !== host.trim()), { host: host.trim(), allows_private: isPrivate }]);
          }}
        >
          <div className="flex flex-wrap items-end gap-2">
            <Field label="Allow a host" required autoCapitalize="none" spellCheck={false} placeholder="api.example.com" value={host} onChange={(event) => setHost(event.target.value)} className="min-w-56 flex-1" />
            <Button type="submit" isBusy={set.isPending} className="min-h-11">
              Allow
            </Button>
          </div>
          <label className="mt-1 flex min-h-10 items-center gap-2.5 text-[14px] text-ink-2">
            <input type="checkbox" className="size-5 accent-(--accent)" checked={isPrivate} onChange={(event) => setPrivate(event.target.checked)} />
            Also where it leads into a private network
          </label>
          <p className="text-[13px] text-ink-3">A name, name:port, *.domain or an address. Without a port: 80 and 443.</p>
        </form>
      )}
      <ErrorBox error={set.error} onDismiss={() => set.reset()} className="mt-2" />
    </div>
  );
}

function Secrets({ name }: { name: string }) {
  const { data, error } = useQuery(secretsQuery(name));
  const [isAdding, setAdding] = useState(false);
  return (
    <div className="mt-6">
      <div className="mb-2 flex items-center justify-between gap-3">
        <h3 className="font-medium">Secrets</h3>
        {!isAdding && (
          <Button icon="plus" onClick={() => setAdding(true)}>
            Add secret
          </Button>
        )}
      </div>
      <p className="mb-2 text-ink-2">Added to requests for their hosts outside the sandbox. Inside there is only a placeholder.</p>
      {isAdding && <AddSecretForm name={name} onClose={() => setAdding(false)} />}
      <ErrorBox error={error} />
      {data && data.length > 0 && (
        <ul className="card divide-y divide-line" data-testid="secrets">
          {data.map((secret) => (
            <SecretRow key={secret.name} repository={name} secret={secret} />
          ))}
        </ul>
      )}
      {data?.length === 0 && !isAdding && <p className="text-ink-3">None yet.</p>}
    </div>
  );
}

function SecretRow({ repository, secret }: { repository: string; secret: SecretView }) {
  const queries = useQueryClient();
  const [isAsking, setAsking] = useState(false);
  const remove = useMutation({ mutationFn: () => api.removeSecret(repository, secret.name), onSuccess: () => queries.invalidateQueries({ queryKey: secretsQuery(repository).queryKey }) });
  return (
    <li className="px-4 py-2.5">
      <div className="flex flex-wrap items-center gap-x-3 gap-y-1">
        <span className="min-w-0 flex-1 basis-48">
          <code className="wrap-anywhere font-mono text-[14px] font-medium">{secret.name}</code>
          <span className="block wrap-anywhere text-[13px] text-ink-3">
            {injectionText(secret.injection)} · {secret.hosts.join(", ")}
          </span>
        </span>
        {isAsking ? (
          <>
            <Button look="danger" isBusy={remove.isPending} onClick={() => remove.mutate()}>
              Remove {secret.name}
            </Button>
            <Button onClick={() => setAsking(false)}>Keep it</Button>
          </>
        ) : (
          <IconButton label={`Remove ${secret.name}`} icon="trash" onClick={() => setAsking(true)} />
        )}
      </div>
      <ErrorBox error={remove.error} className="mt-2" />
    </li>
  );
}

function injectionText(injection: SecretInjection): string {
  switch (injection.kind) {
    case "bearer":
      return "As a bearer token";
    case "basic":
      return `As the password of ${injection.user}`;
    case "header":
      return `In the header ${injection.name}`;
    case "placeholder":
      return "Wherever a header holds the placeholder";
  }
}

const KINDS: { value: SecretInjection["kind"]; label: string }[] = [
  { value: "bearer", label: "As a bearer token" },
  { value: "basic", label: "As a password, with a user" },
  { value: "header", label: "In a header of its own" },
  { value: "placeholder", label: "In place of the placeholder" },
];

function AddSecretForm({ name, onClose }: { name: string; onClose: () => void }) {
  const queries = useQueryClient();
  const [secret, setSecret] = useState({ name: "", value: "", hosts: "", kind: "bearer" as SecretInjection["kind"], detail: "" });
  const add = useMutation({
    mutationFn: () => {
      const hosts = secret.hosts.split(/[\s,]+/).filter(Boolean);
      const body: AddSecret = { name: secret.name.trim(), value: secret.value, hosts, injection: injectionOf(secret.kind, secret.detail.trim()) };
      return api.addSecret(name, body);
    },
    onSuccess: async () => {
      await queries.invalidateQueries({ queryKey: secretsQuery(name).queryKey });
      onClose();
    },
  });
  const field = (key: keyof typeof secret) => ({ value: secret[key], onChange: (event: { target: { value: string } }) => setSecret({ ...secret, [key]: event.target.value }) });
  const detail: ReactNode =
    secret.kind === "basic" ? <Field label="User" required autoCapitalize="none" {...field("detail")} /> : secret.kind === "header" ? <Field label="Header" required autoCapitalize="none" placeholder="X-Api-Key" {...field("detail")} /> : null;
  return (
    <form
      aria-label="Add a secret"
      className="card mb-4 space-y-4 p-4"
      onSubmit={(event) => {
        event.preventDefault();
        add.mutate();
      }}
    >
      <div className="grid gap-4 sm:grid-cols-2">
        <Field label="Name" required autoFocus autoCapitalize="characters" spellCheck={false} placeholder="STRIPE_KEY" hint="The variable that holds the placeholder inside." {...field("name")} />
        <Field label="Value" required type="password" autoComplete="off" hint="Stored encrypted, never shown again." {...field("value")} />
        <SelectField label="How it is sent" value={secret.kind} choices={KINDS} onChange={(kind) => setSecret({ ...secret, kind: kind as SecretInjection["kind"], detail: "" })} />
        {detail}
        <Field label="Hosts" required autoCapitalize="none" spellCheck={false} placeholder="api.stripe.com" hint="It is sent to these and nowhere else." {...field("hosts")} />
      </div>
      <ErrorBox error={add.error} />
      <div className="flex gap-2">
        <Button type="submit" look="primary" isBusy={add.isPending}>
          Add secret
        </Button>
        <Button onClick={onClose}>Cancel</Button>
      </div>
    </form>
  );
}

function injectionOf(kind: SecretInjection["kind"], detail: string): SecretInjection {
  switch (kind) {
    case "basic":
      return { kind, user: detail };
    case "header":
      return { kind, name: detail };
    default:
      return { kind };
  }
}
