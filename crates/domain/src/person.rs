//! People and authorship.

use crate::{LoginName, PersonId};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What a person may do in the installation. Each role includes the ones before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    Viewer,
    Member,
    Admin,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Person {
    pub id: PersonId,
    pub login: LoginName,
    pub name: String,
    pub email: String,
    pub role: Role,
}

impl Person {
    pub fn as_author(&self) -> Author {
        Author { on_behalf_of: self.id, via: Via::Person, name: self.name.clone(), email: self.email.clone() }
    }
}

/// How a prompt reached the session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Via {
    Person,
    Parent,
    /// A session that this one began has ended.
    Child,
    Review,
    Webhook,
}

/// Whose request it is. Name and email are those at the time of the prompt: commits carry them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Author {
    pub on_behalf_of: PersonId,
    pub via: Via,
    pub name: String,
    pub email: String,
}
