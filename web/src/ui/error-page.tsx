/** What a page that cannot be shown says instead. */
import { Link, useRouter } from "@tanstack/react-router";
import { Button, Empty, ErrorBox } from "./basics";

export function ErrorPage({ error }: { error: unknown }) {
  const router = useRouter();
  return (
    <main className="mx-auto max-w-xl space-y-4 px-4 py-16">
      <ErrorBox error={error} />
      <Button icon="refresh" onClick={() => void router.invalidate()}>
        Try again
      </Button>
    </main>
  );
}

export function NotFoundPage() {
  return (
    <main className="py-16">
      <Empty icon="question" title="There is no page at this address.">
        <Link to="/" className="text-accent underline">
          Go to the sessions
        </Link>
      </Empty>
    </main>
  );
}
