//! Tests of `recipe`.

use super::*;
use greenroom_domain::ErrorCode;

const FULL: &str = r#"
base = "host"

[[steps]]
name = "dependencies"
run = "npm ci"
inputs = ["package.json", "packages/*/package.json"]
timeout_minutes = 30

[[steps]]
name = "schema"
run = """
createdb app
./migrate
"""

[[checks]]
name = "tests"
run = "npm test"
optional = true

[env]
RUST_LOG = "info"

[egress]
allow = ["registry.example.com", "*.example.org:8443"]

[resources]
memory_mb = 4096
cpus = 2
processes = 1024
"#;

fn refusal(text: &str) -> String {
    let problem = Recipe::parse(text.as_bytes()).expect_err(text);
    assert_eq!(problem.code, ErrorCode::RecipeInvalid);
    assert!(problem.hint.is_some());
    problem.message
}

#[test]
fn a_full_recipe_is_read() {
    let recipe = Recipe::parse(FULL.as_bytes()).unwrap();
    assert_eq!(recipe.steps[0].inputs, ["package.json", "packages/*/package.json"]);
    assert_eq!(recipe.steps[0].timeout_minutes, 30);
    assert_eq!(recipe.steps[1].timeout_minutes, DEFAULT_TIMEOUT_MINUTES);
    assert_eq!(recipe.steps[1].run, "createdb app\n./migrate\n");
    assert!(recipe.checks[0].is_optional);
    assert_eq!(recipe.env["RUST_LOG"], "info");
    assert_eq!(recipe.egress_allow, ["registry.example.com", "*.example.org:8443"]);
    let resources = recipe.resources.to_sandbox();
    assert_eq!(resources.memory_bytes, Some(4 << 30));
    assert_eq!(resources.cpu_millis, Some(2000));
}

#[test]
fn every_recipe_of_the_documentation_is_one() {
    let text = include_str!("../../../../docs/environment.md");
    let examples: Vec<&str> =
        text.split("```toml\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    assert!(examples.len() >= 8);
    for example in examples {
        Recipe::parse(example.as_bytes()).unwrap_or_else(|problem| panic!("{problem}\n{example}"));
    }
}

#[test]
fn an_empty_recipe_is_a_plain_environment() {
    assert_eq!(Recipe::parse(b"").unwrap(), Recipe::default());
}

#[test]
fn an_unknown_field_is_refused_with_its_place() {
    let message = refusal("base = \"host\"\n[[steps]]\nname = \"a\"\nrun = \"b\"\n  comand = \"x\"\n");
    assert!(message.contains("line 5, column 3"), "{message}");
    assert!(message.contains("comand"), "{message}");
    assert!(refusal("stages = 1").contains("line 1, column 1"));
    assert!(refusal("[egress]\nallow = []\ndeny = []").contains("line 3, column 1"));
}

#[test]
fn a_base_is_one_of_four_kinds() {
    let base = |text: &str| Recipe::parse(format!("base = {text:?}").as_bytes()).map(|recipe| recipe.base);
    let reference = "docker.io/library/rust:1.95@sha256:ab".to_owned();
    assert_eq!(base(&format!("oci:{reference}")).unwrap(), RecipeBase::Oci { reference });
    assert_eq!(base("archive:a-1.tar").unwrap(), RecipeBase::Archive { file: "a-1.tar".into() });
    assert_eq!(base("mmdebstrap:trixie").unwrap(), RecipeBase::Debian { suite: "trixie".into() });
    for text in ["host", "oci:a/b:1", "archive:x.tar", "mmdebstrap:sid"] {
        assert_eq!(base(text).unwrap().text(), text);
    }
    for bad in [
        "debian:12",
        "oci:",
        "oci:../x",
        "archive:/etc/passwd",
        "archive:../x",
        "archive:.x",
        "mmdebstrap:a b",
    ] {
        assert!(base(bad).is_err(), "{bad}");
    }
    assert_eq!(
        refusal("base = \"debian:12\""),
        ".greenroom/environment.toml, line 1, column 8: the base \"debian:12\" is none of \"host\", \
         \"oci:IMAGE\", \"archive:FILE\", \"mmdebstrap:SUITE\"."
    );
}

#[test]
fn services_ports_and_secrets_are_read() {
    let recipe = Recipe::parse(
        br#"
secrets = ["STRIPE_TEST_KEY"]
[[services]]
name = "db"
run = "postgres -D /var/lib/pg"
ready = { port = 5432, within_seconds = 90 }
env = { PGPORT = "5432" }
restart = true
[[services]]
name = "cache"
run = "redis-server"
ready = { command = "redis-cli ping" }
[[ports]]
port = 3000
name = "web"
[[ports]]
port = 5432
name = "db"
http = false
[[steps]]
name = "schema"
run = "./migrate"
services = ["db"]
[egress]
allow = ["a.example:8443", "*.b.example:8443", "c.example:443", "d.example:22", "e.example", "f.example:5433"]
"#,
    )
    .unwrap();
    assert_eq!(recipe.secrets, ["STRIPE_TEST_KEY"]);
    let db = &recipe.services[0];
    assert_eq!(db.ready, Some(Ready { probe: Probe::Port { port: 5432 }, deadline_seconds: 90 }));
    assert!(db.restart && db.env["PGPORT"] == "5432");
    let ready = recipe.services[1].ready.clone().unwrap();
    assert_eq!(ready.deadline_seconds, DEFAULT_READY_SECONDS);
    assert_eq!(ready.probe, Probe::Command { run: "redis-cli ping".into() });
    assert_eq!(recipe.ports[0], Port { port: 3000, name: "web".into(), is_http: true });
    assert!(!recipe.ports[1].is_http);
    assert_eq!(recipe.steps[0].services, ["db"]);
    assert_eq!(recipe.egress_ports(), [5433, 8443]);
}

#[test]
fn a_change_of_an_input_touches_its_step() {
    let text = "[[steps]]\nname = \"a\"\nrun = \"b\"\ninputs = [\"Cargo.lock\", \"db/*.sql\"]\n[[steps]]\nname = \"c\"\nrun = \"d\"";
    let recipe = Recipe::parse(text.as_bytes()).unwrap();
    let is_touched = |path: &str| recipe.steps[0].is_touched_by(&[path.to_owned()]);
    assert!(is_touched("Cargo.lock") && is_touched("db/1.sql"));
    assert!(!is_touched("src/Cargo.lock") && !is_touched("db/old/1.sql"));
    assert!(!recipe.steps[1].is_touched_by(&["Cargo.lock".into()]));
}

#[test]
fn values_out_of_bounds_are_refused_with_their_place() {
    let step = |fields: &str| format!("[[steps]]\nname = \"a\"\nrun = \"b\"\n{fields}");
    for (text, place) in [
        (step("timeout_minutes = 0"), "line 4, column 19"),
        (step("timeout_minutes = 99999999999"), "line 4, column 19"),
        (step("inputs = [\"../secret\"]"), "line 4, column 11"),
        (step("inputs = [\"/etc/passwd\"]"), "line 4, column 11"),
        (step("inputs = [\"a[\"]"), "line 4, column 11"),
        (step("[[steps]]\nname = \"a\"\nrun = \"c\""), "line 5, column 8"),
        ("[[steps]]\nname = \"\"\nrun = \"b\"".into(), "line 2, column 8"),
        ("[[steps]]\nname = \"clone\"\nrun = \"b\"".into(), "line 2, column 8"),
        ("[[steps]]\nname = \"a\"\nrun = \"  \"".into(), "line 3, column 7"),
        ("[resources]\nmemory_mb = -1".into(), "line 2, column 13"),
        ("[resources]\ncpus = nan".into(), "line 2, column 8"),
        ("[env]\n\"A B\" = \"1\"".into(), "line 2, column 9"),
        ("[env]\nGREENROOM_DATA = \"1\"".into(), "line 2, column 18"),
        ("[egress]\nallow = [\"*\"]".into(), "line 2, column 10"),
        (step("services = [\"db\"]"), "line 4, column 13"),
        ("[[services]]\nname = \"a\"\nrun = \"b\"\nready = {}".into(), "line 4, column 9"),
        ("[[services]]\nname = \"a\"\nrun = \"b\"\nready = {port = 0}".into(), "line 4, column 17"),
        (
            "[[services]]\nname = \"a\"\nrun = \"b\"\nready = {port = 1, within_seconds = 601}".into(),
            "line 4, column 37",
        ),
        ("[[ports]]\nport = 70000\nname = \"a\"".into(), "line 2, column 8"),
        ("[[ports]]\nport = 1\nname = \"a\"\n[[ports]]\nport = 1\nname = \"b\"".into(), "line 5, column 8"),
        ("secrets = [\"A B\"]".into(), "line 1, column 12"),
        ("[egress]\nallow = [\"10.0.0.1\"]".into(), "line 2, column 10"),
        ("[egress]\nallow = [\"http://a.example\"]".into(), "line 2, column 10"),
        ("[egress]\nallow = [\"a.example:0\"]".into(), "line 2, column 10"),
    ] {
        let message = refusal(&text);
        assert!(message.contains(place), "{text}\n{message}");
    }
}

#[test]
fn too_much_of_anything_is_refused() {
    let steps: String = (0..65).map(|n| format!("[[steps]]\nname = \"s{n}\"\nrun = \"true\"\n")).collect();
    assert!(refusal(&steps).contains("65 steps"));
    assert!(refusal(&format!("[[steps]]\nname = \"a\"\nrun = \"{}\"", "x".repeat(8193))).contains("8 KiB"));
    assert!(refusal(&"#".repeat(limit::TEXT_BYTES + 1)).contains("larger than 64 KiB"));
}

#[test]
fn text_that_is_not_utf8_is_refused_with_its_place() {
    let problem = Recipe::parse(b"base = \"host\"\n# \xff").unwrap_err();
    assert!(problem.message.contains("line 2, column 3"), "{}", problem.message);
}

/// Mutates a valid recipe with a seeded generator: every outcome is a recipe or a complaint, and a recipe that is
/// accepted is within its bounds.
#[test]
fn no_text_makes_the_parser_panic() {
    let mut random = Xorshift(0x9e37_79b9_7f4a_7c15);
    let pieces: [&[u8]; 14] = [
        b"[[",
        b"]]",
        b"=",
        b"\"",
        b"\"\"\"",
        b"\n",
        b"{",
        b"}",
        b"[env]\n",
        b"\xff",
        b"\0",
        b"999999999999999999999",
        b"\\u0000",
        b"a.b.c",
    ];
    for _ in 0..20_000 {
        let mut text = FULL.as_bytes().to_vec();
        for _ in 0..=random.below(6) {
            let at = random.below(text.len() + 1);
            match random.below(4) {
                0 => text.truncate(at),
                1 => drop(text.splice(at..at, pieces[random.below(pieces.len())].iter().copied())),
                2 => drop(text.splice(at..(at + random.below(40)).min(text.len()), [])),
                _ => text.insert(at, random.next() as u8),
            }
        }
        match Recipe::parse(&text) {
            Ok(recipe) => assert!(recipe.steps.len() <= limit::STEPS),
            Err(problem) => {
                assert_eq!(problem.code, ErrorCode::RecipeInvalid);
                assert!(problem.message.len() < 4096 && !problem.message.contains('\n'));
            }
        }
    }
}

#[test]
fn deep_nesting_is_refused() {
    refusal(&format!("base = {}", "[".repeat(30_000)));
    refusal(&format!("{} = 1", ["a"; 20_000].join(".")));
}

struct Xorshift(u64);

impl Xorshift {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }
}
