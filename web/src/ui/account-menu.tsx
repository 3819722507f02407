/** The signed-in person, the light, settings, sign-out. */
import { useQueryClient } from "@tanstack/react-query";
import { useNavigate } from "@tanstack/react-router";
import { DropdownMenu } from "radix-ui";
import { api } from "../api/client";
import { setTheme, type Theme, useTheme } from "../lib/theme";
import { Avatar } from "./basics";
import { Icon, type IconName } from "./icon";

const THEMES: { value: Theme; label: string; icon: IconName }[] = [
  { value: "device", label: "As the device", icon: "device" },
  { value: "light", label: "Light", icon: "sun" },
  { value: "dark", label: "Dark", icon: "moon" },
];
const ITEM = "flex min-h-10 cursor-pointer items-center gap-2.5 rounded-lg px-2.5 outline-none select-none data-[highlighted]:bg-sunken";

export function AccountMenu({ person, isWide }: { person: { name: string; login: string; role: string }; isWide?: boolean }) {
  const navigate = useNavigate();
  const queries = useQueryClient();
  const theme = useTheme();
  const signOut = async () => {
    await api.signOut().catch(() => undefined);
    queries.clear();
    await navigate({ to: "/sign-in" });
  };
  return (
    <DropdownMenu.Root>
      <DropdownMenu.Trigger aria-label={`Account of ${person.name}`} className={`flex min-h-11 items-center gap-2.5 rounded-[10px] px-2 text-left hover:bg-side-active ${isWide ? "w-full" : ""}`}>
        <Avatar name={person.name} className="size-8 text-xs" />
        {isWide && (
          <span className="min-w-0 flex-1">
            <span className="block truncate leading-tight">{person.name}</span>
            <span className="block truncate text-[12.5px] text-side-ink-2">
              {person.login} · {person.role}
            </span>
          </span>
        )}
      </DropdownMenu.Trigger>
      <DropdownMenu.Portal>
        <DropdownMenu.Content side={isWide ? "top" : "bottom"} align={isWide ? "start" : "end"} sideOffset={6} className="card z-40 min-w-56 p-1.5 text-[14.5px] shadow-lg">
          {!isWide && (
            <DropdownMenu.Label className="px-2.5 py-1.5 text-ink-2">
              {person.name} · {person.role}
            </DropdownMenu.Label>
          )}
          <DropdownMenu.RadioGroup value={theme} onValueChange={(value) => setTheme(value as Theme)} aria-label="Theme">
            {THEMES.map((choice) => (
              <DropdownMenu.RadioItem key={choice.value} value={choice.value} className={ITEM} onSelect={(event) => event.preventDefault()}>
                <Icon name={choice.icon} className="size-[18px] text-ink-2" />
                <span className="flex-1">{choice.label}</span>
                <DropdownMenu.ItemIndicator>
                  <Icon name="check" className="size-4 text-accent" />
                </DropdownMenu.ItemIndicator>
              </DropdownMenu.RadioItem>
            ))}
          </DropdownMenu.RadioGroup>
          <DropdownMenu.Separator className="my-1.5 border-t border-line" />
          <DropdownMenu.Item className={ITEM} onSelect={() => void navigate({ to: "/settings" })}>
            <Icon name="gear" className="size-[18px] text-ink-2" /> Settings
          </DropdownMenu.Item>
          <DropdownMenu.Item className={ITEM} onSelect={() => void signOut()}>
            <Icon name="signout" className="size-[18px] text-ink-2" /> Sign out
          </DropdownMenu.Item>
        </DropdownMenu.Content>
      </DropdownMenu.Portal>
    </DropdownMenu.Root>
  );
}
