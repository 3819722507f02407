//! A Debian suite by `mmdebstrap`, a program of the host: it writes one archive, which is unpacked like any other. With
//! git and certificates, which every image needs.

use super::Layers;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;
use tokio::process::Command;

const LIMIT: Duration = Duration::from_secs(20 * 60);
const KEPT: [&str; 7] =
    ["PATH", "http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"];

pub(super) async fn make(suite: &str, scratch: &Path) -> Result<Layers, String> {
    let archive = scratch.join("suite.tar");
    let mode = if rustix::process::geteuid().is_root() { "root" } else { "unshare" };
    let mut command = Command::new("mmdebstrap");
    command
        .args([&format!("--mode={mode}"), "--variant=minbase", "--include=git,ca-certificates", "--", suite])
        .arg(&archive)
        .env_clear()
        .envs(KEPT.iter().filter_map(|name| Some((name, std::env::var_os(name)?))))
        .env("TMPDIR", scratch)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    let run = async { command.spawn()?.wait_with_output().await };
    let output = match tokio::time::timeout(LIMIT, run).await {
        Err(_) => return Err(format!("mmdebstrap did not end within {} minutes", LIMIT.as_secs() / 60)),
        Ok(Err(error)) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err("mmdebstrap is not on this machine (apt-get install mmdebstrap)".into());
        }
        Ok(Err(error)) => return Err(format!("mmdebstrap cannot be started: {error}")),
        Ok(Ok(output)) => output,
    };
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        let last = text.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or_default();
        return Err(format!("mmdebstrap failed: {}", last.chars().take(300).collect::<String>()));
    }
    Ok(Layers { files: vec![archive], env: vec![] })
}
