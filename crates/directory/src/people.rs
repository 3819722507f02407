//! People and their password hashes.

use crate::row::{all, as_word, first, parsed, word};
use crate::{Directory, Result};
use greenroom_domain::{LoginName, Person, PersonId};
use rusqlite::{Row, params};

impl Directory {
    /// `NameTaken` when the login exists.
    pub async fn add_person(&self, person: Person, at_ms: i64) -> Result<()> {
        self.write(move |db| {
            db.prepare_cached(
                "INSERT INTO people (id, login, name, email, role, added_at_ms) VALUES (?, ?, ?, ?, ?, ?)",
            )?
            .execute(params![
                person.id.to_string(),
                person.login.as_str(),
                person.name,
                person.email,
                as_word(person.role)?,
                at_ms
            ])?;
            Ok(())
        })
        .await
    }

    pub async fn person(&self, id: PersonId) -> Result<Option<Person>> {
        self.read(move |db| {
            first(db.prepare("SELECT * FROM people WHERE id = ?")?, [id.to_string()], read_person)
        })
        .await
    }

    pub async fn person_by_login(&self, login: LoginName) -> Result<Option<Person>> {
        self.read(move |db| {
            first(db.prepare("SELECT * FROM people WHERE login = ?")?, [login.as_str()], read_person)
        })
        .await
    }

    /// By login.
    pub async fn people(&self) -> Result<Vec<Person>> {
        self.read(|db| all(db.prepare("SELECT * FROM people ORDER BY login")?, [], read_person)).await
    }

    /// Changes what is given and keeps the rest.
    pub async fn rename_person(
        &self,
        id: PersonId,
        name: Option<String>,
        email: Option<String>,
    ) -> Result<()> {
        self.write(move |db| {
            db.execute(
                "UPDATE people SET name = coalesce(?, name), email = coalesce(?, email) WHERE id = ?",
                params![name, email, id.to_string()],
            )?;
            Ok(())
        })
        .await
    }

    /// `hash` in the form of the password hashing function, salt included.
    pub async fn set_password(&self, id: PersonId, hash: String) -> Result<()> {
        self.write(move |db| {
            db.execute("UPDATE people SET password = ? WHERE id = ?", params![hash, id.to_string()])?;
            Ok(())
        })
        .await
    }

    /// The person, and the hash where a password was set.
    pub async fn password(&self, login: LoginName) -> Result<Option<(Person, Option<String>)>> {
        self.read(move |db| {
            first(db.prepare("SELECT * FROM people WHERE login = ?")?, [login.as_str()], |row| {
                Ok((read_person(row)?, row.get("password")?))
            })
        })
        .await
    }
}

pub(crate) fn read_person(row: &Row<'_>) -> rusqlite::Result<Person> {
    Ok(Person {
        id: parsed(row, "id")?,
        login: parsed(row, "login")?,
        name: row.get("name")?,
        email: row.get("email")?,
        role: word(row, "role")?,
    })
}
