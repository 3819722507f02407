/** Who is at a session: faces in its header, who types, who has read how far. */
import { useQuery } from "@tanstack/react-query";
import { useEffect, useState } from "react";
import { meQuery } from "../api/queries";
import type { ClientKind, Presence, PresentPerson, Readers } from "../api/types";
import { Avatar } from "../ui/basics";
import type { SessionState } from "./state";

const FACES = 4;
/** How long the same words of typing stand before they are read out. */
const CALM_MS = 1500;

const CLIENTS: Record<ClientKind, string> = { web: "page", cli: "command line", vscode: "VS Code", slack: "Slack", extension: "browser extension", api: "program" };

export function clientsText(person: PresentPerson): string {
  return person.clients.map((client) => CLIENTS[client] ?? client).join(", ");
}

/** Everyone who has the session open, oneself included, as long as somebody else is. */
export function Faces({ presence }: { presence: Presence }) {
  const { data } = useQuery(meQuery);
  const { people, more } = presence;
  const count = people.length + more;
  if (count < 2) return null;
  const me = data?.person.id;
  // Others before oneself: a narrow screen shows one face.
  const rank = (person: PresentPerson) => (person.person === me ? 2 : person.is_typing ? 0 : 1);
  const shown = [...people].sort((a, b) => rank(a) - rank(b)).slice(0, people.length > FACES + 1 ? FACES : FACES + 1);
  const rest = count - shown.length;
  return (
    <div className="shrink-0" data-testid="presence">
      <button type="button" popoverTarget="people-here" className="flex min-h-10 cursor-pointer items-center rounded-[10px] px-1.5 hover:bg-sunken">
        <span className="sr-only">{count} people here</span>
        {shown.map((person, index) => (
          <span key={person.person} title={person.name} className={`rounded-full border-2 border-surface ${index > 0 ? "-ml-1.5 max-sm:hidden" : ""} ${person.is_typing ? "outline-2 outline-accent" : ""}`}>
            <Avatar name={person.name} />
          </span>
        ))}
        {rest > 0 && <span aria-hidden="true" className="ml-1 text-[13px] text-ink-2 max-sm:hidden">+{rest}</span>}
        <span aria-hidden="true" className="ml-1 text-[13px] text-ink-2 sm:hidden">+{count - 1}</span>
      </button>
      <div id="people-here" popover="auto" aria-label="Here now" className="card fixed inset-auto right-2 top-14 m-0 w-72 max-w-[85vw] p-2 text-ink shadow-lg">
        <h2 className="px-2 pb-1 font-sans text-[13px] font-medium text-ink-2">Here now</h2>
        <ul className="max-h-[50dvh] overflow-y-auto">
          {people.map((person) => (
            <li key={person.person} className="flex items-center gap-2 px-2 py-1.5" data-testid="present-person">
              <Avatar name={person.name} />
              <span className="min-w-0 flex-1">
                <span className="block truncate">
                  {person.name}
                  {person.person === me && <span className="text-ink-3"> (you)</span>}
                </span>
                <span className="block text-[12.5px] text-ink-3">{clientsText(person)}</span>
              </span>
            </li>
          ))}
          {more > 0 && <li className="px-2 py-1.5 text-ink-2">and {more} more</li>}
        </ul>
      </div>
    </div>
  );
}

/** At most two names. */
export function typingText(names: readonly string[]): string {
  const [first, second] = names;
  if (first === undefined) return "";
  if (second === undefined) return `${first} is typing`;
  if (names.length === 2) return `${first} and ${second} are typing`;
  return `${first} and ${names.length - 1} others are typing`;
}

/** Only those who have seen all that is news. */
export function seenText(readers: Readers, newsSeq: number, me: string | undefined): string {
  const names = readers.readers.filter((reader) => reader.person !== me && reader.seq >= newsSeq).map((reader) => reader.name);
  if (names.length === 0) return "";
  const rest = names.length - 2;
  if (rest <= 0) return `Seen by ${names.join(" and ")}`;
  return `Seen by ${names.slice(0, 2).join(", ")} and ${rest} more`;
}

/** One quiet line above the box: who types, else who has seen the end. */
export function LiveLine({ state, presence, readers }: { state: SessionState; presence: Presence; readers: Readers }) {
  const { data } = useQuery(meQuery);
  const me = data?.person.id;
  const typing = typingText(presence.people.filter((person) => person.is_typing && person.person !== me).map((person) => person.name));
  const seen = state.isCaughtUp && state.newsSeq > 0 ? seenText(readers, state.newsSeq, me) : "";
  return (
    <div className="mx-auto h-5 w-full max-w-[760px] truncate px-4 text-[13px] leading-5 text-ink-3 lg:px-7">
      {typing ? (
        <span data-testid="typing">
          <span aria-hidden="true" className="breathe mr-1.5 inline-block size-1.5 rounded-full bg-accent align-middle" />
          {typing}
        </span>
      ) : (
        <span data-testid="seen-by">{seen}</span>
      )}
      <span className="sr-only" aria-live="polite">
        {useCalm(typing)}
      </span>
    </div>
  );
}

/** Read out only what has stood for a while: who begins and stops again is not announced each time. */
function useCalm(text: string): string {
  const [calm, setCalm] = useState("");
  useEffect(() => {
    const timer = setTimeout(() => setCalm(text), CALM_MS);
    return () => clearTimeout(timer);
  }, [text]);
  return calm;
}

/** Between what was there at the last visit and what has come since. */
export function NewMark() {
  return (
    <p role="separator" aria-label="New since you last looked" data-testid="new-mark" className="mt-6 flex items-center gap-3 text-[13px] font-medium text-accent">
      <span className="h-px flex-1 bg-accent/40" aria-hidden="true" />
      <span aria-hidden="true">New since you last looked</span>
      <span className="h-px flex-1 bg-accent/40" aria-hidden="true" />
    </p>
  );
}
