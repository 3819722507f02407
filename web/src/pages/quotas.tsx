/** What one may hold and use, and, for administrators, what everyone and each person may. */
import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { type FormEvent, useState } from "react";
import { api } from "../api/client";
import { peopleQuery, quotasQuery, quotaUsageQuery } from "../api/queries";
import type { QuotaKind, Quotas } from "../api/types";
import { bytes } from "../lib/format";
import { Button, ErrorBox, Field, Loading, SelectField } from "../ui/basics";

type Setting = keyof Quotas;

/** `used`: what is counted, where the `label` says the bound. `unit`: how many of what is counted make one of what people write. */
const KINDS: { kind: QuotaKind; setting: Setting; label: string; used: string; unit: number; hint: string }[] = [
  { kind: "sessions", setting: "sessions", label: "Open sessions", used: "Open sessions", unit: 1, hint: "Neither deleted nor archived." },
  { kind: "sandboxes", setting: "sandboxes", label: "Sandboxes at once", used: "Sandboxes at once", unit: 1, hint: "An idle one is ended for the next." },
  { kind: "prompts_per_day", setting: "prompts_per_day", label: "Prompts a day", used: "Prompts today", unit: 1, hint: "From midnight UTC." },
  { kind: "cost_per_day", setting: "cost_microusd_per_day", label: "US dollars a day", used: "Cost today", unit: 1e6, hint: "Where the model's price is known." },
  { kind: "cost_per_month", setting: "cost_microusd_per_month", label: "US dollars a month", used: "Cost this month", unit: 1e6, hint: "Where the model's price is known." },
  { kind: "stored_bytes", setting: "stored_bytes", label: "MiB of attached files", used: "Attached files", unit: 1_048_576, hint: "Of sessions that are kept." },
];

const EVERYONE = "";

export function QuotaUsageList({ login }: { login: string }) {
  const { data, error } = useQuery(quotaUsageQuery(login));
  if (error) return <ErrorBox error={error} />;
  if (!data) return <Loading what="quotas" />;
  return (
    <ul className="card divide-y divide-line" data-testid="quota-usage">
      {data.used.map((used) => {
        const known = KINDS.find((one) => one.kind === used.kind);
        const isFull = used.limit != null && used.used >= used.limit;
        return (
          <li key={used.kind} className="flex flex-wrap items-center gap-x-3 px-4 py-2.5">
            <span className="min-w-0 flex-1 basis-40">{known?.used ?? used.kind}</span>
            <span className={isFull ? "font-medium text-warn" : "text-ink-2"}>
              {amount(used.kind, used.used)} {used.limit == null ? "· no limit" : `of ${amount(used.kind, used.limit)}`}
            </span>
            {isFull && used.free_at_ms != null && (
              <span className="basis-full text-[13px] text-ink-3">Begins anew on {new Date(used.free_at_ms).toLocaleString()}.</span>
            )}
          </li>
        );
      })}
    </ul>
  );
}

/** Of everyone, or of one person: chosen above the fields. */
export function QuotaForm({ onClose }: { onClose: () => void }) {
  const [who, setWho] = useState(EVERYONE);
  const people = useQuery(peopleQuery);
  const set = useQuery(quotasQuery);
  const error = people.error ?? set.error;
  const whose: Quotas | undefined = who === EVERYONE ? set.data?.everyone : (set.data?.people.find((person) => person.login === who)?.quotas ?? {});
  return (
    <div className="card mb-4 space-y-4 p-4">
      <SelectField
        label="For"
        value={who}
        onChange={setWho}
        choices={[{ value: EVERYONE, label: "Everyone" }, ...(people.data ?? []).map((person) => ({ value: person.login, label: `${person.name} (${person.login})` }))]}
      />
      <ErrorBox error={error} />
      {whose && <QuotaFields key={who} login={who} before={whose} onClose={onClose} />}
    </div>
  );
}

function QuotaFields({ login, before, onClose }: { login: string; before: Quotas; onClose: () => void }) {
  const queries = useQueryClient();
  const [texts, setTexts] = useState(() => Object.fromEntries(KINDS.map(({ setting, unit }) => [setting, asText(before[setting], unit)])) as Record<Setting, string>);
  const save = useMutation({
    mutationFn: () => api.setQuotas(login === EVERYONE ? null : login, fromTexts(texts)),
    onSuccess: async () => {
      await Promise.all([queries.invalidateQueries({ queryKey: quotasQuery.queryKey }), queries.invalidateQueries({ queryKey: ["quota-usage"] })]);
      onClose();
    },
  });
  const submit = (event: FormEvent) => {
    event.preventDefault();
    save.mutate();
  };
  const nothing = login === EVERYONE ? "No limit" : "As for everyone";
  return (
    <form aria-label="Set quotas" className="space-y-4" onSubmit={submit}>
      <div className="grid gap-4 sm:grid-cols-2">
        {KINDS.map(({ setting, label, unit, hint }) => (
          <Field
            key={setting}
            label={label}
            inputMode="decimal"
            pattern={unit === 1 ? "[0-9]*|unlimited" : "[0-9]*([.][0-9]+)?|unlimited"}
            title="A number, or the word unlimited"
            placeholder={nothing}
            value={texts[setting]}
            onChange={(event) => setTexts({ ...texts, [setting]: event.target.value.trim() })}
            hint={hint}
          />
        ))}
      </div>
      {login !== EVERYONE && <p className="text-[13.5px] text-ink-2">Empty counts as for everyone; “unlimited” takes this person’s limit away.</p>}
      <ErrorBox error={save.error} />
      <div className="flex gap-2">
        <Button type="submit" look="primary" isBusy={save.isPending}>
          Save quotas
        </Button>
        <Button onClick={onClose}>Cancel</Button>
      </div>
    </form>
  );
}

function asText(limit: Quotas[Setting], unit: number): string {
  if (limit == null) return "";
  return typeof limit === "number" ? String(limit / unit) : "unlimited";
}

function fromTexts(texts: Record<Setting, string>): Quotas {
  const quotas: Quotas = {};
  for (const { setting, unit } of KINDS) {
    const text = texts[setting];
    if (text === "unlimited") quotas[setting] = "unlimited";
    else if (text !== "") quotas[setting] = Math.round(Number(text) * unit);
  }
  return quotas;
}

function amount(kind: QuotaKind, value: number): string {
  if (kind === "cost_per_day" || kind === "cost_per_month") return `$${(value / 1e6).toFixed(2)}`;
  return kind === "stored_bytes" ? bytes(value) : String(value);
}
