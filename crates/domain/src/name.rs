//! Text that is checked once, at the edge, and trusted afterwards.

use serde::{Deserialize, Deserializer, Serialize};
use std::{fmt, str::FromStr};

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a valid {kind}: {rule}")]
pub struct InvalidName {
    kind: &'static str,
    rule: &'static str,
    text: String,
}

macro_rules! checked_name {
    ($name:ident, $kind:literal, $rule:literal, $check:expr) => {
        #[doc = concat!("A ", $kind, ": ", $rule, ".")]
        #[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, utoipa::ToSchema)]
        #[serde(transparent)]
        pub struct $name(String);

        impl $name {
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = InvalidName;
            fn from_str(text: &str) -> Result<Self, InvalidName> {
                let check: fn(&str) -> bool = $check;
                if check(text) {
                    Ok(Self(text.to_owned()))
                } else {
                    Err(InvalidName { kind: $kind, rule: $rule, text: text.chars().take(80).collect() })
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = <std::borrow::Cow<'_, str>>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

checked_name!(
    RepositoryName,
    "repository name",
    "1 to 64 of a-z, 0-9, '.', '_' and '-', beginning with a letter or digit, not ending in .git",
    |text| is_word(text, 64) && !text.ends_with(".git") && !text.contains("..")
);
checked_name!(
    LoginName,
    "login",
    "1 to 39 of a-z, 0-9, '.', '_' and '-', beginning with a letter or digit",
    |text| is_word(text, 39)
);
checked_name!(
    ExchangeName,
    "name of an exchange directory",
    "1 to 64 of a-z, 0-9, '.', '_' and '-', beginning with a letter or digit",
    |text| is_word(text, 64)
);
checked_name!(BranchName, "branch name", "a git branch name of at most 200 characters", is_branch);
checked_name!(CommitHash, "commit hash", "40 hexadecimal digits in lower case", |text| {
    text.len() == 40 && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
});

checked_name!(BlobDigest, "blob digest", "a SHA-256 as 64 hexadecimal digits in lower case", |text| {
    text.len() == 64 && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
});

fn is_word(text: &str, longest: usize) -> bool {
    let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'_' | b'-');
    !text.is_empty()
        && text.len() <= longest
        && text.bytes().all(allowed)
        && text.as_bytes()[0].is_ascii_alphanumeric()
}

/// The rules of git-check-ref-format(1), for the part after `refs/heads/`.
fn is_branch(text: &str) -> bool {
    let component = |part: &str| !part.is_empty() && !part.starts_with('.') && !part.ends_with(".lock");
    !text.is_empty()
        && text.len() <= 200
        && !text.starts_with('-')
        && text != "@"
        && !text.ends_with('.')
        && !text.contains("..")
        && !text.contains("@{")
        && text.split('/').all(component)
        && text.bytes().all(|b| b > b' ' && b != 0x7f && !b"~^:?*[\\".contains(&b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_git_or_a_path_would_misread_are_refused() {
        for bad in ["", "-x", ".x", "a/b", "A", "a..b", "x.git", "a b"] {
            assert!(bad.parse::<RepositoryName>().is_err(), "{bad:?}");
        }
        for bad in ["", "-x", "a..b", "a//b", "/a", "a/", "x.lock", "a b", "a~1", "@", "a@{1}", "a/.b"] {
            assert!(bad.parse::<BranchName>().is_err(), "{bad:?}");
        }
        for bad in ["", ".", "..", "../x", "/tmp", "a/b", "A", ".writing-x"] {
            assert!(bad.parse::<ExchangeName>().is_err(), "{bad:?}");
        }
        assert!("greenroom/ses_01".parse::<BranchName>().is_ok());
        assert!("left-pad".parse::<RepositoryName>().is_ok());
    }
}
