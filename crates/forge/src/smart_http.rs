//! The HTTP side of git's smart protocol that every server of the forge shares: which request it is, what type the
//! answer has, and the body as git compressed it. Knows no HTTP library and no permission.

use crate::GitService;
use tokio::io::{AsyncRead, BufReader};

/// One request of a git client. Where paths are mounted is the caller's: strip its prefix first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request<'a> {
    /// As in the path, without `.git`.
    pub repository: &'a str,
    pub service: GitService,
    pub step: Step,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// `GET …/info/refs?service=…`: answer with `Forge::advertise`.
    Advertise,
    /// `POST …/git-upload-pack` or `…/git-receive-pack`: answer with `Forge::serve`.
    Exchange,
}

impl<'a> Request<'a> {
    /// `None`: not a request of the smart protocol (the old dumb protocol included).
    pub fn parse(method: &str, path: &'a str, query: Option<&str>) -> Option<Self> {
        let (repository, rest) = path.strip_prefix('/')?.split_once('/')?;
        let repository = repository.strip_suffix(".git").unwrap_or(repository);
        if repository.is_empty() {
            return None;
        }
        let (service, step) = match (method, rest) {
            ("GET", "info/refs") => (service(query?.strip_prefix("service=")?)?, Step::Advertise),
            ("POST", name) => (service(name)?, Step::Exchange),
            _ => return None,
        };
        Some(Self { repository, service, step })
    }

    pub fn content_type(&self) -> &'static str {
        match (self.service, self.step) {
            (GitService::UploadPack, Step::Advertise) => "application/x-git-upload-pack-advertisement",
            (GitService::ReceivePack, Step::Advertise) => "application/x-git-receive-pack-advertisement",
            (GitService::UploadPack, Step::Exchange) => "application/x-git-upload-pack-result",
            (GitService::ReceivePack, Step::Exchange) => "application/x-git-receive-pack-result",
        }
    }
}

fn service(name: &str) -> Option<GitService> {
    match name {
        "git-upload-pack" => Some(GitService::UploadPack),
        "git-receive-pack" => Some(GitService::ReceivePack),
        _ => None,
    }
}

/// The body of a request by its `Content-Encoding`; `None` for one that git does not use. `Forge::serve` bounds what
/// comes out.
pub fn decoded(
    content_encoding: Option<&str>,
    body: impl AsyncRead + Send + Unpin + 'static,
) -> Option<Box<dyn AsyncRead + Send + Unpin>> {
    match content_encoding {
        None | Some("identity" | "") => Some(Box::new(body)),
        Some("gzip" | "x-gzip") => {
            Some(Box::new(async_compression::tokio::bufread::GzipDecoder::new(BufReader::new(body))))
        }
        Some(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_four_requests_of_git_are_known_and_no_other() {
        let refs = Request::parse("GET", "/demo.git/info/refs", Some("service=git-upload-pack")).unwrap();
        assert_eq!(
            (refs.repository, refs.service, refs.step),
            ("demo", GitService::UploadPack, Step::Advertise)
        );
        let push = Request::parse("POST", "/demo/git-receive-pack", None).unwrap();
        assert_eq!(
            (push.repository, push.service, push.step),
            ("demo", GitService::ReceivePack, Step::Exchange)
        );
        for (method, path, query) in [
            ("GET", "/demo.git/info/refs", None),
            ("GET", "/demo.git/HEAD", None),
            ("GET", "/demo.git/git-upload-pack", None),
            ("POST", "/demo.git/git-shell", None),
            ("POST", "/.git/git-upload-pack", None),
            ("GET", "/a/b/info/refs", Some("service=git-upload-pack")),
        ] {
            assert_eq!(Request::parse(method, path, query), None, "{method} {path}");
        }
    }
}
