/**
 * The signed-in person, the light, settings, sign-out. A native popover: it closes on Escape and on a click outside, and
 * costs the first page nothing.
 */
import { useMutation } from "@tanstack/react-query";
import { Link } from "@tanstack/react-router";
import { useRef } from "react";
import { api } from "../api/client";
import { forgetDrafts } from "../session/draft";
import { announce } from "../lib/person";
import { setTheme, type Theme, useTheme } from "../lib/theme";
import { Avatar, ErrorBox } from "./basics";
import { Icon, type IconName } from "./icon";

const THEMES: { value: Theme; label: string; icon: IconName }[] = [
  { value: "device", label: "As the device", icon: "device" },
  { value: "light", label: "Light", icon: "sun" },
  { value: "dark", label: "Dark", icon: "moon" },
];
const ITEM = "flex min-h-10 w-full cursor-pointer items-center gap-2.5 rounded-lg px-2.5 text-left hover:bg-sunken";

export function AccountMenu({ person, isWide = false }: { person: { name: string; login: string; role: string }; isWide?: boolean }) {
  const box = useRef<HTMLDivElement>(null);
  const id = isWide ? "account-wide" : "account";
  const signOut = useMutation({
    mutationFn: () => api.signOut(),
    // Loaded anew: nothing of what the person saw stays in this page.
    onSuccess: () => {
      forgetDrafts();
      announce("");
      location.assign("/sign-in");
    },
  });
  return (
    <>
      <button type="button" popoverTarget={id} className={`flex min-h-11 items-center gap-2.5 rounded-[10px] px-2 text-left hover:bg-side-active ${isWide ? "w-full" : ""}`}>
        <span className="sr-only">Account of{isWide ? " " : ` ${person.name}`}</span>
        <Avatar name={person.name} className="size-8 text-xs" />
        {isWide && (
          <span className="min-w-0 flex-1">
            <span className="block truncate leading-tight">{person.name}</span>
            <span className="block truncate text-[12.5px] text-side-ink-2">
              {person.login} · {person.role}
            </span>
          </span>
        )}
      </button>
      <div ref={box} id={id} popover="auto" aria-label="Account" className={`card fixed m-0 w-60 p-1.5 text-[14.5px] text-ink shadow-lg inset-auto ${isWide ? "bottom-[68px] left-2" : "right-2 top-[54px]"}`}>
        {!isWide && (
          <p className="px-2.5 py-1.5 text-ink-2">
            {person.name} · {person.role}
          </p>
        )}
        <ThemeChoice id={id} />
        <hr className="my-1.5 border-line" />
        <Link to="/settings" className={ITEM} onClick={() => box.current?.hidePopover()}>
          <Icon name="gear" className="size-[18px] text-ink-2" /> Settings
        </Link>
        <button type="button" className={ITEM} onClick={() => signOut.mutate()}>
          <Icon name="signout" className="size-[18px] text-ink-2" /> Sign out
        </button>
        <ErrorBox error={signOut.error} className="mt-1.5" />
      </div>
    </>
  );
}

function ThemeChoice({ id }: { id: string }) {
  const theme = useTheme();
  return (
    <fieldset>
      <legend className="px-2.5 pb-1 pt-1 text-[13px] text-ink-3">Theme</legend>
      {THEMES.map((choice) => (
        <label key={choice.value} className={`${ITEM} has-focus-visible:outline-2 has-focus-visible:outline-accent`}>
          <input type="radio" name={`${id}-theme`} className="sr-only" checked={theme === choice.value} onChange={() => setTheme(choice.value)} />
          <Icon name={choice.icon} className="size-[18px] text-ink-2" />
          <span className="flex-1">{choice.label}</span>
          {theme === choice.value && <Icon name="check" className="size-4 text-accent" />}
        </label>
      ))}
    </fieldset>
  );
}
