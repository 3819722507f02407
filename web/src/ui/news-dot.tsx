/** There is something new in a session since the person last looked. */
export function NewsDot({ className = "bg-accent" }: { className?: string }) {
  return (
    <span className={`inline-block size-2 shrink-0 rounded-full ${className}`} data-testid="news-dot">
      <span className="sr-only">New: </span>
    </span>
  );
}
