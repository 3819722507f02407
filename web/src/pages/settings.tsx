/** Models, people, one's own tokens, and what this machine can do. */
import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { Link } from "@tanstack/react-router";
import { type FormEvent, type ReactNode, useState } from "react";
import { api } from "../api/client";
import { machineQuery, meQuery, modelsQuery, peopleQuery } from "../api/queries";
import type { AddModel, ModelProvider, ModelView, Role } from "../api/types";
import { count, duration } from "../lib/format";
import { EFFORTS } from "../session/model-choice";
import { Avatar, Badge, Button, CopyButton, Empty, ErrorBox, Field, Loading, SelectField, useTitle } from "../ui/basics";
import { Icon } from "../ui/icon";
import { QuotaForm, QuotaUsageList } from "./quotas";

export function SettingsPage() {
  useTitle("Settings");
  const { data: me } = useQuery(meQuery);
  const isAdmin = me?.person.role === "admin";
  return (
    <div className="mx-auto max-w-3xl space-y-10 px-4 py-6 lg:px-8 lg:py-10">
      <h1 className="text-[28px]">Settings</h1>
      <Models isAdmin={isAdmin} />
      <People isAdmin={isAdmin} />
      {me && <QuotaSection login={me.person.login} isAdmin={isAdmin} />}
      <Tokens />
      <MachineFacts />
    </div>
  );
}

function Section({ title, action, children }: { title: string; action?: ReactNode; children: ReactNode }) {
  return (
    <section aria-label={title}>
      <div className="mb-2 flex items-center justify-between gap-3">
        <h2 className="text-xl">{title}</h2>
        {action}
      </div>
      {children}
    </section>
  );
}

const PROVIDERS: { value: ModelProvider; label: string }[] = [
  { value: "anthropic", label: "Anthropic Messages" },
  { value: "openai", label: "OpenAI Responses" },
  { value: "gemini", label: "Google Gemini" },
  { value: "openrouter", label: "OpenRouter" },
  { value: "ollama", label: "Ollama" },
  { value: "openai_chat", label: "Chat Completions (compatible server)" },
];

function Models({ isAdmin }: { isAdmin: boolean }) {
  const { data, error } = useQuery(modelsQuery);
  const [isAdding, setAdding] = useState(false);
  return (
    <Section
      title="Models"
      action={
        isAdmin && !isAdding ? (
          <Button icon="plus" onClick={() => setAdding(true)}>
            Add model
          </Button>
        ) : undefined
      }
    >
      {isAdding && <AddModelForm onClose={() => setAdding(false)} isFirst={data?.length === 0} />}
      <ErrorBox error={error} />
      {!data && !error && <Loading what="models" />}
      {data?.length === 0 && !isAdding && (
        <div className="card">
          <Empty icon="gear" title="No model yet">
            {isAdmin ? "Add one with its key; prompts can be answered then." : "An administrator can add one."}
          </Empty>
        </div>
      )}
      {data && data.length > 0 && (
        <ul className="card divide-y divide-line" data-testid="models">
          {data.map((model) => (
            <ModelRow key={model.name} model={model} isAdmin={isAdmin} />
          ))}
        </ul>
      )}
    </Section>
  );
}

function ModelRow({ model, isAdmin }: { model: ModelView; isAdmin: boolean }) {
  const queries = useQueryClient();
  const test = useMutation({ mutationFn: () => api.testModel(model.name) });
  const remove = useMutation({ mutationFn: () => api.removeModel(model.name), onSuccess: () => queries.invalidateQueries({ queryKey: modelsQuery.queryKey }) });
  return (
    <li className="px-4 py-2.5">
      <div className="flex flex-wrap items-center gap-x-3 gap-y-1">
        <span className="min-w-0 flex-1 basis-48">
          <span className="font-medium">{model.name}</span> {model.is_default && <Badge look="bg-accent-soft text-accent">Default</Badge>} {!model.has_key && model.provider !== "ollama" && <Badge>No key</Badge>} {model.fallback != null && <Badge>Fallback {model.fallback}</Badge>} {model.is_small && <Badge>Small jobs</Badge>}
          <span className="block wrap-anywhere text-[13px] text-ink-3">
            {[PROVIDERS.find((provider) => provider.value === model.provider)?.label ?? model.provider, model.model, model.base_url].filter(Boolean).join(" · ")}
          </span>
          <span className="block text-[13px] text-ink-3">{abilitiesText(model)}</span>
        </span>
        <Button isBusy={test.isPending} onClick={() => test.mutate()}>
          Test
        </Button>
        {isAdmin && (
          <Button look="ghost" icon="trash" isBusy={remove.isPending} onClick={() => remove.mutate()} aria-label={`Remove ${model.name}`} />
        )}
      </div>
      <div role="status">
        {test.data && (
          <p className="mt-1 flex items-center gap-1.5 text-sm text-accent">
            <Icon name="check" className="size-4" /> {test.data.model} answered; first token after {duration(test.data.first_token_ms)}.
          </p>
        )}
      </div>
      <ErrorBox error={test.error ?? remove.error} className="mt-2" />
    </li>
  );
}

function abilitiesText(model: ModelView): string {
  const lacks = [!model.uses_tools && "calls no tools: no session can use it", !model.sees_images && "sees no pictures", !model.has_price && "price not known"];
  return [`${count(model.context_window)} tokens of context`, model.effort && `effort ${model.effort}`, ...lacks].filter(Boolean).join(" · ");
}

function AddModelForm({ onClose, isFirst }: { onClose: () => void; isFirst: boolean }) {
  const queries = useQueryClient();
  const [model, setModel] = useState<AddModel>({ name: "", provider: "anthropic", model: "", is_default: isFirst });
  const [key, setKey] = useState("");
  const [address, setAddress] = useState("");
  const add = useMutation({
    mutationFn: () => api.addModel({ ...model, ...(key ? { key } : {}), ...(address ? { base_url: address } : {}) }),
    onSuccess: async () => {
      await queries.invalidateQueries({ queryKey: modelsQuery.queryKey });
      onClose();
    },
  });
  const submit = (event: FormEvent) => {
    event.preventDefault();
    add.mutate();
  };
  return (
    <form aria-label="Add a model" className="card mb-4 space-y-4 p-4" onSubmit={submit}>
      <div className="grid gap-4 sm:grid-cols-2">
        <Field label="Name" required autoFocus value={model.name} onChange={(event) => setModel({ ...model, name: event.target.value })} hint="People choose it by this name." />
        <SelectField label="Protocol" value={model.provider} choices={PROVIDERS} onChange={(provider) => setModel({ ...model, provider: provider as ModelProvider })} />
        <Field label="Model" required autoCapitalize="none" spellCheck={false} value={model.model} onChange={(event) => setModel({ ...model, model: event.target.value })} hint="The provider's name of it." />
        <SelectField
          label="Effort"
          value={model.effort ?? ""}
          choices={[
            { value: "", label: "The provider's default" },
            ...Object.entries(EFFORTS).map(([value, label]) => ({ value, label })),
          ]}
          onChange={(effort) => setModel({ ...model, effort: effort === "" ? null : (effort as AddModel["effort"]) })}
        />
        <Field label="Key" type="password" autoComplete="off" value={key} onChange={(event) => setKey(event.target.value)} hint="Stored encrypted, never shown again." />
        <Field label="Base URL" type="url" placeholder="The provider's own" value={address} onChange={(event) => setAddress(event.target.value)} />
      </div>
      <label className="flex min-h-10 items-center gap-2.5">
        <input type="checkbox" className="size-5 accent-(--accent)" checked={model.is_default ?? false} onChange={(event) => setModel({ ...model, is_default: event.target.checked })} />
        Use it where none is chosen
      </label>
      <ErrorBox error={add.error} />
      <div className="flex gap-2">
        <Button type="submit" look="primary" isBusy={add.isPending}>
          Add model
        </Button>
        <Button onClick={onClose}>Cancel</Button>
      </div>
    </form>
  );
}

const ROLES: { value: Role; label: string }[] = [
  { value: "viewer", label: "Viewer: watches" },
  { value: "member", label: "Member: prompts, approves, merges" },
  { value: "admin", label: "Administrator: everything" },
];

function People({ isAdmin }: { isAdmin: boolean }) {
  const { data, error } = useQuery(peopleQuery);
  const [isAdding, setAdding] = useState(false);
  return (
    <Section
      title="People"
      action={
        isAdmin && !isAdding ? (
          <Button icon="plus" onClick={() => setAdding(true)}>
            Add person
          </Button>
        ) : undefined
      }
    >
      {isAdding && <AddPersonForm onClose={() => setAdding(false)} />}
      <ErrorBox error={error} />
      {data && (
        <ul className="card divide-y divide-line" data-testid="people">
          {data.map((person) => (
            <li key={person.id} className="flex items-center gap-3 px-4 py-2.5">
              <Avatar name={person.name} className="size-8 text-xs" />
              <span className="min-w-0 flex-1">
                <span className="block">{person.name}</span>
                <span className="block wrap-anywhere text-[13px] text-ink-3">
                  {person.login} · {person.email}
                </span>
              </span>
              <Badge>{person.role}</Badge>
            </li>
          ))}
        </ul>
      )}
    </Section>
  );
}

function AddPersonForm({ onClose }: { onClose: () => void }) {
  const queries = useQueryClient();
  const [person, setPerson] = useState({ login: "", name: "", email: "", role: "member" as Role });
  const add = useMutation({ mutationFn: () => api.addPerson(person), onSuccess: () => queries.invalidateQueries({ queryKey: peopleQuery.queryKey }) });
  if (add.data) {
    const link = new URL(add.data.sign_in_path, location.origin).href;
    return (
      <div className="card mb-4 p-4" data-testid="sign-in-link">
        <p className="font-medium">Give {add.data.person.name} this link. It works once, until {new Date(add.data.expires_at_ms).toLocaleString()}, and is not shown again.</p>
        <pre className="output my-3">{link}</pre>
        <div className="flex gap-2">
          <CopyButton text={link} label="Copy link" />
          <Button onClick={onClose}>Done</Button>
        </div>
      </div>
    );
  }
  return (
    <form
      aria-label="Add a person"
      className="card mb-4 space-y-4 p-4"
      onSubmit={(event) => {
        event.preventDefault();
        add.mutate();
      }}
    >
      <div className="grid gap-4 sm:grid-cols-2">
        <Field label="Login" required autoFocus autoCapitalize="none" spellCheck={false} value={person.login} onChange={(event) => setPerson({ ...person, login: event.target.value })} hint="a-z, 0-9, '.', '_' and '-'." />
        <Field label="Name" required value={person.name} onChange={(event) => setPerson({ ...person, name: event.target.value })} hint="Their commits carry it." />
        <Field label="Email" type="email" required value={person.email} onChange={(event) => setPerson({ ...person, email: event.target.value })} />
        <SelectField label="Role" value={person.role} choices={ROLES} onChange={(role) => setPerson({ ...person, role: role as Role })} />
      </div>
      <ErrorBox error={add.error} />
      <div className="flex gap-2">
        <Button type="submit" look="primary" isBusy={add.isPending}>
          Add person
        </Button>
        <Button onClick={onClose}>Cancel</Button>
      </div>
    </form>
  );
}

function QuotaSection({ login, isAdmin }: { login: string; isAdmin: boolean }) {
  const [isSetting, setSetting] = useState(false);
  return (
    <Section title="Your quotas" action={isAdmin && !isSetting ? <Button onClick={() => setSetting(true)}>Set quotas</Button> : undefined}>
      {isSetting && <QuotaForm onClose={() => setSetting(false)} />}
      <QuotaUsageList login={login} />
    </Section>
  );
}

/** In days. */
const TOKEN_LIVES = [
  { value: "", label: "No end" },
  { value: "7", label: "A week" },
  { value: "30", label: "30 days" },
  { value: "90", label: "90 days" },
  { value: "365", label: "A year" },
];

function Tokens() {
  const [name, setName] = useState("");
  const [life, setLife] = useState("");
  const create = useMutation({
    mutationFn: () => api.createToken(name.trim(), life === "" ? null : Date.now() + Number(life) * 86_400_000),
    onSuccess: () => setName(""),
  });
  return (
    <Section title="Access tokens">
      <p className="mb-3 text-ink-2">For the command line, for git over HTTP, and for programs that act as you.</p>
      <form
        aria-label="Create a token"
        className="flex flex-wrap items-end gap-2"
        onSubmit={(event) => {
          event.preventDefault();
          create.mutate();
        }}
      >
        <Field label="What it is for" required value={name} onChange={(event) => setName(event.target.value)} className="min-w-56 flex-1" />
        <SelectField label="Works for" value={life} choices={TOKEN_LIVES} onChange={setLife} className="min-w-36" />
        <Button type="submit" isBusy={create.isPending} className="min-h-11">
          Create token
        </Button>
      </form>
      <ErrorBox error={create.error} className="mt-3" />
      {create.data && (
        <div className="card mt-3 p-4" data-testid="token">
          <p className="font-medium">Copy “{create.data.name}” now: it is not shown again.</p>
          {create.data.expires_at_ms != null && <p className="text-ink-2">It works until {new Date(create.data.expires_at_ms).toLocaleString()}.</p>}
          <pre className="output my-3">{create.data.secret}</pre>
          <CopyButton text={create.data.secret} label="Copy token" />
        </div>
      )}
    </Section>
  );
}

function MachineFacts() {
  const { data } = useQuery(machineQuery);
  const missing = data?.capabilities.filter((capability) => !capability.is_available).length ?? 0;
  return (
    <Section title="This machine">
      <Link to="/settings/machine" className="card flex min-h-14 items-center gap-3 px-4 py-2.5 hover:bg-raised">
        <Icon name="device" className="size-5 text-ink-3" />
        <span className="min-w-0 flex-1">
          <span className="block">Sandboxes, warm pools, disk, and what the machine can do</span>
          {data && (
            <span className={`block text-[13.5px] ${missing > 0 ? "text-warn" : "text-ink-3"}`}>
              Mode “{data.mode}”{missing > 0 ? `; ${missing} of ${data.capabilities.length} capabilities are missing` : "; nothing is missing"}
            </span>
          )}
        </span>
        <Icon name="chevron" className="size-4 text-ink-3" />
      </Link>
      <Link to="/settings/statistics" className="card mt-2 flex min-h-14 items-center gap-3 px-4 py-2.5 hover:bg-raised">
        <Icon name="chart" className="size-5 text-ink-3" />
        <span className="min-w-0 flex-1">Figures: turns, tokens, money, time, tools and changes</span>
        <Icon name="chevron" className="size-4 text-ink-3" />
      </Link>
    </Section>
  );
}
