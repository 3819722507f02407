//! Serves clones and fetches: `git upload-pack` with its input and output connected to the request.

use super::git::{Git, read_tail};
use crate::{Error, Result};
use std::{path::Path, time::Duration};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

const DEADLINE: Duration = Duration::from_secs(3600);
/// What a client may say in one request (wants and haves).
const INPUT_LIMIT: u64 = 64 * 1024 * 1024;

pub(crate) async fn advertise(repository: &Path, git_protocol: Option<&str>) -> Result<Vec<u8>> {
    let protocol = protocol(git_protocol);
    let output = Git::at(repository)
        .env("GIT_PROTOCOL", protocol)
        .args(["upload-pack", "--stateless-rpc", "--advertise-refs", "."])
        .success()
        .await?;
    if output.is_truncated {
        let output = "too many references to list; use git's protocol version 2".into();
        return Err(Error::Git { operation: "upload-pack".into(), output });
    }
    let mut answer = Vec::new();
    // Version 2 begins with its own greeting.
    if !protocol.split(':').any(|word| word == "version=2") {
        super::pkt::write(&mut answer, b"# service=git-upload-pack\n");
        super::pkt::flush(&mut answer);
    }
    answer.extend_from_slice(&output.stdout);
    Ok(answer)
}

pub(crate) async fn serve(
    repository: &Path,
    git_protocol: Option<&str>,
    input: Box<dyn AsyncRead + Send + Unpin>,
    mut output: Box<dyn AsyncWrite + Send + Unpin>,
) -> Result<()> {
    let mut git = Git::at(repository).env("GIT_PROTOCOL", protocol(git_protocol)).args([
        "upload-pack",
        "--stateless-rpc",
        ".",
    ]);
    let mut running = git.spawn()?;
    let (mut stdin, mut stdout, stderr) = running.pipes();
    let feed = async move {
        let _ = tokio::io::copy(&mut input.take(INPUT_LIMIT), &mut stdin).await;
        drop(stdin);
        std::future::pending::<std::io::Result<u64>>().await
    };
    let exchange = async {
        let answer = tokio::io::copy(&mut stdout, &mut output);
        let copied = tokio::select! { copied = answer => copied, never = feed => never };
        drop(stdout);
        copied?;
        output.shutdown().await?;
        running.wait().await
    };
    let both = async { tokio::join!(exchange, read_tail(stderr)) };
    let Ok((status, said)) = tokio::time::timeout(DEADLINE, both).await else {
        return Err(failed("no end within an hour"));
    };
    match status {
        Ok(status) if status.success() => Ok(()),
        Ok(_) => Err(failed(&said)),
        Err(source) => Err(Error::Io { operation: "answering", path: "a fetch".into(), source }),
    }
}

/// The client's header is passed on only when it is one that git knows: it becomes an environment variable.
fn protocol(header: Option<&str>) -> &str {
    let is_word = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'=' | b':' | b'-' | b'_' | b'.');
    header.filter(|text| text.len() <= 128 && text.bytes().all(is_word)).unwrap_or("version=0")
}

fn failed(output: &str) -> Error {
    Error::Git { operation: "upload-pack".into(), output: output.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::protocol;

    #[test]
    fn only_a_plain_protocol_header_reaches_git() {
        assert_eq!(protocol(Some("version=2")), "version=2");
        assert_eq!(protocol(Some("version=2\nX=1")), "version=0");
        assert_eq!(protocol(None), "version=0");
    }
}
