/** The highlighted diff: loaded on first use. */
import { parsePatchFiles, registerCustomTheme } from "@pierre/diffs";
import { FileDiff } from "@pierre/diffs/react";
import { useMemo } from "react";
import { withFileHeader } from "../lib/patch";
import { useTheme } from "../lib/theme";
import { bundledLanguages } from "./languages";
import { PlainPatch } from "./plain";

// Their words stay readable on the red and green of a diff.
registerCustomTheme("github-light-high-contrast", () => import("@shikijs/themes/github-light-high-contrast"));
registerCustomTheme("github-dark-high-contrast", () => import("@shikijs/themes/github-dark-high-contrast"));

const CSS = `
:host {
  --diffs-font-family: var(--font-mono);
  --diffs-font-size: 12.5px;
  --diffs-line-height: 20px;
  --diffs-light-bg: var(--surface);
  --diffs-dark-bg: var(--surface);
}
`;

export default function PrettyPatch({ path, patch, isSplit }: { path: string; patch: string; isSplit: boolean }) {
  const theme = useTheme();
  const file = useMemo(() => parse(path, patch), [path, patch]);
  const options = useMemo(
    () => ({
      diffStyle: isSplit ? ("split" as const) : ("unified" as const),
      overflow: "wrap" as const,
      disableFileHeader: true,
      themeType: theme === "device" ? ("system" as const) : theme,
      theme: { light: "github-light-high-contrast", dark: "github-dark-high-contrast" },
      hunkSeparators: "simple" as const,
      preferredHighlighter: "shiki-js" as const,
      unsafeCSS: CSS,
    }),
    [isSplit, theme],
  );
  if (!file) return <PlainPatch patch={patch} />;
  return <FileDiff fileDiff={file} options={options} disableWorkerPool />;
}

function parse(path: string, patch: string) {
  try {
    const file = parsePatchFiles(withFileHeader(path, patch))[0]?.files[0];
    if (!file || file.hunks.length === 0) return undefined;
    return file.lang && file.lang in bundledLanguages ? file : { ...file, lang: languageOf(path) };
  } catch {
    return undefined;
  }
}

const BY_EXTENSION: Record<string, keyof typeof bundledLanguages> = {
  c: "c", h: "c", cc: "c", cpp: "c", hpp: "c", css: "css", go: "go", html: "html", java: "java", js: "javascript", mjs: "javascript", cjs: "javascript", json: "json", jsx: "jsx", kt: "kotlin", md: "markdown", py: "python", rs: "rust", sh: "bash", sql: "sql", swift: "swift", toml: "toml", ts: "typescript", mts: "typescript", tsx: "tsx", yaml: "yaml", yml: "yaml",
};

function languageOf(path: string) {
  return BY_EXTENSION[path.split(".").at(-1)?.toLowerCase() ?? ""] ?? ("text" as const);
}
