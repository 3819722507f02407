/** The page's icons: 20-unit strokes in the text's colour, hidden from assistive technology. */
const PATHS = {
  clip: "M14.500 9.500 9.300 14.700a3 3 0 0 1-4.200-4.200l6-6a2 2 0 0 1 2.800 2.800l-5.800 5.800a1 1 0 0 1-1.400-1.400l4.800-4.800",
  plus: "M10 4v12M4 10h12",
  send: "M10 16V4m0 0L5 9m5-5 5 5",
  note: "M10 3a7 7 0 1 0 0 14 7 7 0 0 0 0-14zM10 9.5v4M10 6.600v.1",
  stop: "M6 6h8v8H6z",
  back: "M12 4 6 10l6 6",
  chevron: "M8 5l5 5-5 5",
  up: "M10 16V4m0 0L5 9m5-5 5 5",
  insert: "M3 10h9m0 0L8.500 6.500M12 10l-3.500 3.500M16 4v12",
  down: "M10 4v12m0 0-5-5m5 5 5-5",
  check: "M4 10.5 8 14.5 16 6",
  cross: "M5 5l10 10M15 5 5 15",
  warn: "M10 3.5 17.5 16.5h-15zM10 8.5v3.5M10 14.2v.1",
  circle: "M10 4.5a5.5 5.5 0 1 0 0 11 5.5 5.5 0 0 0 0-11z",
  collapse: "M4.500 3.500h11M4.500 16.500h11M10 5v3.500m0 0L8 6.700m2 1.800 2-1.800M10 15v-3.500m0 0L8 13.300m2-1.800 2 1.800",
  arc: "M10 3.5a6.5 6.5 0 1 1-6.5 6.5",
  clock: "M10 3a7 7 0 1 0 0 14 7 7 0 0 0 0-14zM10 6v4l2.5 2",
  question: "M7.5 7.5a2.5 2.5 0 1 1 3.6 2.2c-.7.4-1.1.9-1.1 1.8M10 14.3v.1M10 2.8a7.2 7.2 0 1 0 0 14.4 7.2 7.2 0 0 0 0-14.4z",
  branch: "M6 4v12M6 12c0-3 8-2 8-6M14 4.5a1.5 1.5 0 1 0 0 .1M6 3.2a1.3 1.3 0 1 0 0 .1M6 15.5a1.3 1.3 0 1 0 0 .1",
  merge: "M6 4v12M6 7c0 5 8 2 8 6.5M6 3a1.2 1.2 0 1 0 0 .1M6 16a1.2 1.2 0 1 0 0 .1M14 14.5a1.3 1.3 0 1 0 0 .1",
  repository: "M5 3.5h10v13H6.5A1.5 1.5 0 0 1 5 15zM5 14.5A1.5 1.5 0 0 1 6.5 13H15",
  chat: "M4 4.5h12v8.5H9l-3.5 3v-3H4z",
  gear: "M10 7.2a2.8 2.8 0 1 0 0 5.6 2.8 2.8 0 0 0 0-5.6zM10 2.5v2.3M10 15.2v2.3M2.5 10h2.3M15.2 10h2.3M4.7 4.7l1.6 1.6M13.7 13.7l1.6 1.6M15.3 4.7l-1.6 1.6M6.3 13.7l-1.6 1.6",
  terminal: "M4 6l4 4-4 4M10 14.5h6",
  edit: "M4 16l.8-3.4L13.5 4l2.5 2.5-8.6 8.7zM11.8 5.7l2.5 2.5",
  file: "M6 3h5.5L15 6.5V17H6zM11 3.5V7h3.5",
  search: "M9 4a5 5 0 1 0 0 10A5 5 0 0 0 9 4zM12.8 12.8 17 17",
  list: "M8 5.5h8M8 10h8M8 14.5h8M4 5.5h.1M4 10h.1M4 14.5h.1",
  sun: "M10 6.8a3.2 3.2 0 1 0 0 6.4 3.2 3.2 0 0 0 0-6.4zM10 2v2M10 16v2M2 10h2M16 10h2M4.4 4.4l1.4 1.4M14.2 14.2l1.4 1.4M15.6 4.4l-1.4 1.4M5.8 14.2l-1.4 1.4",
  moon: "M15.5 12A6.5 6.5 0 0 1 8 4.5a6.5 6.5 0 1 0 7.5 7.5z",
  device: "M3.5 4.5h13v8.5h-13zM7.5 16.5h5M10 13v3.5",
  copy: "M7 7V4h9v9h-3M4 7h9v9H4z",
  refresh: "M15.5 8A6 6 0 1 0 16 11.5M16 4v4h-4",
  archive: "M3.5 5h13v3h-13zM4.5 8v7.5h11V8M8 11h4",
  chart: "M4 16V9M8 16V4M12 16v-5M16 16V7",
  trash: "M4.5 6h11M8 6V4h4v2M6 6l.7 10.5h6.6L14 6",
  signout: "M8 4H4v12h4M8 10h8m0 0-3-3m3 3-3 3",
  thought: "M10 4c4 0 6.5 2.2 6.5 5S14 14 10 14c-.7 0-1.4-.1-2-.2L4.5 16l.8-3.2C4.200 11.800 3.500 10.500 3.500 9 3.500 6.200 6 4 10 4z",
  open: "M8.500 5H5v10h10v-3.500M11 4.500h4.500V9M15.500 4.500 9.500 10.500",
  panel: "M3.500 4.500h13v11h-13zM12 4.500v11",
} as const;

export type IconName = keyof typeof PATHS;

export function Icon({ name, className = "size-5" }: { name: IconName; className?: string }) {
  return (
    <svg viewBox="0 0 20 20" className={`shrink-0 ${className}`} fill="none" stroke="currentColor" strokeWidth="1.6" strokeLinecap="round" strokeLinejoin="round" aria-hidden="true">
      <path d={PATHS[name]} fill={name === "stop" ? "currentColor" : undefined} />
    </svg>
  );
}

export function Mark({ className = "size-8" }: { className?: string }) {
  return (
    <svg viewBox="0 0 64 64" className={`shrink-0 ${className}`} aria-hidden="true">
      <rect width="64" height="64" rx="14" fill="#14684a" />
      <path d="M27 14h14a3 3 0 0 1 3 3v35H27z" fill="#0b4a34" />
      <path d="M20 52V17a3 3 0 0 1 3-3h4v38z" fill="#f4e7b6" />
      <path d="M27 14 13 52h14z" fill="#f4e7b6" opacity=".32" />
      <circle cx="39" cy="34" r="2.4" fill="#f4e7b6" />
      <path d="M12 52h40" stroke="#f4e7b6" strokeWidth="3" strokeLinecap="round" />
    </svg>
  );
}
