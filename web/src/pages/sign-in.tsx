/** Signing in with login and password, and using a one-time link to set the password. */
import { useMutation, useQueryClient } from "@tanstack/react-query";
import { getRouteApi, Link, useRouter } from "@tanstack/react-router";
import { type FormEvent, type ReactNode, useState } from "react";
import { api } from "../api/client";
import { meQuery } from "../api/queries";
import type { SignedIn } from "../api/types";
import { safeReturnPath } from "../lib/format";
import { announce } from "../lib/person";
import { Button, ErrorBox, Field, useTitle } from "../ui/basics";
import { Mark } from "../ui/icon";

function Frame({ title, children }: { title: string; children: ReactNode }) {
  useTitle(title);
  return (
    <div className="grid min-h-dvh grid-rows-[auto_1fr] lg:grid-cols-[minmax(320px,5fr)_7fr] lg:grid-rows-1">
      <header className="flex items-center gap-3 bg-side px-6 py-5 text-side-ink lg:flex-col lg:items-start lg:justify-between lg:p-12">
        <div className="flex items-center gap-3">
          <Mark className="size-10" />
          <span className="font-serif text-2xl font-semibold tracking-tight">Greenroom</span>
        </div>
        <p className="hidden max-w-sm font-serif text-[28px] leading-snug text-side-ink lg:block">Describe a change. Watch it being made. Merge it.</p>
        <span />
      </header>
      <main className="flex items-start justify-center px-5 py-10 lg:items-center">
        <div className="w-full max-w-sm">
          <h1 className="mb-6 text-[27px]">{title}</h1>
          {children}
        </div>
      </main>
    </div>
  );
}

/** After signing in: everything asked before is forgotten, then the page that was wanted. */
function useEnter() {
  const router = useRouter();
  const queries = useQueryClient();
  return async (signedIn: SignedIn, path?: string) => {
    queries.clear();
    announce(signedIn.person.id);
    queries.setQueryData(meQuery.queryKey, signedIn);
    await router.navigate({ href: safeReturnPath(path), replace: true });
  };
}

export function SignInPage() {
  const search = getRouteApi("/sign-in").useSearch();
  const enter = useEnter();
  const [login, setLogin] = useState("");
  const [password, setPassword] = useState("");
  const signIn = useMutation({ mutationFn: () => api.signIn(login.trim(), password), onSuccess: (signedIn) => enter(signedIn, search.return) });
  const submit = (event: FormEvent) => {
    event.preventDefault();
    signIn.mutate();
  };
  return (
    <Frame title="Sign in">
      <form onSubmit={submit} className="space-y-4">
        <ErrorBox error={signIn.error} />
        <Field label="Login" name="username" autoComplete="username" autoCapitalize="none" autoCorrect="off" spellCheck={false} required autoFocus value={login} onChange={(event) => setLogin(event.target.value)} />
        <Field label="Password" name="password" type="password" autoComplete="current-password" required value={password} onChange={(event) => setPassword(event.target.value)} />
        <Button type="submit" look="primary" isBusy={signIn.isPending} className="w-full min-h-11">
          Sign in
        </Button>
      </form>
      <p className="mt-6 text-sm text-ink-3">No account? An administrator adds people and hands out one-time links.</p>
    </Frame>
  );
}

const PASSWORD_MIN = 10;

export function SignInLinkPage() {
  const { token, first } = getRouteApi("/sign-in/link").useSearch();
  const isFirst = first === "1" || first === "true";
  const enter = useEnter();
  const [person, setPerson] = useState({ login: "", name: "", email: "" });
  const [password, setPassword] = useState("");
  const use = useMutation({
    mutationFn: () => api.useSignInLink({ token: token ?? "", password, ...(isFirst ? person : {}) }),
    onSuccess: (signedIn) => enter(signedIn),
  });
  const set = (field: keyof typeof person) => (event: { target: { value: string } }) => setPerson({ ...person, [field]: event.target.value });
  if (!token) {
    return (
      <Frame title="This link is incomplete">
        <p>Open the whole address you were given, or ask an administrator for a new link.</p>
        <Link to="/sign-in" search={{}} className="mt-4 inline-block text-accent underline">
          Sign in
        </Link>
      </Frame>
    );
  }
  return (
    <Frame title={isFirst ? "Set up the first account" : "Choose a password"}>
      <form
        className="space-y-4"
        onSubmit={(event) => {
          event.preventDefault();
          use.mutate();
        }}
      >
        <ErrorBox error={use.error} />
        {isFirst && (
          <>
            <Field label="Login" name="username" autoComplete="username" autoCapitalize="none" spellCheck={false} required pattern="[a-z0-9][a-z0-9._\-]*" title="a-z, 0-9, '.', '_' and '-'" value={person.login} onChange={set("login")} />
            <Field label="Name" name="name" autoComplete="name" required value={person.name} onChange={set("name")} hint="Commits made for you carry this name." />
            <Field label="Email" name="email" type="email" autoComplete="email" required value={person.email} onChange={set("email")} />
          </>
        )}
        <Field label="Password" name="password" type="password" autoComplete="new-password" required minLength={PASSWORD_MIN} maxLength={256} value={password} onChange={(event) => setPassword(event.target.value)} hint={`At least ${PASSWORD_MIN} characters.`} />
        <Button type="submit" look="primary" isBusy={use.isPending} className="w-full min-h-11">
          {isFirst ? "Create account" : "Set password and sign in"}
        </Button>
      </form>
    </Frame>
  );
}
