//! Detected recipes of real, small projects, built on this machine. Each is built, used as a session would, built again
//! after a change that no step depends on, and built again after a change of its lockfile. Rust, Node and Python have
//! their dependencies from the public registries; Go, Java, Ruby and PHP get their programs by apt-get in the sandbox and
//! their dependencies from a registry that a build of its own makes first (`registries/`), over each one's own protocol.
//! Needs root or user namespaces, and the registries: without them it fails.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "tests")]

mod machine;

use greenroom_image::ImageManifest;
use greenroom_sandbox::ExitReason;
use machine::registry::Registry;
use machine::{Machine, project, registry_of, relocked};
use std::time::Instant;

const DONE: ExitReason = ExitReason::Code { code: 0 };

/// An ecosystem, and what shows that its project is ready to work on.
struct Row {
    name: &'static str,
    /// All steps, and those that another version of a dependency makes run again: the last of them.
    steps: &'static [&'static str],
    again: usize,
    /// What the build's log has when the project's own tests have run in it.
    ran: &'static str,
    /// For a session: passes with nothing fetched.
    tests: &'static str,
    /// Exist in a session.
    caches: &'static [&'static str],
}

impl Row {
    async fn tell(&self, machine: &Machine) {
        let began = Instant::now();
        let first = machine.built(None).await;
        assert_eq!(names(&first, true), [""; 0]);
        self.assert_tests_ran(machine, &first);
        self.assert_ready(machine, &first).await;
        let first_ms = began.elapsed().as_millis();

        machine.push(&[("README.md", "changed\n")]);
        let began = Instant::now();
        let second = machine.built(Some(&first)).await;
        assert_eq!(names(&second, true), self.steps, "{}", machine.log(&second));
        let second_ms = began.elapsed().as_millis();
        self.assert_ready(machine, &second).await;

        machine.push_files(&relocked(self.name));
        let began = Instant::now();
        let third = machine.built(Some(&second)).await;
        let kept = &self.steps[..self.steps.len() - self.again];
        assert_eq!(names(&third, true), kept, "{}", machine.log(&third));
        let third_ms = began.elapsed().as_millis();
        self.assert_tests_ran(machine, &third);
        self.assert_ready(machine, &third).await;
        let name = self.name;
        println!(
            "{name}: built {first_ms} ms; source changed {second_ms} ms; lockfile changed {third_ms} ms"
        );
    }

    /// A tool may know by its caches that tests need not run again after a change of something else.
    fn assert_tests_ran(&self, machine: &Machine, image: &ImageManifest) {
        let log = machine.log(image);
        assert!(log.contains(self.ran), "{:?} is not in the log\n{log}", self.ran);
    }

    /// What a session says of its first seconds: tests pass, caches are there, and git sees a clean tree.
    async fn assert_ready(&self, machine: &Machine, image: &ImageManifest) {
        let log = machine.log(image);
        assert!(!image.checks.is_empty());
        for check in &image.checks {
            assert!(check.has_passed(), "{check:?}\n{log}");
        }
        let Self { tests, caches, .. } = self;
        let caches: String = caches.iter().map(|path| format!("test -e {path} && ")).collect();
        let script = format!(
            "{caches}{tests} 2>&1 && git status --porcelain && echo clean:$(git status --porcelain | wc -l)"
        );
        let (exit, output) = machine.run(image, &script).await;
        assert_eq!(exit, DONE, "{output}\n{log}");
        assert!(output.trim_end().ends_with("clean:0"), "{output}\n{log}");
    }

    /// Against the public registries.
    async fn public(&self) {
        self.tell(&Machine::new(&project(self.name)).await).await;
    }

    /// Against a registry made of what Debian has, built as any image is.
    async fn own(&self, env: &[(&str, &str)], registry: &str, public: &str) {
        let maker = Machine::new(&registry_of(registry)).await;
        let made = maker.built(None).await;
        let layer = made.layers.iter().find(|layer| layer.step == "registry").unwrap();
        let registry = Registry::serve(maker.builder.layers.path(&layer.key).join("opt/registry")).await;
        let machine = Machine::beside(Some(&registry), env, &project(self.name)).await;
        self.tell(&machine).await;
        self.ask_public(&machine, public).await;
    }

    /// Says whether the ecosystem's public registry can be had on this machine, which the rest does not depend on.
    async fn ask_public(&self, machine: &Machine, script: &str) {
        let image = machine.built(None).await;
        let (exit, output) = machine.run(&image, &format!("({script}) 2>&1")).await;
        let says_why = |line: &&str| line.contains("Could not") || line.to_lowercase().contains("error");
        let last = || output.lines().rev().find(|line| !line.trim().is_empty());
        let reason = output.lines().find(says_why).or_else(last).unwrap_or_default();
        let name = self.name;
        match exit {
            DONE => println!("{name}: the public registry answered"),
            _ => println!(
                "{name}: NOT PROVEN with the public registry, which did not answer: {}",
                reason.trim()
            ),
        }
    }
}

/// The example of `docs/environment.md`.
#[tokio::test]
#[ignore = "soak: installs a database with apt-get"]
async fn a_database_keeps_the_schema_of_its_step() {
    let row = Row {
        name: "postgres",
        steps: &["postgres", "schema"],
        again: 1,
        ran: "passed",
        // As a session's own service is run, from the manifest.
        tests: "(su postgres -c '/usr/lib/postgresql/*/bin/pg_ctl -w -D /var/lib/app-db -o \"-k /tmp\" -l /tmp/db.log start') \
                && psql -h 127.0.0.1 -U postgres -v ON_ERROR_STOP=1 -f test.sql",
        caches: &["/var/lib/app-db/PG_VERSION"],
    };
    let example = project("postgres").into_iter().find(|(path, _)| path.ends_with(".toml")).unwrap().1;
    let docs = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/environment.md");
    let docs = std::fs::read_to_string(docs).unwrap();
    assert!(docs.contains(std::str::from_utf8(&example).unwrap()), "docs/environment.md has another example");
    row.public().await;
}

fn names(image: &ImageManifest, is_reused: bool) -> Vec<&str> {
    let parts = image.parts.iter().filter(|part| part.is_reused == is_reused);
    parts.map(|part| part.name.as_str()).collect()
}

#[tokio::test]
async fn a_rust_project_is_ready_to_work_on() {
    let row = Row {
        name: "rust",
        steps: &["rust dependencies"],
        again: 1,
        ran: "test seven ... ok",
        tests: "cargo test --offline",
        caches: &["target/debug"],
    };
    row.public().await;
}

#[tokio::test]
async fn an_npm_project_is_ready_to_work_on() {
    node("npm", "npm test").await;
}

#[tokio::test]
async fn a_pnpm_project_is_ready_to_work_on() {
    node("pnpm", "pnpm test").await;
}

#[tokio::test]
async fn a_yarn_project_is_ready_to_work_on() {
    node("yarn", "yarn test").await;
}

#[tokio::test]
async fn a_project_of_the_newer_yarn_is_ready_to_work_on() {
    node("yarn-modern", "case $(yarn --version) in 4.*) yarn test;; *) exit 1;; esac").await;
}

async fn node(name: &'static str, tests: &'static str) {
    let caches = &["node_modules/is-number/index.js"];
    let row = Row { name, steps: &["node dependencies"], again: 1, ran: "passed", tests, caches };
    row.public().await;
}

#[tokio::test]
async fn a_pip_project_is_ready_to_work_on() {
    python("pip", &["python dependencies"], "python -m pytest -q").await;
}

#[tokio::test]
async fn a_uv_project_is_ready_to_work_on() {
    python("uv", &LOCKED, "uv --version && python -m pytest -q").await;
}

#[tokio::test]
#[ignore = "soak: poetry itself has many dependencies"]
async fn a_poetry_project_is_ready_to_work_on() {
    python("poetry", &LOCKED, "poetry --version && poetry run python -m pytest -q").await;
}

const LOCKED: [&str; 2] = ["python toolchain", "python dependencies"];

async fn python(name: &'static str, steps: &'static [&'static str], tests: &'static str) {
    let caches = &["/opt/venv/bin/pytest"];
    let row = Row { name, steps, again: 1, ran: "1 passed", tests, caches };
    row.public().await;
}

#[tokio::test]
#[ignore = "soak: installs a toolchain with apt-get"]
async fn a_go_project_is_ready_to_work_on() {
    let row = Row {
        name: "go",
        steps: &["go toolchain", "go dependencies"],
        again: 1,
        ran: "ok  \texample.com/sample",
        tests: "GOPROXY=off go test -count=1 ./...",
        caches: &["/root/go/pkg/mod/example.com", "/root/.cache/go-build"],
    };
    let public = "GOPROXY=https://proxy.golang.org go mod download github.com/google/uuid@v1.6.0";
    row.own(&[("GOPROXY", "http://registry.test")], "go", public).await;
}

#[tokio::test]
#[ignore = "soak: installs a toolchain with apt-get"]
async fn a_maven_project_is_ready_to_work_on() {
    let row = Row {
        name: "maven",
        steps: &["java toolchain", "java dependencies"],
        again: 1,
        ran: "Tests run: 1, Failures: 0",
        tests: "mvn -o -B -ntp test",
        caches: &["/root/.m2/repository/junit", "target/sample-1.0.0.jar"],
    };
    let public = "cd / && mvn -B -ntp dependency:get -Dartifact=org.hamcrest:hamcrest-core:1.3 | grep -m 1 -e ERROR && exit 1";
    row.own(&[], "java", public).await;
}

#[tokio::test]
#[ignore = "soak: installs a toolchain with apt-get"]
async fn a_gradle_project_is_ready_to_work_on() {
    let row = Row {
        name: "gradle",
        steps: &["java toolchain", "java dependencies"],
        again: 1,
        ran: "example.AnswerTest > doubles PASSED",
        tests: "gradle --no-daemon --offline --console=plain cleanTest test",
        caches: &["/root/.gradle/caches", "build/libs/sample.jar"],
    };
    let public = "mkdir /tmp/probe && cd /tmp/probe && printf '%s\\n' 'repositories { mavenCentral() }' \
                  'configurations { probe }' 'dependencies { probe \"junit:junit:4.13.2\" }' \
                  'task probe { doLast { configurations.probe.files } }' > build.gradle \
                  && gradle --no-daemon --console=plain probe";
    row.own(&[], "java", public).await;
}

#[tokio::test]
#[ignore = "soak: installs a toolchain with apt-get"]
async fn a_ruby_project_is_ready_to_work_on() {
    let row = Row {
        name: "ruby",
        steps: &["ruby toolchain", "ruby dependencies"],
        again: 1,
        ran: "1 runs, 1 assertions, 0 failures",
        tests: "bundle exec rake test",
        caches: &["/opt/bundle/ruby"],
    };
    row.own(&[], "ruby", "cd /tmp && gem fetch rake --version 13.0.6 && test -s rake-13.0.6.gem").await;
}

#[tokio::test]
#[ignore = "soak: installs a toolchain with apt-get"]
async fn a_php_project_is_ready_to_work_on() {
    let row = Row {
        name: "php",
        steps: &["php toolchain", "php dependencies"],
        again: 1,
        ran: "OK (1 test, 1 assertion)",
        tests: "vendor/bin/phpunit",
        caches: &["vendor/autoload.php"],
    };
    let public =
        "mkdir /tmp/probe && cd /tmp/probe && composer require --no-interaction --quiet psr/log:3.0.2";
    row.own(&[], "php", public).await;
}
