//! The canary: secrets of every kind are given to an installation, which then builds, works, saves and is killed. The
//! hosts they are meant for get them. Nothing else holds them: no file but the vault's, no process of a sandbox, no answer
//! of the API, no log.

use crate::outside::Outside;
use crate::support::{Model, Server, both, call, command, fed, path_text, repository, until};
use greenroom_domain::{DenyReason, Event};
use greenroom_model::testing::Turn;
use serde_json::json;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// What sandboxes print and keep, so that a scan that finds nothing is known to look.
const CONTROL: &str = "control-7d1f0a";
const RECIPE: &str = r#"
[[steps]]
name = "look"
run = "env > /root/seen-env.txt; curl -sS https://api.canary.test/from-build || true; curl -sS https://denied-build.canary.test/ || true"
"#;
/// Programs of every kind that has roots of its own.
const PROGRAMS: &[(&str, &str)] = &[
    ("curl", "curl -sS https://api.canary.test/from-curl"),
    (
        "python",
        "python3 -c 'import urllib.request as u; print(u.urlopen(\"https://api.canary.test/from-python\").read().decode())'",
    ),
    (
        "node",
        "node -e 'require(\"https\").get(\"https://api.canary.test/from-node\", r => r.pipe(process.stdout))'",
    ),
    (
        "java",
        "printf 'public class T { public static void main(String[] a) throws Exception { System.out.write(new java.net.URL(\"https://api.canary.test/from-java\").openStream().readAllBytes()); System.out.flush(); } }' > /tmp/T.java && java /tmp/T.java",
    ),
    ("wget", "wget -qO- https://api.canary.test/from-wget"),
    ("git", "git ls-remote https://api.canary.test/from-git 2>&1 || true"),
    (
        "openssl",
        "printf 'GET /from-openssl HTTP/1.1\\r\\nHost: api.canary.test\\r\\nConnection: close\\r\\n\\r\\n' | openssl s_client -quiet -verify_return_error -connect api.canary.test:443 -servername api.canary.test",
    ),
];

/// Random, and with characters that are written differently in URLs and JSON.
fn secret(name: &str) -> String {
    let mut bytes = [0u8; 18];
    File::open("/dev/urandom").unwrap().read_exact(&mut bytes).unwrap();
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{name}-{}/+{}=", &hex[..18], &hex[18..])
}

struct Canaries {
    declared: String,
    registry: String,
    model: String,
    git: String,
}

impl Canaries {
    fn named(&self) -> [(&'static str, &str); 4] {
        [
            ("declared", &self.declared),
            ("registry", &self.registry),
            ("model", &self.model),
            ("git", &self.git),
        ]
    }

    /// Every secret in every form, by name.
    fn forms(&self) -> Vec<(String, Vec<u8>)> {
        let of = |(name, secret): (&str, &str)| {
            let forms = [secret.as_bytes().to_vec(), escaped(secret).into_bytes()];
            let encoded = (0..3).flat_map(|shift| base64_inside(secret.as_bytes(), shift));
            forms.into_iter().chain(encoded).map(|form| (name.to_owned(), form)).collect::<Vec<_>>()
        };
        self.named().into_iter().flat_map(of).collect()
    }
}

fn escaped(text: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_.~".contains(&b);
    text.bytes().map(|b| if plain(b) { (b as char).to_string() } else { format!("%{b:02X}") }).collect()
}

/// What base64 makes of a secret that stands `shift` bytes after a boundary, in both alphabets, without the ends that its
/// neighbours change.
fn base64_inside(secret: &[u8], shift: usize) -> [Vec<u8>; 2] {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let whole = &secret[(3 - shift) % 3..];
    let encoded: Vec<u8> = whole
        .chunks_exact(3)
        .flat_map(|part| {
            let bits = u32::from(part[0]) << 16 | u32::from(part[1]) << 8 | u32::from(part[2]);
            [18, 12, 6, 0].map(|by| LETTERS[(bits >> by & 63) as usize])
        })
        .collect();
    let url = encoded.iter().map(|b| match b {
        b'+' => b'-',
        b'/' => b'_',
        other => *other,
    });
    let url = url.collect();
    [encoded, url]
}

struct World {
    server: Server,
    outside: Outside,
    canaries: Canaries,
    log: PathBuf,
    _model: Model,
    _directory: tempfile::TempDir,
}

impl World {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let (data, home) = (directory.path().join("data"), directory.path().join("home"));
        let outside = Outside::start(&["api.canary.test", "late.canary.test"]);
        let mut canaries = Canaries {
            declared: secret("declared"),
            registry: secret("registry"),
            model: secret("model"),
            git: String::new(),
        };
        std::fs::create_dir(&home).unwrap();
        let npmrc = format!(
            "registry=http://registry.canary.test/npm/\n//registry.canary.test/npm/:_authToken={}\n",
            canaries.registry
        );
        std::fs::write(home.join(".npmrc"), npmrc).unwrap();
        let root = directory.path().join("outside.pem");
        std::fs::write(&root, &outside.root).unwrap();
        let log = directory.path().join("server.log");
        let mut start = command(&data);
        let proxy = format!("http://127.0.0.1:{}", outside.port);
        start.env("HTTPS_PROXY", &proxy).env("HTTP_PROXY", &proxy).env("NO_PROXY", "127.0.0.1,localhost");
        start.env("NODE_EXTRA_CA_CERTS", &root).env("NPM_CONFIG_USERCONFIG", home.join(".npmrc"));
        start.env("RUST_LOG", "debug").stderr(Stdio::from(File::create(&log).unwrap()));
        for lower in ["https_proxy", "http_proxy", "no_proxy", "ALL_PROXY", "all_proxy"] {
            start.env_remove(lower);
        }
        let child = start.args(["serve", "--listen", "127.0.0.1:0"]).stdout(Stdio::null()).spawn().unwrap();
        let server = Server::of_child(child, data);
        let model = Model::new(|asked| match asked.step {
            0 => call("bash", &json!({ "command": asked.prompt })),
            _ => Turn::text("done"),
        });
        let key = directory.path().join("key");
        std::fs::write(&key, &canaries.model).unwrap();
        let url = model.server.url();
        let protocol = ["--provider", "anthropic", "--model", "test", "--base-url", &url];
        server.cli(
            &[&["model", "add", "test"][..], &protocol, &["--key-file", path_text(&key), "--default"]]
                .concat(),
        );
        // A repository that is fetched with a token in its address.
        server.add_repository("origin", &[crate::support::NO_STEPS, ("a.txt", "a\n")]);
        canaries.git = server.member("ann");
        let source = server.clone_url("ann", &canaries.git, "origin");
        server.cli(&["repository", "add", "mirror", &source]);
        Self { server, outside, canaries, log, _model: model, _directory: directory }
    }

    /// With a declared secret, and an image that was built with it.
    fn add_sample(&self) {
        let source =
            repository(&[(".greenroom/environment.toml", "# Nothing yet.\n"), ("control.txt", CONTROL)]);
        self.server.cli(&["repository", "add", "sample", path_text(source.path()), "--wait"]);
        self.declare("sample");
        let told = self.server.cli(&["image", "build", "sample", "--follow"]);
        assert!(!told.contains("failed"), "{told}");
    }

    fn declare(&self, repository: &str) {
        let mut add = command(self.server.data());
        add.args(["secret", "add", repository, "API_KEY", "--host", "api.canary.test"]);
        let output = fed(&mut add, &self.canaries.declared);
        assert!(output.status.success(), "{}", both(&output));
        assert!(both(&output).contains("greenroom-placeholder-"), "{}", both(&output));
    }

    fn assert_clean(&self, what: &str, bytes: &[u8]) {
        for (name, form) in self.canaries.forms() {
            assert!(
                !contains(bytes, &form),
                "the {name} secret is in {what}, as {:?}",
                String::from_utf8_lossy(&form)
            );
        }
    }
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    let Some(first) = part.first() else { return false };
    let mut from = 0;
    while let Some(at) = bytes[from..].iter().position(|byte| byte == first) {
        if bytes[from + at..].starts_with(part) {
            return true;
        }
        from += at + 1;
    }
    false
}

#[test]
fn secrets_reach_their_hosts_and_nothing_that_a_sandbox_or_a_person_can_see() {
    let world = World::new();
    world.add_sample();
    let server = &world.server;
    let session = server.ask("sample", &format!("env > env.txt; echo {CONTROL} > /root/control.txt; env"));
    server.settled(session);

    for (program, script) in PROGRAMS {
        let said = server.exec(session, &format!("{script}; echo")).output;
        let path = format!("/from-{program}");
        assert!(world.outside.seen().contains(&path), "{program} did not get there: {said}");
        world.assert_clean(program, said.as_bytes());
    }
    let plain = server.exec(session, "curl -sSi http://api-key.secret.greenroom.internal/from-plain; curl -sSi http://registry.canary.test/npm/x");
    assert!(plain.output.contains("/from-plain") && plain.output.contains("****"), "{}", plain.output);
    let seen = world.outside.seen();
    for path in ["from-curl", "from-python", "from-node", "from-java", "from-openssl", "from-plain"] {
        let head = seen.split("[api.canary.test:443] ").find(|head| head.contains(path)).unwrap_or_default();
        assert!(head.contains(&format!("Bearer {}", world.canaries.declared)), "{path}: {head}");
    }
    assert!(seen.contains(&format!("Bearer {}", world.canaries.registry)), "{seen}");

    // What an admin allows holds at once; what nobody allows is told once.
    let late = "curl -sS https://late.canary.test/late 2>&1 || true";
    assert!(!server.exec(session, late).output.contains("/late"));
    server.cli(&["repository", "egress", "allow", "sample", "late.canary.test"]);
    assert!(server.exec(session, late).output.contains("GET /late"));
    let denials = || {
        let entries = server.entries(session);
        let is_it = |event: &Event| {
            matches!(event, Event::EgressDenied { host, port: 443, reason: Some(DenyReason::NotAllowed) }
                if host == "late.canary.test")
        };
        entries.iter().filter(|entry| is_it(&entry.event)).count()
    };
    until("the refusal is told", || (denials() == 1).then_some(()));

    // A build that looks at everything.
    let source = repository(&[(".greenroom/environment.toml", RECIPE), ("control.txt", CONTROL)]);
    server.cli(&["repository", "add", "built", path_text(source.path()), "--wait"]);
    world.declare("built");
    server.cli(&["repository", "egress", "allow", "built", "api.canary.test"]);
    let built = server.cli(&["image", "build", "built", "--follow"]);
    let image = server.json(&["image", "list", "built"])[0]["id"].as_str().unwrap().to_owned();
    let log = server.cli(&["image", "log", &image]);
    assert!(log.contains("== refused denied-build.canary.test:443: it is not on the allow-list"), "{log}");
    world.assert_clean("a build's log", [built, log].concat().as_bytes());
    assert!(world.outside.seen().contains("GET /from-build"));

    // Processes inside, answers of the API.
    let inside =
        server.exec(session, "cat /proc/[0-9]*/environ /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' '\\n'");
    assert!(inside.output.contains("API_KEY=greenroom-placeholder-"), "{}", inside.output);
    world.assert_clean("the processes of a sandbox", inside.output.as_bytes());
    let id = session.to_string();
    for path in [
        "sessions",
        &format!("sessions/{id}"),
        &format!("sessions/{id}/entries?limit=1000"),
        &format!("sessions/{id}/diff"),
        "repositories",
        "repositories/sample/secrets",
        "repositories/sample/egress",
        "repositories/sample/images",
        "models",
        "people",
        "machine",
        "changes",
    ] {
        world.assert_clean(path, api(server, path).as_bytes());
    }
    let listed = server.json(&["secret", "list", "sample"]);
    assert_eq!(listed[0]["name"], "API_KEY", "{listed}");
    let refused = server.problem(&["secret", "remove", "sample", "NOTHING"]);
    crate::support::assert_problem(&refused, "secret_unknown");

    // Everything on disk: while it runs, and as a crash leaves it.
    until("a snapshot", || {
        server
            .entries(session)
            .iter()
            .any(|entry| matches!(entry.event, Event::SnapshotTaken { .. }))
            .then_some(())
    });
    world.assert_disk_clean();
    let World { mut server, outside, canaries, log, _model, _directory } = world;
    server.kill();
    let world = World { server, outside, canaries, log, _model, _directory };
    world.assert_disk_clean();
    world.assert_clean("the server's log", &std::fs::read(&world.log).unwrap());
    let World { mut server, .. } = world;
    server.restart();
}

/// One answer with the local admin's token.
fn api(server: &Server, path: &str) -> String {
    let read = |name: &str| std::fs::read_to_string(server.data().join("run").join(name)).unwrap();
    let (address, token) = (read("address"), read("local-token"));
    let header = format!("Authorization: Bearer {token}");
    let output = Command::new("curl")
        .args(["-sS", "--noproxy", "*", "-H", &header, &format!("{address}/api/v1/{path}")])
        .output()
        .unwrap();
    let text = both(&output);
    assert!(output.status.success() && !text.contains("\"error\""), "{path}: {text}");
    text
}

impl World {
    fn assert_disk_clean(&self) {
        let forms = self.canaries.forms();
        let mut has_control = false;
        let mut scan = |path: &Path| {
            pieces(path, |piece| {
                has_control |= contains(piece, CONTROL.as_bytes());
                for (name, form) in &forms {
                    assert!(!contains(piece, form), "the {name} secret is in {}", path.display());
                }
            });
        };
        walk(self.server.data(), &mut scan);
        assert!(has_control, "the scan sees what sandboxes write");
    }
}

fn walk(directory: &Path, scan: &mut impl FnMut(&Path)) {
    for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
        let path = entry.path();
        let name = entry.file_name().to_string_lossy().into_owned();
        let is_vault = name == "vault.key" || name.starts_with("vault.db");
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => walk(&path, scan),
            Ok(kind) if kind.is_file() && !is_vault => scan(&path),
            _ => {}
        }
    }
}

/// A file in pieces that overlap, holes left out: a volume is mostly hole.
fn pieces(path: &Path, mut each: impl FnMut(&[u8])) {
    use rustix::fs::{SeekFrom, seek};
    const PIECE: usize = 4 * 1024 * 1024;
    const OVERLAP: usize = 4096;
    let Ok(mut file) = File::open(path) else { return };
    let mut at = 0u64;
    while let Ok(data) = seek(&file, SeekFrom::Data(at)) {
        let end = seek(&file, SeekFrom::Hole(data)).unwrap_or(u64::MAX);
        let mut from = data;
        while from < end {
            if seek(&file, SeekFrom::Start(from)).is_err() {
                break;
            }
            let mut piece = vec![];
            let wanted = (end - from).min((PIECE + OVERLAP) as u64);
            if Read::by_ref(&mut file).take(wanted).read_to_end(&mut piece).unwrap_or(0) == 0 {
                break;
            }
            each(&piece);
            from += PIECE as u64;
        }
        at = end;
    }
}
