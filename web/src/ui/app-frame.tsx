/** The frame around every page: sidebar with sessions on wide screens, a top bar on narrow ones. */
import { useQuery, useSuspenseQuery } from "@tanstack/react-query";
import { Link, Outlet, useLocation } from "@tanstack/react-router";
import { useEffect } from "react";
import { meQuery, sessionsQuery } from "../api/queries";
import { useHasNews } from "../api/reads";
import { useSessionsStream } from "../api/sessions-stream";
import type { SessionView } from "../api/types";
import { comes } from "../lib/person";
import { AccountMenu } from "./account-menu";
import { Ago } from "./basics";
import { ChildMark } from "./child-mark";
import { Icon, type IconName, Mark } from "./icon";
import { NewsDot } from "./news-dot";
import { standingOf, StatusMark } from "./status";

const LINKS: { to: "/" | "/changes" | "/repositories"; label: string; icon: IconName }[] = [
  { to: "/", label: "Sessions", icon: "chat" },
  { to: "/changes", label: "Changes", icon: "merge" },
  { to: "/repositories", label: "Repositories", icon: "repository" },
];

export function AppFrame() {
  const { data } = useSuspenseQuery(meQuery);
  // Asked again now and then: another program of this machine may have changed the cookie.
  useEffect(() => comes(data.person.id), [data.person.id]);
  useSessionsStream();
  const isSession = useLocation({ select: (location) => location.pathname.startsWith("/sessions/") });
  return (
    <div className="flex h-dvh flex-col lg:flex-row">
      <a href="#main" className="sr-only z-50 rounded-lg bg-accent px-3 py-2 text-on-accent focus:not-sr-only focus:fixed focus:left-2 focus:top-2">
        Skip to content
      </a>
      <Sidebar person={data.person} />
      {!isSession && <TopBar person={data.person} />}
      <main id="main" tabIndex={-1} className="min-h-0 min-w-0 flex-1 overflow-y-auto outline-none" data-scroll-restoration-id="main">
        <Outlet />
      </main>
    </div>
  );
}

type PersonProps = { person: { name: string; login: string; role: string } };

function Sidebar({ person }: PersonProps) {
  return (
    <aside aria-label="Sidebar" className="on-side hidden w-72 shrink-0 flex-col bg-side text-side-ink lg:flex">
      <Link to="/" className="mx-3 mt-3 flex items-center gap-2.5 rounded-[10px] px-2 py-2">
        <Mark />
        <span className="font-serif text-[21px] font-semibold tracking-tight">Greenroom</span>
      </Link>
      <Link to="/" className="mx-3 mt-2 flex min-h-11 items-center justify-center gap-2 rounded-[10px] bg-lamp font-medium text-[#16301f] hover:brightness-95" search={{}}>
        <Icon name="plus" /> New session
      </Link>
      <nav aria-label="Main" className="mx-3 mt-3 space-y-0.5">
        {LINKS.slice(1).map((link) => (
          <Link key={link.to} to={link.to} className="flex min-h-10 items-center gap-2.5 rounded-[10px] px-2.5 text-side-ink-2 hover:bg-side-active hover:text-side-ink" activeProps={{ className: "bg-side-active !text-side-ink" }}>
            <Icon name={link.icon} /> {link.label}
          </Link>
        ))}
      </nav>
      <SidebarSessions />
      <div className="border-t border-side-line p-2">
        <AccountMenu person={person} isWide />
      </div>
    </aside>
  );
}

function SidebarSessions() {
  const { data: sessions } = useQuery(sessionsQuery);
  return (
    <nav aria-label="Sessions" className="mt-4 min-h-0 flex-1 overflow-y-auto px-3 pb-3">
      <h2 className="px-2.5 pb-1 font-sans text-xs font-medium tracking-wide text-side-ink-2">Sessions</h2>
      {sessions?.length === 0 && <p className="px-2.5 text-sm text-side-ink-2">None yet. Ask for a change to begin.</p>}
      <ul className="space-y-0.5">
        {sessions?.map((session) => (
          <SidebarSession key={session.id} session={session} />
        ))}
      </ul>
    </nav>
  );
}

function SidebarSession({ session }: { session: SessionView }) {
  // What is before one's eyes is no news, though the server hears of it a moment later.
  const isOpen = useLocation({ select: (location) => location.pathname === `/sessions/${session.id}` });
  const hasNews = useHasNews(session) && !isOpen;
  return (
    <li>
      <Link to="/sessions/$id" params={{ id: session.id }} className="flex gap-2 rounded-[10px] px-2.5 py-2 hover:bg-side-active/60" activeProps={{ className: "bg-side-active" }}>
        <span className={`mt-[3px] ${session.open_asks || session.status === "running" ? "text-lamp" : session.status === "failed" ? "text-[#ffb1a4]" : "text-side-ink-2"}`}>
          <StatusMark status={standingOf(session)} />
        </span>
        <span className="min-w-0 flex-1">
          <span className="flex items-center gap-1.5 leading-snug">
            {hasNews && <NewsDot className="bg-lamp" />}
            {session.parent && <ChildMark />}
            <span className="truncate">{session.title}</span>
          </span>
          <span className="flex gap-1.5 truncate text-[12.5px] text-side-ink-2">
            <span className="truncate">{session.repository}</span>
            <span aria-hidden="true">·</span>
            <Ago atMs={session.updated_at_ms} />
            {session.change && <span>· #{session.change.number}{session.change.state === "merged" ? " merged" : ""}</span>}
          </span>
        </span>
      </Link>
    </li>
  );
}

function TopBar({ person }: PersonProps) {
  return (
    <header className="on-side flex items-center gap-1 bg-side px-2 py-1 text-side-ink lg:hidden">
      <Link to="/" aria-label="Greenroom" className="flex size-11 items-center justify-center">
        <Mark className="size-7" />
      </Link>
      <nav aria-label="Main" className="flex min-w-0 flex-1">
        {LINKS.map((link) => (
          <Link key={link.to} to={link.to} activeOptions={{ exact: link.to === "/" }} className="flex min-h-11 items-center rounded-[10px] px-2.5 text-[14.5px] text-side-ink-2" activeProps={{ className: "!text-side-ink font-medium underline decoration-lamp decoration-2 underline-offset-8" }}>
            {link.label}
          </Link>
        ))}
      </nav>
      <AccountMenu person={person} />
    </header>
  );
}
