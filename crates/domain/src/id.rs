//! Typed ids: a three-letter prefix and a ULID in lower case, for example `ses_01jd3k…`. Sorted by time of making.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::{fmt, str::FromStr};
use ulid::Ulid;

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a {kind} id (expected {prefix}_ and 26 characters)")]
pub struct InvalidId {
    kind: &'static str,
    prefix: &'static str,
    text: String,
}

macro_rules! typed_id {
    ($name:ident, $prefix:literal, $kind:literal) => {
        #[doc = concat!("Id of a ", $kind, ": `", $prefix, "_` and a ULID.")]
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(Ulid);

        impl $name {
            pub const PREFIX: &'static str = $prefix;

            /// From a time and 80 random bits, both passed in.
            pub fn from_parts(at_ms: u64, random: u128) -> Self {
                Self(Ulid::from_parts(at_ms, random))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let mut text = [0u8; ulid::ULID_LEN];
                let text = self.0.array_to_str(&mut text);
                text.make_ascii_lowercase();
                write!(f, "{}_{text}", $prefix)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;
            fn from_str(text: &str) -> Result<Self, InvalidId> {
                text.strip_prefix(concat!($prefix, "_"))
                    .filter(|rest| rest.len() == ulid::ULID_LEN)
                    .and_then(|rest| Ulid::from_string(rest).ok())
                    .map(Self)
                    .ok_or_else(|| InvalidId {
                        kind: $kind,
                        prefix: $prefix,
                        text: text.chars().take(64).collect(),
                    })
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = <std::borrow::Cow<'_, str>>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }

        impl utoipa::PartialSchema for $name {
            fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::schema::Schema> {
                utoipa::openapi::ObjectBuilder::new()
                    .schema_type(utoipa::openapi::schema::Type::String)
                    .description(Some(concat!("Id of a ", $kind)))
                    .pattern(Some(concat!("^", $prefix, "_[0-9a-z]{26}$")))
                    .build()
                    .into()
            }
        }
        impl utoipa::ToSchema for $name {}
    };
}

typed_id!(SessionId, "ses", "session");
typed_id!(PromptId, "pmt", "prompt");
typed_id!(TurnId, "trn", "turn");
typed_id!(BlockId, "blk", "block");
typed_id!(PersonId, "per", "person");
typed_id!(RepositoryId, "rep", "repository");
typed_id!(ImageId, "img", "image");
typed_id!(ChangeId, "chg", "change");
typed_id!(SnapshotId, "snp", "snapshot");
typed_id!(TokenId, "tok", "token");
typed_id!(ShareLinkId, "lnk", "share link");
typed_id!(RequestId, "req", "request");
typed_id!(AskId, "ask", "ask");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_survives_text() {
        let id = SessionId::from_parts(1_700_000_000_000, 42);
        assert_eq!(id.to_string().parse::<SessionId>(), Ok(id));
        assert!(id.to_string().starts_with("ses_0"));
    }

    #[test]
    fn an_id_of_another_kind_is_refused() {
        let id = PromptId::from_parts(1, 1).to_string();
        assert!(id.parse::<SessionId>().is_err());
        assert!("ses_".parse::<SessionId>().is_err());
        assert!("ses_zzzzzzzzzzzzzzzzzzzzzzzzzé".parse::<SessionId>().is_err());
    }
}
