/** The page's addresses, who may see them, and what happens when a sign-in has ended. */
import { QueryClient } from "@tanstack/react-query";
import { createRootRoute, createRoute, createRouter, lazyRouteComponent, Outlet, redirect } from "@tanstack/react-router";
import { ApiError, setSignedOutHandler } from "./api/client";
import { meQuery } from "./api/queries";
import { comes, goes, watchPerson } from "./lib/person";
import { keepShareSecret, keptShareSecret } from "./lib/share-secret";
import { forgetDrafts } from "./session/draft";
import { AppFrame } from "./ui/app-frame";
import { ErrorPage, NotFoundPage } from "./ui/error-page";

export const queryClient = new QueryClient({
  defaultOptions: {
    queries: {
      staleTime: 2000,
      retry: (failures, error) => failures < 2 && error instanceof ApiError && error.isTransient,
    },
  },
});

const text = (value: unknown): string | undefined => (typeof value === "string" || typeof value === "number" ? String(value) : undefined);

const root = createRootRoute({ component: Outlet, notFoundComponent: NotFoundPage, errorComponent: ErrorPage });

const signIn = createRoute({
  getParentRoute: () => root,
  path: "/sign-in",
  validateSearch: (search: Record<string, unknown>): { return?: string } => ({ return: text(search.return) }),
  component: lazyRouteComponent(() => import("./pages/sign-in"), "SignInPage"),
});
const signInLink = createRoute({
  getParentRoute: () => root,
  path: "/sign-in/link",
  validateSearch: (search: Record<string, unknown>): { token?: string; first?: string } => ({ token: text(search.token), first: text(search.first) }),
  component: lazyRouteComponent(() => import("./pages/sign-in"), "SignInLinkPage"),
});

/** Before anything else the secret leaves the address. */
const isShareLink = (location: { pathname: string; hash: string }) => location.pathname === "/share" && location.hash !== "";

/** Everything below needs a signed-in person. */
const app = createRoute({
  getParentRoute: () => root,
  id: "app",
  component: AppFrame,
  errorComponent: ErrorPage,
  beforeLoad: async ({ location }) => {
    if (isShareLink(location)) {
      keepShareSecret(location.hash);
      throw redirect({ to: "/share", hash: "", replace: true });
    }
    try {
      const { person } = await queryClient.ensureQueryData(meQuery);
      comes(person.id);
    } catch (error) {
      if (error instanceof ApiError && error.status === 401) {
        throw redirect({ to: "/sign-in", search: location.href === "/" ? {} : { return: location.href } });
      }
      throw error;
    }
  },
});

const home = createRoute({
  getParentRoute: () => app,
  path: "/",
  validateSearch: (search: Record<string, unknown>): { repository?: string } => ({ repository: text(search.repository) }),
  component: lazyRouteComponent(() => import("./pages/home"), "HomePage"),
});

export type SessionTab = "conversation" | "diff" | "change" | "details";
const TABS: readonly SessionTab[] = ["conversation", "diff", "change", "details"];
const session = createRoute({
  getParentRoute: () => app,
  path: "/sessions/$id",
  validateSearch: (search: Record<string, unknown>): { tab?: SessionTab } => ({ tab: TABS.find((tab) => tab === search.tab && tab !== "conversation") }),
  component: lazyRouteComponent(() => import("./pages/session"), "SessionPage"),
});
const changes = createRoute({
  getParentRoute: () => app,
  path: "/changes",
  component: lazyRouteComponent(() => import("./pages/changes"), "ChangesPage"),
});
const change = createRoute({
  getParentRoute: () => app,
  path: "/changes/$id",
  component: lazyRouteComponent(() => import("./pages/change"), "ChangePage"),
});
const repositories = createRoute({
  getParentRoute: () => app,
  path: "/repositories",
  component: lazyRouteComponent(() => import("./pages/repositories"), "RepositoriesPage"),
});
const repository = createRoute({
  getParentRoute: () => app,
  path: "/repositories/$name",
  validateSearch: (search: Record<string, unknown>): { image?: string } => ({ image: text(search.image) }),
  component: lazyRouteComponent(() => import("./pages/repository"), "RepositoryPage"),
});
const settings = createRoute({
  getParentRoute: () => app,
  path: "/settings",
  component: lazyRouteComponent(() => import("./pages/settings"), "SettingsPage"),
});

const share = createRoute({
  getParentRoute: () => app,
  path: "/share",
  component: lazyRouteComponent(() => import("./pages/share"), "SharePage"),
});
const machine = createRoute({
  getParentRoute: () => app,
  path: "/settings/machine",
  component: lazyRouteComponent(() => import("./pages/machine"), "MachinePage"),
});

const statistics = createRoute({
  getParentRoute: () => app,
  path: "/settings/statistics",
  component: lazyRouteComponent(() => import("./pages/statistics"), "StatisticsPage"),
});

export const router = createRouter({
  routeTree: root.addChildren([signIn, signInLink, app.addChildren([home, session, changes, change, repositories, repository, settings, share, machine, statistics])]),
  defaultPreload: "intent",
  scrollRestoration: true,
  // The page itself never scrolls: `main` does.
  scrollToTopSelectors: ["#main"],
});

setSignedOutHandler(() => {
  if (router.state.location.pathname.startsWith("/sign-in")) return;
  const from = router.state.location.href;
  // Whoever follows a link and has to sign in first, follows it then.
  const secret = router.state.location.pathname === "/share" ? keptShareSecret() : "";
  queryClient.clear();
  forgetDrafts();
  goes();
  if (secret) keepShareSecret(secret);
  void router.navigate({ to: "/sign-in", search: from === "/" ? {} : { return: from } });
});

// Loaded anew: nothing of what the person before saw stays in this page.
watchPerson((next) => {
  queryClient.clear();
  forgetDrafts();
  location.assign(next === "" ? "/sign-in" : "/");
});

declare module "@tanstack/react-router" {
  interface Register {
    router: typeof router;
  }
}
