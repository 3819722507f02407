//! The same work by other means: no isolation at all, bubblewrap, runc. Peers that are not installed are left out.

use crate::exit::Failure;
use greenroom_domain::{ErrorCode, Problem};
use serde_json::json;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// What every row runs: it prints a nonce and reads a file of one line, all in the shell itself.
pub(crate) fn script(nonce: &str, file: &str) -> String {
    format!("read -r line < {file}; printf '%s\\n' {nonce} \"$line\"")
}

/// Bare clone3 and exec of the same script.
pub(crate) fn floor(n: u32, file: &Path) -> Result<Vec<Duration>, Failure> {
    (0..n)
        .map(|i| {
            let script = script(&format!("nonce-{i}"), &file.display().to_string());
            // Nobody reads it here, and standard output is the report's.
            let script = format!("{{ {script}; }} > /dev/null");
            Ok(greenroom_sandboxd::floor_exec(&["/bin/sh", "-c", &script])?)
        })
        .collect()
}

/// A new sandbox for each run, host programs read-only, its own namespaces.
pub(crate) fn bwrap(n: u32, directory: &Path) -> Option<Result<Vec<Duration>, Failure>> {
    is_installed("bwrap").then(|| {
        timed(n, "bwrap", |script| {
            let mut command = Command::new("bwrap");
            command.args([
                "--unshare-all",
                "--die-with-parent",
                "--proc",
                "/proc",
                "--dev",
                "/dev",
                "--tmpfs",
                "/tmp",
            ]);
            for path in system_directories() {
                command.args(["--ro-bind", path, path]);
            }
            command.arg("--bind").arg(directory).args([
                "/workspace",
                "--chdir",
                "/workspace",
                "/bin/sh",
                "-c",
                script,
            ]);
            command
        })
    })
}

/// A new container for each run from one bundle; the host's programs are bound read-only.
pub(crate) fn runc(n: u32, directory: &Path) -> Option<Result<Vec<Duration>, Failure>> {
    is_installed("runc").then(|| {
        let bundle = tempfile::tempdir()?;
        let mut id = 0;
        timed(n, "runc", |script| {
            id += 1;
            // A bundle that cannot be written shows as a failing run.
            let _ = write_bundle(bundle.path(), directory, script);
            let mut command = Command::new("runc");
            command
                .arg("run")
                .arg("--bundle")
                .arg(bundle.path())
                .arg(format!("greenroom-bench-{}-{id}", std::process::id()));
            command
        })
    })
}

fn timed(n: u32, name: &str, mut command: impl FnMut(&str) -> Command) -> Result<Vec<Duration>, Failure> {
    (0..n)
        .map(|i| {
            let nonce = format!("nonce-{i}");
            let mut command = command(&script(&nonce, "tracked.txt"));
            command.stdin(Stdio::null()).stderr(Stdio::piped());
            let begun = Instant::now();
            let output = command.output()?;
            let elapsed = begun.elapsed();
            if output.stdout.starts_with(nonce.as_bytes()) && output.status.success() {
                return Ok(elapsed);
            }
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            Err(Problem::new(ErrorCode::Internal, format!("{name} did not do the same work here."))
                .detail(said)
                .into())
        })
        .collect()
}

fn system_directories() -> impl Iterator<Item = &'static str> {
    ["/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/etc"]
        .into_iter()
        .filter(|path| Path::new(path).exists())
}

fn write_bundle(bundle: &Path, directory: &Path, script: &str) -> std::io::Result<()> {
    let root = bundle.join("rootfs");
    std::fs::create_dir_all(&root)?;
    let mut mounts = vec![json!({"destination": "/proc", "type": "proc", "source": "proc"})];
    for path in system_directories() {
        mounts.push(json!({"destination": path, "type": "bind", "source": path, "options": ["rbind", "ro"]}));
    }
    mounts.push(
        json!({"destination": "/workspace", "type": "bind", "source": directory, "options": ["rbind", "rw"]}),
    );
    let namespaces: Vec<_> =
        ["pid", "ipc", "uts", "mount", "network"].iter().map(|kind| json!({"type": kind})).collect();
    let config = json!({
        "ociVersion": "1.0.2",
        "process": {
            "user": {"uid": 0, "gid": 0}, "cwd": "/workspace", "args": ["/bin/sh", "-c", script],
            "env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"], "noNewPrivileges": true,
        },
        "root": {"path": "rootfs"}, "hostname": "bench", "mounts": mounts,
        "linux": {"namespaces": namespaces},
    });
    std::fs::write(bundle.join("config.json"), config.to_string())
}

fn is_installed(program: &str) -> bool {
    Command::new(program)
        .arg("--version")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|s| s.success())
}
