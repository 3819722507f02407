// Development only: plays a session with the API's shapes, so that the page can be looked at without a server.
//   npm run build && npm run mock        → http://127.0.0.1:7878 (serves dist/ too; sign in with anything)
// PORT changes the port, SPEED (default 1) the pace of the played session.
import { createReadStream, existsSync } from "node:fs";
import { createServer } from "node:http";
import { extname, join, normalize } from "node:path";
import { fileURLToPath } from "node:url";
import { WebSocketServer } from "ws";

const PORT = Number(process.env.PORT ?? 7878);
const SPEED = Number(process.env.SPEED ?? 1);
const dist = fileURLToPath(new URL("../dist", import.meta.url));
const now = () => Date.now();
const wait = (ms) => new Promise((resolve) => setTimeout(resolve, ms / SPEED));
let counter = 0;
const id = (prefix) => `${prefix}_${String(++counter).padStart(26, "0")}`;
const hash = (n) => String(n).repeat(40).slice(0, 40);

const ada = { id: "per_ada", login: "ada", name: "Ada Lovelace", email: "ada@example.com", role: "admin" };
const bo = { id: "per_bo", login: "bo", name: "Bo Diddley", email: "bo@example.com", role: "member" };
const author = (person) => ({ on_behalf_of: person.id, via: "person", name: person.name, email: person.email });
const usage = (input, output, cost) => ({ input_tokens: input, output_tokens: output, cache_read_tokens: input * 6, cache_write_tokens: 0, cost_microusd: cost, requests: 1 });
const problem = (code, message, hint, detail) => ({ code, message, ...(hint && { hint }), ...(detail && { detail }) });

const PATCH = `diff --git a/src/cart.rs b/src/cart.rs
index 1111111..2222222 100644
--- a/src/cart.rs
+++ b/src/cart.rs
@@ -12,9 +12,11 @@ impl Cart {
     }
 
     /// Sum of all items in cents, discounts included.
-    pub fn total(&self) -> u64 {
-        self.items.iter().map(|item| item.price * item.count).sum::<u64>() - self.discount
+    pub fn total_cents(&self) -> u64 {
+        let sum: u64 = self.items.iter().map(|item| item.price_cents * item.count).sum();
+        // A discount can be larger than what is in the cart: the total never goes below zero.
+        sum.saturating_sub(self.discount_cents)
     }
 
     pub fn is_empty(&self) -> bool {
         self.items.is_empty()
`;
const TEST_PATCH = `diff --git a/tests/cart.rs b/tests/cart.rs
index 3333333..4444444 100644
--- a/tests/cart.rs
+++ b/tests/cart.rs
@@ -1,4 +1,12 @@
 use sample::Cart;
 
+#[test]
+fn a_discount_larger_than_the_cart_gives_a_total_of_zero() {
+    let mut cart = Cart::default();
+    cart.add("tea", 250, 1);
+    cart.discount(1000);
+    assert_eq!(cart.total_cents(), 0);
+}
+
 #[test]
 fn an_empty_cart_costs_nothing() {
`;
const files = [
  { path: "src/cart.rs", old_path: null, additions: 4, deletions: 2, is_binary: false, patch: PATCH, is_truncated: false },
  { path: "tests/cart.rs", old_path: null, additions: 8, deletions: 0, is_binary: false, patch: TEST_PATCH, is_truncated: false },
  { path: "docs/logo.png", old_path: null, additions: 0, deletions: 0, is_binary: true, patch: "", is_truncated: false },
];
const THOUGHT = "The test name points at discounts. I should run the suite first and read the failure before touching anything.";
const TEST_OUTPUT = `\x1b[1m\x1b[32m   Compiling\x1b[0m sample v0.1.0 (/workspace)
\x1b[1m\x1b[32m    Finished\x1b[0m test profile [unoptimized + debuginfo] target(s) in 1.84s
\x1b[1m\x1b[32m     Running\x1b[0m tests/cart.rs

running 3 tests
test an_empty_cart_costs_nothing ... ok
test items_add_up ... ok
test a_discount_larger_than_the_cart_gives_a_total_of_zero ... FAILED

failures:

---- a_discount_larger_than_the_cart_gives_a_total_of_zero stdout ----
thread 'a_discount_larger_than_the_cart_gives_a_total_of_zero' panicked at src/cart.rs:16:9:
attempt to subtract with overflow

test result: FAILED. 2 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out
`;

const image = (state, more = {}) => ({
  id: id("img"), repository: "rep_1", state, commit: hash("a1b2c3d4"), problem: null, started_at_ms: now() - 600_000, finished_at_ms: now() - 560_000,
  steps: [
    { name: "clone", is_reused: false, duration_ms: 840 },
    { name: "cargo fetch", is_reused: true, duration_ms: 6200 },
    { name: "cargo build --all-targets", is_reused: false, duration_ms: 18_400 },
    { name: "cargo test", is_reused: false, duration_ms: 4100 },
  ],
  ...more,
});
const good = image("ready");
const failed = image("failed", {
  started_at_ms: now() - 60_000, finished_at_ms: now() - 31_000,
  problem: problem("step_failed", "The step “npm ci” ended with status 1.", "Run it in a clone of the repository, or change it in .greenroom/environment.toml.", "npm error code ERESOLVE\nnpm error ERESOLVE could not resolve\nnpm error While resolving: site@2.1.0"),
  steps: [{ name: "clone", is_reused: false, duration_ms: 700 }, { name: "npm ci", is_reused: false, duration_ms: 28_000 }],
});
const building = image("building", { finished_at_ms: null, started_at_ms: now() - 9000, steps: [{ name: "clone", is_reused: false, duration_ms: 900 }] });
const repositories = [
  { id: "rep_1", name: "sample", source: "/srv/code/sample", default_branch: "main", required_approvals: 1, mirror: { refreshed_at_ms: now() - 600_000, problem: null, hook_made_at_ms: null }, clone_path: "/git/sample.git", head: hash("a1b2c3d4"), image: good, build: null, added_at_ms: now() - 86_400_000 },
  { id: "rep_2", name: "site", source: "https://git.example.com/team/site.git", default_branch: "main", required_approvals: 1, mirror: { refreshed_at_ms: now() - 600_000, problem: null, hook_made_at_ms: null }, clone_path: "/git/site.git", head: hash("99"), image: good, build: failed, added_at_ms: now() - 86_400_000 },
  { id: "rep_3", name: "ledger", source: "https://git.example.com/team/ledger.git", default_branch: "trunk", required_approvals: 0, mirror: { refreshed_at_ms: now() - 600_000, problem: null, hook_made_at_ms: null }, clone_path: "/git/ledger.git", head: null, image: null, build: building, added_at_ms: now() - 9000 },
];
const models = [
  { name: "opus", provider: "anthropic", model: "claude-opus-4-5", base_url: null, has_key: true, is_default: true, effort: null, efforts: ["low", "medium", "high"], context_window: 200000, sees_images: true, uses_tools: true, has_price: true, is_small: false },
  { name: "local", provider: "openai_chat", model: "qwen3-coder", base_url: "http://127.0.0.1:8000/v1", has_key: false, is_default: false, effort: null, efforts: [], context_window: 128000, sees_images: true, uses_tools: true, has_price: false, fallback: 1, is_small: false },
];
const people = [ada, bo];

class Session {
  constructor(title, repository, who, more = {}) {
    Object.assign(this, { id: id("ses"), title, repository, who, entries: [], sockets: new Set(), status: "idle", change: null, created: now(), running: null, keys: new Map(), live: new Map(), ...more });
    this.append({ type: "session_created", repository: "rep_1", repository_name: repository, title, author: author(who), branch: `greenroom/${this.id}`, base_branch: "main", model: null, budget: { tokens: 5e6, cost_microusd: 5e6, wall_ms: 36e5, tool_calls: 400 }, ...(this.from && { forked_from: this.from }) });
  }
  append(event) {
    const entry = { seq: this.entries.length + 1, at_ms: now(), epoch: 1, event };
    this.entries.push(entry);
    this.send({ type: "entry", entry });
    return entry.seq;
  }
  send(frame) {
    for (const socket of this.sockets) socket.send(JSON.stringify(frame));
  }
  view() {
    return { id: this.id, repository: this.repository, title: this.title, status: this.status, created_by: this.who.id, created_by_name: this.who.name, branch: `greenroom/${this.id}`, model: null, queued_prompts: (this.queue ?? []).length, usage: usage(12_000, 900, 40_000), change: this.change, head_seq: this.entries.length, news_seq: this.entries.length, created_at_ms: this.created, updated_at_ms: this.updated ?? this.entries.at(-1).at_ms };
  }
  async say(turn, kind, text, pace = 24) {
    const block = id("blk");
    this.append({ type: "block_opened", turn, block, kind });
    const pieces = text.match(/[\s\S]{1,7}/gu) ?? [];
    let offset = 0;
    for (const piece of pieces) {
      this.send({ type: "delta", block, offset, text: piece });
      offset += Buffer.byteLength(piece);
      if (pace) await wait(pace);
    }
    this.append({ type: "block_text", block, offset: 0, text });
    return block;
  }
  async call(turn, name, title, input, outcome, text, display, ms, output) {
    const call = id("call");
    this.append({ type: "assistant_message", turn, content: [{ type: "tool_call", id: call, name, input }], blocks: [id("blk")], raw: null, stop_reason: "tool_use", usage: usage(3000, 120, 9000), model: "claude-opus-4-5" });
    this.append({ type: "tool_started", turn, call, name, title });
    if (output) {
      let offset = 0;
      for (const line of output.split(/(?<=\n)/)) {
        this.send({ type: "output", call, offset, text: line });
        offset += Buffer.byteLength(line);
        await wait(90);
      }
    } else await wait(ms / 4);
    if (outcome === "hold") return new Promise(() => {});
    this.append({ type: "tool_finished", turn, call, outcome, text, display, duration_ms: ms });
  }
  async play(prompt, holds) {
    const turn = id("trn");
    this.running = turn;
    this.status = "running";
    const stopped = () => this.running !== turn;
    this.append({ type: "turn_started", turn, prompts: [prompt] });
    this.append({ type: "model_requested", turn, model: "claude-opus-4-5", attempt: 1 });
    this.append({ type: "sandbox_changed", state: "claiming", image: null, commit: null, problem: null });
    await wait(300);
    this.append({ type: "sandbox_changed", state: "ready", image: good.id, commit: good.commit, problem: null });
    this.append({ type: "synced", from: hash("a1"), to: hash("b2"), changed: ["Cargo.lock", "Cargo.toml", "src/catalog.rs", "src/shipping/a_very_long_module_name_that_wraps_on_phones/mod.rs"], changed_count: 214, rerun_steps: ["cargo fetch"] });
    this.append({ type: "service_changed", name: "postgres", state: "ready", problem: null });
    this.append({ type: "service_changed", name: "web", state: "starting", problem: null });
    this.append({ type: "model_retry", turn, attempt: 2, wait_ms: 1200, problem: problem("model_overloaded", "The model is overloaded.") });
    await wait(1200);
    this.append({ type: "model_requested", turn, model: "claude-opus-4-5", attempt: 2 });
    this.append({ type: "notice_given", turn, text: "The sync changed files that you had read: README.md." });
    this.append({ type: "start_timeline", turn, sandbox: "warm", marks: [{ stage: "committed", at_us: 820 }, { stage: "model_called", at_us: 1310 }, { stage: "claimed", at_us: 7400 }, { stage: "restored", at_us: 21_500 }, { stage: "synced", at_us: 143_000 }, { stage: "first_token", at_us: 412_000 }] });
    const thought = await this.say(turn, "thinking", THOUGHT, 12);
    const text = "I'll run the test suite first to see **what fails**, then look at `Cart::total`.";
    const block = await this.say(turn, "text", text);
    this.append({ type: "assistant_message", turn, content: [{ type: "thinking", text: THOUGHT }, { type: "text", text }], blocks: [thought, block], raw: null, stop_reason: "tool_use", usage: usage(2400, 80, 7000), model: "claude-opus-4-5" });
    this.append({ type: "todo_changed", turn, items: [{ text: "Run the tests and read the failure", status: "in_progress" }, { text: "Make the total saturate", status: "pending" }, { text: "Open a change", status: "pending" }] });
    await this.call(turn, "bash", "cargo test", { command: "cargo test" }, holds ? "hold" : "failed", "exit 101", { kind: "command", command: "cargo test", exit_code: 101, output: TEST_OUTPUT, is_truncated: false }, 3120, TEST_OUTPUT);
    if (stopped()) return;
    await this.call(turn, "read", "src/cart.rs", { path: "src/cart.rs" }, "succeeded", Array.from({ length: 42 }, (_, i) => `${i + 1}  line`).join("\n"), null, 4);
    await this.call(turn, "grep", "total", { pattern: "total\\(" }, "succeeded", "src/cart.rs:15: pub fn total(&self) -> u64 {", null, 9);
    if (stopped()) return;
    await this.call(turn, "edit", "src/cart.rs", { path: "src/cart.rs" }, "succeeded", "edited", { kind: "diff", path: "src/cart.rs", diff: PATCH }, 6);
    this.append({ type: "egress_denied", host: "telemetry.example.net", port: 443, reason: "not_allowed" });
    this.append({ type: "todo_changed", turn, items: [{ text: "Run the tests and read the failure", status: "done" }, { text: "Make the total saturate", status: "in_progress" }, { text: "Open a change", status: "pending" }] });
    await this.call(turn, "bash", "cargo test", { command: "cargo test" }, "succeeded", "exit 0", { kind: "command", command: "cargo test", exit_code: 0, output: "running 3 tests\n...\ntest result: ok. 3 passed; 0 failed\n", is_truncated: false }, 2400);
    if (stopped()) return;
    const change = changeView(this);
    this.change = { id: change.id, number: change.number, state: "open" };
    await this.call(turn, "open_change", "Keep the cart's total at zero or above", {}, "succeeded", "opened", { kind: "change", number: change.number, title: change.title }, 210);
    this.append({ type: "change_opened", change: change.id, number: change.number, title: change.title, branch: change.branch, commit: change.head, author: author(ada) });
    this.append({ type: "todo_changed", turn, items: [{ text: "Run the tests and read the failure", status: "done" }, { text: "Make the total saturate", status: "done" }, { text: "Open a change", status: "done" }] });
    const last = "The failing test passes now.\n\n- `Cart::total_cents` uses `saturating_sub`, so a large discount gives **0** instead of an overflow.\n- The field names say their unit (`price_cents`).\n\n```rust\nsum.saturating_sub(self.discount_cents)\n```\n\n| test | before | after |\n|---|---|---|\n| `a_discount_larger_than_the_cart…` | panics | ok |\n\nThe change is open for review.";
    const lastBlock = await this.say(turn, "text", last, 10);
    this.append({ type: "assistant_message", turn, content: [{ type: "text", text: last }], blocks: [lastBlock], raw: null, stop_reason: "end_turn", usage: usage(4100, 210, 12_000), model: "claude-opus-4-5" });
    this.finish(turn, { kind: "completed" });
  }
  finish(turn, outcome) {
    this.running = null;
    this.status = outcome.kind === "failed" ? "failed" : "idle";
    this.append({ type: "turn_finished", turn, outcome, usage: usage(18_000, 1900, 61_000), duration_ms: 31_400 });
    this.append({ type: "snapshot_taken", snapshot: id("snp"), reason: "turn", turn, freeze_us: 900, duration_ms: 12 });
  }
  command(person, key, command) {
    if (this.keys.has(key)) return this.keys.get(key);
    const receipt = { key, seq: this.apply(person, command) };
    this.keys.set(key, receipt);
    return receipt;
  }
  apply(person, command) {
    if (command.type === "prompt") {
      const prompt = id("pmt");
      const seq = this.append({ type: "prompt_accepted", prompt, author: author(person), text: command.text, delivery: command.delivery ?? "queue" });
      if (!this.running) void this.play(prompt, this.holds);
      return seq;
    }
    if (command.type === "edit_prompt") return this.append({ type: "prompt_edited", prompt: command.prompt, text: command.text, by: person.id });
    if (command.type === "withdraw_prompt") return this.append({ type: "prompt_withdrawn", prompt: command.prompt, by: person.id });
    if (command.type === "set_delivery") return this.append({ type: "delivery_set", prompt: command.prompt, delivery: command.delivery, by: person.id });
    if (command.type === "move_prompt") return this.append({ type: "prompt_moved", prompt: command.prompt, before: command.before ?? null, by: person.id });
    if (command.type === "release_queue") return this.append({ type: "queue_released", by: person.id, name: person.name });
    if (command.type === "rename") return this.append({ type: "title_changed", title: command.title });
    const turn = this.running;
    if (turn && command.hold_queue) this.append({ type: "queue_held", by: person.id, name: person.name });
    if (!turn) throw Object.assign(new Error(), { status: 409, body: problem("not_running", "No turn is running in this session.") });
    const seq = this.append({ type: "stop_requested", turn, by: person.id, name: person.name });
    setTimeout(() => this.running === turn && this.finish(turn, { kind: "stopped" }), 400);
    return seq;
  }
}

const changes = new Map();
function changeView(session, more = {}) {
  const change = {
    id: id("chg"), repository: session.repository, number: changes.size + 12, session: session.id, title: "Keep the cart's total at zero or above",
    body: "A discount larger than the cart made `Cart::total` overflow.\n\n- `total_cents` saturates at zero\n- units are in the names\n\nAsked for by Ada Lovelace.",
    branch: `greenroom/${session.id}`, base: "main", head: hash("c0ffee12"), author_id: ada.id, author_name: ada.name, state: "open", approvals: [], required_approvals: 1, is_unreviewed: false, merge_commit: null,
    commits: [{ hash: hash("c0ffee12"), author_name: ada.name, author_email: ada.email, subject: "cart: the total never goes below zero", at_ms: now() - 40_000 }],
    may_approve: { is_allowed: false, reason: "Your own prompts produced this change; another person has to approve it." },
    may_merge: { is_allowed: false, reason: "One approval is missing." },
    opened_at_ms: now() - 30_000, updated_at_ms: now() - 30_000, ...more,
  };
  changes.set(change.id, change);
  return change;
}

let additions = [{ host: "telemetry.internal:4317", allows_private: true }];
const rule = (source, host, is_tls_ended = false) => ({ host, source, allows_private: false, is_tls_ended });
const egress = () => ({ additions, rules: [...["crates.io", "static.crates.io", "index.crates.io", "registry.npmjs.org", "pypi.org", "files.pythonhosted.org", "proxy.golang.org"].map((host) => rule("default", host)), rule("recipe", "api.example.com"), rule("secret", "api.stripe.com", true), ...additions.map((a) => rule("admin", a.host))] });
const secrets = [{ name: "STRIPE_KEY", hosts: ["api.stripe.com"], injection: { kind: "bearer" }, placeholder: "grp_x", base_url: "http://x", added_at_ms: now() }];

const sessions = [];
function makeSessions() {
  const old = new Session("Make the failing test pass", "sample", ada, { updated: now() - 7_200_000 });
  const c1 = changeView(old, { state: "merged", merge_commit: hash("feed"), approvals: [{ by: bo.id, name: bo.name, is_current: true, at_ms: now() - 6_000_000 }], title: "Say hello in the reader's language", updated_at_ms: now() - 6_000_000 });
  old.change = { id: c1.id, number: c1.number, state: "merged" };
  const failing = new Session("Upgrade the router to version 8 and fix what breaks on the way", "site", bo, { updated: now() - 200_000 });
  const prompt = id("pmt");
  failing.append({ type: "prompt_accepted", prompt, author: author(bo), text: "Upgrade the router to version 8.", delivery: "queue" });
  failing.append({ type: "turn_started", turn: "trn_f", prompts: [prompt] });
  failing.append({ type: "turn_interrupted", turn: "trn_f", open_calls: ["x"] });
  failing.finish("trn_f", { kind: "failed", problem: problem("model_not_configured", "No model is configured.", "Run `greenroom model add` on the server, or add one under Settings.") });
  const forBo = changeView(failing, { title: "Upgrade the router", author_id: bo.id, author_name: bo.name, may_approve: { is_allowed: true }, may_merge: { is_allowed: false, reason: "One approval is missing." } });
  failing.change = { id: forBo.id, number: forBo.number, state: "open" };
  const long = new Session("A very long session with two thousand entries", "ledger", ada, { updated: now() - 90_000_000 });
  const p = id("pmt");
  long.append({ type: "prompt_accepted", prompt: p, author: author(ada), text: "Read everything.", delivery: "queue" });
  long.append({ type: "turn_started", turn: "trn_l", prompts: [p] });
  for (let i = 0; i < 660; i++) {
    long.append({ type: "tool_started", turn: "trn_l", call: `l${i}`, name: "read", title: `src/module_${i}.rs` });
    long.append({ type: "tool_finished", turn: "trn_l", call: `l${i}`, outcome: "succeeded", text: "a\nb\nc", display: null, duration_ms: 3 });
    long.append({ type: "assistant_message", turn: "trn_l", content: [{ type: "text", text: `Module ${i} is **fine**: it has \`${i}\` functions.` }], blocks: [`lb${i}`], raw: null, stop_reason: "tool_use", usage: usage(10, 10, 10), model: "m" });
  }
  long.finish("trn_l", { kind: "completed" });
  sessions.push(old, failing, long);
}
makeSessions();

const refuse = (status, body) => { throw Object.assign(new Error(), { status, body }); };
const findSession = (sid) => sessions.find((s) => s.id === sid) ?? refuse(404, problem("session_unknown", "There is no such session.", "It may have been deleted."));
const routes = [
  ["GET", "/me", (r) => (r.me ? { person: r.me } : refuse(401, problem("not_signed_in", "You are not signed in.")))],
  ["POST", "/sign-in", (r) => {
    const person = people.find((p) => p.login === r.body.login);
    if (!person || r.body.password === "wrong") refuse(401, problem("wrong_credentials", "Login or password is wrong.", "An administrator can hand out a new sign-in link."));
    r.cookie = person.login;
    return { person };
  }],
  ["POST", "/sign-in/link", (r) => ((r.cookie = "ada"), { person: ada })],
  ["POST", "/sign-out", (r) => ((r.cookie = ""), undefined)],
  ["GET", "/machine", () => ({ mode: "root", capabilities: [{ name: "user namespaces", is_available: true, detail: "Sandboxes have their own users." }, { name: "memory limit", is_available: false, detail: "Control groups cannot be written here; a watchdog ends what grows too large.", remedy: "systemd-run --user --scope -p Delegate=yes greenroom serve" }] })],
  ["GET", "/retention", () => ({
    settings: { archive_idle_days: 30, delete_archived_days: 0, statistics_days: 730, share_links_days: 30 },
    last: { at_ms: Date.now() - 3_600_000, is_plan: false, is_complete: true, archived: { sessions: 3, bytes: 0 }, deleted: { sessions: 0, bytes: 0 }, kept: [{ by: "change", sessions: 2 }], failed: 0, rows: [{ kind: "sign_ins", rows: 4 }], failed_builds: 1, failed_builds_bytes: 4096 },
  })],
  ["GET", "/machine/resources", () => ({
    sandboxes: 5, most_sandboxes: 16, blanks: 3, blanks_wanted: 4,
    pools: [
      { repository: "sample", floor: 1, cap: 6, wanted: 3, ready: 2, preparing: 1, reserved: 1, hits: 17, starts: 21, memory_bytes: 186e6, disk_bytes: 42e6 },
      { repository: "ledger", floor: 0, cap: 6, wanted: 0, ready: 0, preparing: 0, reserved: 0, hits: 0, starts: 0, memory_bytes: null, disk_bytes: null },
    ],
    disk: { total_bytes: 512e9, free_bytes: 301e9, layers_bytes: 74e9, layers_limit_bytes: 256e9, limit_per_sandbox_bytes: 10e9, images: 12, snapshots: 48 },
  })],
  ["POST", "/repositories/:name/warm", (r) => ({ state: r.params[0] === "site" ? "preparing" : "ready", expires_at_ms: now() + 60_000 })],
  ["GET", "/repositories/:name/egress", () => egress()],
  ["PUT", "/repositories/:name/egress", (r) => ((additions = r.body.additions), egress())],
  ["GET", "/repositories/:name/secrets", () => secrets],
  ["POST", "/repositories/:name/secrets", (r) => (secrets.push({ name: r.body.name, hosts: r.body.hosts, injection: r.body.injection, placeholder: "placeholder", base_url: "http://x", added_at_ms: now() }), secrets.at(-1))],
  ["DELETE", "/repositories/:name/secrets/:secret", (r) => void secrets.splice(secrets.findIndex((s) => s.name === r.params[1]), 1)],
  ["POST", "/sessions/:id/fork", (r) => {
    const origin = findSession(r.params[0]);
    const session = new Session(`${origin.title} (fork)`, origin.repository, r.me ?? ada, { from: { session: origin.id, turn: r.body.turn, snapshot: "snp_1" } });
    const end = origin.entries.findIndex((e) => e.event.type === "turn_finished" && e.event.turn === r.body.turn);
    for (const { event } of origin.entries.slice(1, end + 1)) session.append(event);
    sessions.push(session);
    return session.view();
  }],
  ["GET", "/sessions/:id/environment", (r) => ({
    is_running: true, image: good.id,
    services: [{ name: "postgres", state: "ready", problem: null }, { name: "web", state: "starting", problem: null }, { name: "search", state: "failed", problem: problem("service_failed", "The service ended with status 1.", "Its output is in /tmp/search.log.") }],
    ports: [{ port: 3000, name: "web", is_listening: true, url: `/api/v1/sessions/${r.params[0]}/previews/3000` }, { port: 5432, name: null, is_listening: false, url: "/" }],
    snapshots: findSession(r.params[0]).entries.filter((e) => e.event.type === "snapshot_taken").map((e) => ({ id: e.event.snapshot, reason: e.event.reason, turn: e.event.turn, at_ms: e.at_ms })).reverse(),
    memory_bytes: 412e6, processes: 23, disk_bytes: 38e6,
  })],
  ["GET", "/people", () => people],
  ["POST", "/people", (r) => ({ person: { id: id("per"), ...r.body }, sign_in_path: "/sign-in/link?token=once-only", expires_at_ms: now() + 86_400_000 })],
  ["POST", "/tokens", (r) => ({ id: id("tok"), name: r.body.name, login: "ada", secret: "grt_not_a_real_token" })],
  ["GET", "/repositories", () => repositories],
  ["POST", "/repositories", (r) => refuse(422, problem("clone_failed", `“${r.body.source}” could not be cloned.`, "Check the path or URL, and that the server may read it.", "fatal: repository not found"))],
  ["GET", "/repositories/:name", (r) => repositories.find((x) => x.name === r.params[0]) ?? refuse(404, problem("repository_unknown", "There is no such repository."))],
  ["POST", "/repositories/:name/images", () => building],
  ["GET", "/repositories/:name/images", (r) => { const x = repositories.find((y) => y.name === r.params[0]); return [x?.build, x?.image].filter(Boolean); }],
  ["GET", "/images/:id", () => good],
  ["GET", "/models", () => models],
  ["POST", "/models", (r) => ({ ...r.body, has_key: true })],
  ["POST", "/models/:name/test", (r) => (r.params[0] === "opus" ? { model: "claude-opus-4-5", first_token_ms: 640 } : refuse(502, problem("model_unreachable", "The model's server cannot be reached.", "Is it running at http://127.0.0.1:8000?")))],
  ["GET", "/sessions", () => [...sessions].sort((a, b) => b.created - a.created).map((s) => s.view())],
  ["POST", "/sessions", (r) => {
    const session = new Session(r.body.prompt.split("\n")[0].slice(0, 80), r.body.repository, r.me ?? ada, { holds: r.body.prompt.includes("HOLD") });
    sessions.push(session);
    session.command(r.me ?? ada, "first", { type: "prompt", text: r.body.prompt });
    return session.view();
  }],
  ["GET", "/sessions/:id", (r) => findSession(r.params[0]).view()],
  ["POST", "/sessions/:id/commands", (r) => (r.body.command.text === "fail" ? refuse(429, problem("queue_full", "50 prompts are already waiting in this session.", "Wait for the running turn, or withdraw a prompt.")) : findSession(r.params[0]).command(r.me ?? ada, r.body.key, r.body.command))],
  ["GET", "/sessions/:id/diff", () => files],
  ["GET", "/reads", () => sessions.slice(1).map((session) => ({ session: session.id, seq: session.entries.length }))],
  ["GET", "/draft", () => ({ session: null, repository: null, text: "", revision: 0, updated_at_ms: 0 })],
  ["PUT", "/draft", (r) => ({ draft: { session: null, repository: null, text: r.body.text, revision: r.body.revision + 1, updated_at_ms: now() }, is_refused: false })],
  ["GET", "/changes", () => [...changes.values()]],
  ["GET", "/changes/:id", (r) => changes.get(r.params[0]) ?? refuse(404, problem("change_unknown", "There is no such change."))],
  ["GET", "/changes/:id/diff", () => files],
  ["POST", "/changes/:id/approve", (r) => {
    const change = changes.get(r.params[0]);
    change.approvals = [{ by: ada.id, name: ada.name, is_current: true, at_ms: now() }];
    change.may_approve = { is_allowed: false, reason: "You have approved it already." };
    change.may_merge = { is_allowed: true };
    return change;
  }],
  ["POST", "/changes/:id/merge", (r) => Object.assign(changes.get(r.params[0]), { state: "merged", merge_commit: hash("beef") })],
].map(([method, path, run]) => ({ method, pattern: new RegExp(`^/api/v1${path.replaceAll(/:\w+/g, "([^/]+)")}$`), run }));

const TYPES = { ".html": "text/html", ".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml", ".webmanifest": "application/manifest+json" };
function serveFile(path, response) {
  let file = join(dist, normalize(path));
  if (!file.startsWith(dist) || !extname(file) || !existsSync(file)) file = join(dist, "index.html");
  response.writeHead(200, { "content-type": TYPES[extname(file)] ?? "application/octet-stream", "content-security-policy": "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; connect-src 'self'" });
  createReadStream(file).pipe(response);
}

async function buildLog(response) {
  response.writeHead(200, { "content-type": "text/event-stream" });
  const emit = (frame) => response.write(`event: ${frame.type}\ndata: ${JSON.stringify(frame)}\n\n`);
  for (let i = 1; i <= 40; i++) {
    emit({ type: "output", text: `\x1b[32m   Compiling\x1b[0m crate-${i} v0.${i}.0\n` });
    await wait(30);
  }
  emit({ type: "finished", image: good });
  response.end();
}

const me = (request) => people.find((p) => new RegExp(`greenroom_session=${p.login}\\b`).test(request.headers.cookie ?? ""));
const server = createServer(async (request, response) => {
  const { pathname } = new URL(request.url, "http://x");
  if (!pathname.startsWith("/api/")) return serveFile(pathname, response);
  if (/\/images\/[^/]+\/log$/.test(pathname)) return buildLog(response);
  let raw = "";
  for await (const chunk of request) raw += chunk;
  const route = routes.find((r) => r.method === request.method && r.pattern.test(pathname));
  const context = { me: me(request), body: raw ? JSON.parse(raw) : {}, params: route?.pattern.exec(pathname)?.slice(1).map(decodeURIComponent) ?? [] };
  try {
    if (!route) refuse(404, problem("not_found", "There is nothing at this address."));
    if (request.method !== "GET" && request.headers["x-greenroom"] !== "1") refuse(403, problem("origin_refused", "The header X-Greenroom is missing."));
    const answer = route.run(context);
    response.writeHead(answer === undefined ? 204 : 200, { "content-type": "application/json", ...(context.cookie === undefined ? {} : { "set-cookie": `greenroom_session=${context.cookie}; Path=/; HttpOnly; SameSite=Lax` }) });
    response.end(answer === undefined ? undefined : JSON.stringify(answer));
  } catch (error) {
    if (!error.status) console.error(error);
    response.writeHead(error.status ?? 500, { "content-type": "application/json" });
    response.end(JSON.stringify({ error: { ...(error.body ?? problem("internal", String(error))), request_id: id("req") } }));
  }
});
const sockets = new WebSocketServer({ server });
sockets.on("connection", (socket, request) => {
  const session = sessions.find((s) => request.url.includes(s.id));
  if (!session) return socket.close();
  socket.on("message", (data) => {
    const frame = JSON.parse(data);
    const send = (said) => socket.send(JSON.stringify(said));
    if (frame.type === "draft") send({ type: "draft", is_refused: false, draft: { session: session.id, repository: null, text: frame.text, revision: frame.revision + 1, updated_at_ms: now() } });
    if (frame.type !== "hello") return;
    const head = session.entries.length;
    send({ type: "hello", protocol: 1, head_seq: head, epoch: 1 });
    // The other person is always here, and types.
    send({ type: "read", session: session.id, seq: Math.floor(head / 2) });
    send({ type: "draft", is_refused: false, draft: { session: session.id, repository: null, text: "", revision: 0, updated_at_ms: 0 } });
    send({ type: "presence", people: people.map((one, index) => ({ person: one.id, name: one.name, clients: index ? ["web", "vscode"] : ["web"], since_ms: now(), is_typing: index > 0 && session.running !== null })), more: 0 });
    send({ type: "readers", readers: people.map((one) => ({ person: one.id, name: one.name, seq: head })), more: 0 });
    for (const entry of session.entries.slice(frame.after_seq)) socket.send(JSON.stringify({ type: "entry", entry }));
    socket.send(JSON.stringify({ type: "caught_up", seq: session.entries.length }));
    session.sockets.add(socket);
  });
  socket.on("close", () => session.sockets.delete(socket));
});
server.listen(PORT, "127.0.0.1", () => console.log(`mock on http://127.0.0.1:${PORT} (sign in as ada or bo, any password but "wrong")`));
