//! `soak schema`: any HTTP client's view of the API. Schemathesis, from PyPI, reads the OpenAPI document of a real server
//! and sends it whatever the document allows and much that it does not; no answer may be a server error, nor another than
//! documented.

use crate::cargo::{self, Profile};
use crate::process::{output, run, stage};
use crate::root;
use anyhow::{Context, Result, bail};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const VERSION: &str = "schemathesis==4.32.5";
const CHECKS: &str = "not_a_server_error,status_code_conformance,content_type_conformance,\
                      response_schema_conformance,response_headers_conformance";
/// Streams never end, and whoever signs out is not told of the rest.
const LEFT_OUT: &str = "(/stream|/socket|/log$|sign-out)";
const START_LIMIT: Duration = Duration::from_secs(60);

pub(crate) fn soak(seconds: u32) -> Result<()> {
    let folder = root().join("target/schemathesis");
    let program = stage("schemathesis", || installed(&folder))?;
    let server = Server::start(&folder.join("data"))?;
    stage("somebody's repository, session and model", || server.furnish(&folder.join("sample")))?;
    let document = format!("http://{}/api/v1/openapi.json", server.address);
    let mut schemathesis = Command::new(program);
    schemathesis
        .args(["run", &document, "--no-color", "--phases", "coverage,fuzzing", "--continue-on-failure"])
        .args(["--checks", CHECKS, "--exclude-path-regex", LEFT_OUT, "--request-timeout", "30"])
        .args(["--warnings", "off", "--max-time", &seconds.to_string()])
        .args(["--header", &format!("authorization: Bearer {}", server.token)]);
    stage("requests of all kinds", || run(&mut schemathesis))
}

fn installed(folder: &Path) -> Result<PathBuf> {
    let program = folder.join("venv/bin/schemathesis");
    if !program.exists() {
        fs::create_dir_all(folder)?;
        run(Command::new("python3").args(["-m", "venv", "venv"]).current_dir(folder))?;
        run(Command::new(folder.join("venv/bin/pip")).args(["install", "--quiet", VERSION]))?;
    }
    Ok(program)
}

/// A server of its own, which ends with this.
struct Server {
    process: Child,
    program: PathBuf,
    data: PathBuf,
    address: String,
    token: String,
}

impl Server {
    fn start(data: &Path) -> Result<Self> {
        let _ = fs::remove_dir_all(data);
        fs::create_dir_all(data)?;
        let program = cargo::build(Profile::Debug)?;
        let log = fs::File::create(data.with_extension("log"))?;
        let process = Command::new(&program)
            .args(["serve", "--listen", "127.0.0.1:0", "--data"])
            .arg(data)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()?;
        let mut server =
            Self { process, program, data: data.to_owned(), address: String::new(), token: String::new() };
        server.address = server.told("address")?;
        server.token = server.told("local-token")?;
        Ok(server)
    }

    /// What the server writes for clients on this machine once it answers.
    fn told(&mut self, name: &str) -> Result<String> {
        let path = self.data.join("run").join(name);
        let began = Instant::now();
        loop {
            if let Ok(text) = fs::read_to_string(&path) {
                return Ok(text.trim().to_owned());
            }
            if self.process.try_wait()?.is_some() || began.elapsed() > START_LIMIT {
                bail!("the server did not start; see {}", self.data.with_extension("log").display());
            }
            #[allow(clippy::disallowed_methods, reason = "nothing tells of it, and there is a limit")]
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn greenroom(&self, arguments: &[&str]) -> Result<String> {
        let server = format!("http://{}", self.address);
        let mut command = Command::new(&self.program);
        command.args(arguments).args(["--server", &server, "--data"]).arg(&self.data);
        output(&mut command).with_context(|| format!("greenroom {}", arguments.join(" ")))
    }

    fn furnish(&self, sample: &Path) -> Result<()> {
        let _ = fs::remove_dir_all(sample);
        fs::create_dir_all(sample)?;
        fs::write(sample.join("README.md"), "A sample.\n")?;
        for arguments in [
            &["init", "--quiet", "--initial-branch", "main"][..],
            &["add", "--all"],
            &[
                "-c",
                "user.name=A",
                "-c",
                "user.email=a@example.org",
                "commit",
                "--quiet",
                "--message",
                "First",
            ],
        ] {
            run(Command::new("git").args(arguments).current_dir(sample))?;
        }
        let sample = sample.display().to_string();
        self.greenroom(&["repository", "add", "sample", &sample, "--wait"]).map(drop)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Politely, so that its volume is unmounted.
        let _ = Command::new("kill").arg(self.process.id().to_string()).status();
        let _ = self.process.wait();
    }
}
