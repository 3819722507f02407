//! People: sign-in with local accounts, one-time links, tokens.

use crate::secrets::{TOKEN_PREFIX, digest, new_secret};
use crate::{App, Result, RightsChanges, RightsOf, require};
use argon2::Argon2;
use argon2::password_hash::{PasswordHash, PasswordHasher, PasswordVerifier, SaltString};
use greenroom_directory::TokenRow;
use greenroom_domain::{ErrorCode, LoginName, Person, PersonId, Problem, Role, TokenId};
use greenroom_wire::{AddPerson, CreateToken, PersonAdded, SignIn, TokenCreated, UseSignInLink};

const LINK_LIFE_MS: i64 = 7 * 24 * 3600 * 1000;
const WEB_SESSION_LIFE_MS: i64 = 30 * 24 * 3600 * 1000;
const PASSWORD_LENGTH: std::ops::RangeInclusive<usize> = 10..=256;

/// The name of the token that `run/local-token` holds.
const LOCAL_TOKEN: &str = "local (renewed at each start)";

/// Who runs the server for the first time.
#[derive(Clone, Debug)]
pub struct FirstAdmin {
    pub login: String,
    pub name: String,
    pub email: String,
}

/// A signed-in browser: `secret` goes into its cookie.
#[derive(Debug)]
pub struct WebSession {
    pub person: Person,
    pub secret: String,
    pub max_age_s: i64,
}

impl App {
    /// Makes the first admin when there is none yet.
    pub async fn ensure_admin(&self, admin: FirstAdmin) -> Result<()> {
        let people = self.inner.directory.people().await?;
        if people.iter().any(|person| person.role == Role::Admin) {
            return Ok(());
        }
        let login = admin.login.parse().unwrap_or_else(|_| "admin".parse().expect("a valid login"));
        self.insert_person(AddPerson { login, name: admin.name, email: admin.email, role: Role::Admin })
            .await?;
        Ok(())
    }

    /// The first admin's login and a one-time link with which they set a password; `None` once they have one.
    pub async fn first_admin_link(&self) -> Result<Option<(LoginName, String)>> {
        let admin = self.local_admin().await?;
        let known = self.inner.directory.password(admin.login.clone()).await?;
        if known.is_some_and(|(_, hash)| hash.is_some()) {
            return Ok(None);
        }
        let (link, _) = self.new_link(admin.id).await?;
        Ok(Some((admin.login, link)))
    }

    /// A token for this machine's own user, who acts as the first admin. The one of an earlier start stops working.
    pub async fn renew_local_token(&self) -> Result<String> {
        let admin = self.local_admin().await?;
        for token in self.inner.directory.tokens(admin.id).await? {
            if token.name == LOCAL_TOKEN {
                self.inner.directory.remove_token(token.id).await?;
                self.rights_changed(RightsOf::Person(admin.id));
            }
        }
        let body = CreateToken { name: LOCAL_TOKEN.to_owned(), login: None, expires_at_ms: None };
        Ok(self.create_token(&admin, body).await?.secret)
    }

    async fn local_admin(&self) -> Result<Person> {
        let people = self.inner.directory.people().await?;
        people.into_iter().find(|person| person.role == Role::Admin).ok_or_else(not_signed_in)
    }

    pub async fn sign_in(&self, body: SignIn) -> Result<WebSession> {
        let known = self.inner.directory.password(body.login).await?;
        let (person, hash) = match known {
            Some((person, hash)) => (Some(person), hash),
            None => (None, None),
        };
        // An unknown login costs the same time as a wrong password.
        let is_right = verify_password(body.password, hash.unwrap_or_else(decoy_hash)).await?;
        match person {
            Some(person) if is_right => self.open_web_session(person).await,
            _ => Err(Problem::new(ErrorCode::WrongCredentials, "Login or password is wrong.")
                .hint("Ask an admin for a new sign-in link if the password is lost.")),
        }
    }

    /// Sets the password of the link's person and signs in. The link works once.
    pub async fn use_sign_in_link(&self, body: UseSignInLink) -> Result<WebSession> {
        check_password(&body.password)?;
        let now = self.inner.now_ms();
        let token = digest(&body.token);
        let directory = &self.inner.directory;
        let person = directory.sign_in_link(token, now).await?.flatten().ok_or_else(link_unknown)?;
        let hash = hash_password(body.password, new_secret(self.inner.clock.as_ref())).await?;
        if directory.take_sign_in_link(token, now).await?.is_none() {
            return Err(link_unknown());
        }
        directory.set_password(person, hash).await?;
        if body.name.is_some() || body.email.is_some() {
            self.rename(person, body.name, body.email).await?;
        }
        let person = directory.person(person).await?.ok_or_else(link_unknown)?;
        self.open_web_session(person).await
    }

    pub async fn sign_out(&self, secret: &str) -> Result<()> {
        let (digest, now) = (digest(secret), self.inner.now_ms());
        let person = self.inner.directory.web_session(digest, now).await?;
        self.inner.directory.remove_web_session(digest).await?;
        if let Some(person) = person {
            self.rights_changed(RightsOf::Person(person.id));
        }
        Ok(())
    }

    /// Told after the change is stored: open streams ask again whether they may go on.
    pub fn rights_changed(&self, of: RightsOf) {
        self.inner.rights.changed(of);
    }

    pub fn rights_changes(&self) -> RightsChanges {
        self.inner.rights.changes()
    }

    pub async fn person_of_cookie(&self, secret: &str) -> Result<Person> {
        let found = self.inner.directory.web_session(digest(secret), self.inner.now_ms()).await?;
        found.ok_or_else(not_signed_in)
    }

    pub async fn person_of_token(&self, secret: &str) -> Result<Person> {
        let found = match secret.starts_with(TOKEN_PREFIX) {
            true => self.inner.directory.token(digest(secret), self.inner.now_ms()).await?,
            false => None,
        };
        found.ok_or_else(not_signed_in)
    }

    pub async fn people(&self, caller: &Person) -> Result<Vec<Person>> {
        require(caller, Role::Viewer)?;
        Ok(self.inner.directory.people().await?)
    }

    /// Adds a person, and answers the one-time link with which they set their password.
    pub async fn add_person(&self, caller: &Person, body: AddPerson) -> Result<PersonAdded> {
        require(caller, Role::Admin)?;
        let person = self.insert_person(body).await?;
        let (sign_in_path, expires_at_ms) = self.new_link(person.id).await?;
        Ok(PersonAdded { person, sign_in_path, expires_at_ms })
    }

    pub async fn create_token(&self, caller: &Person, body: CreateToken) -> Result<TokenCreated> {
        if body.name.trim().is_empty() || body.name.len() > 100 {
            return Err(Problem::new(ErrorCode::InvalidRequest, "A token's name has 1 to 100 characters.")
                .hint("Say what the token is for, for example `laptop`."));
        }
        let person = match body.login {
            None => caller.clone(),
            Some(login) if login == caller.login => caller.clone(),
            Some(login) => {
                require(caller, Role::Admin)?;
                self.person_by_login(login).await?
            }
        };
        if body.expires_at_ms.is_some_and(|at_ms| at_ms <= self.inner.now_ms()) {
            return Err(Problem::new(ErrorCode::InvalidRequest, "A token cannot end before it begins.")
                .hint("Choose a later time, or none: then it does not end."));
        }
        let (at, random) = self.inner.id_parts();
        let secret = format!("{TOKEN_PREFIX}{}", new_secret(self.inner.clock.as_ref()));
        let row = TokenRow {
            id: TokenId::from_parts(at, random),
            person: person.id,
            name: body.name.clone(),
            digest: digest(&secret),
            created_at_ms: self.inner.now_ms(),
            expires_at_ms: body.expires_at_ms,
        };
        let id = row.id;
        self.inner.directory.add_token(row).await?;
        let expires_at_ms = body.expires_at_ms;
        Ok(TokenCreated { id, name: body.name, login: person.login, secret, expires_at_ms })
    }

    pub(crate) async fn person_by_login(&self, login: LoginName) -> Result<Person> {
        let found = self.inner.directory.person_by_login(login.clone()).await?;
        found.ok_or_else(|| {
            Problem::new(ErrorCode::PersonUnknown, format!("There is no person with the login {login}."))
                .hint("List people with `greenroom person list`.")
        })
    }

    async fn insert_person(&self, body: AddPerson) -> Result<Person> {
        let name = checked_name(&body.name)?;
        let email = checked_email(&body.email)?;
        let (at, random) = self.inner.id_parts();
        let person =
            Person { id: PersonId::from_parts(at, random), login: body.login, name, email, role: body.role };
        self.inner.directory.add_person(person.clone(), self.inner.now_ms()).await.map_err(|error| {
            match error {
                greenroom_directory::Error::NameTaken => {
                    Problem::new(ErrorCode::NameTaken, format!("The login {} is taken.", person.login))
                        .hint("Choose another login.")
                }
                other => other.into(),
            }
        })?;
        Ok(person)
    }

    async fn rename(&self, person: PersonId, name: Option<String>, email: Option<String>) -> Result<()> {
        let name = name.as_deref().map(checked_name).transpose()?;
        let email = email.as_deref().map(checked_email).transpose()?;
        Ok(self.inner.directory.rename_person(person, name, email).await?)
    }

    async fn new_link(&self, person: PersonId) -> Result<(String, i64)> {
        let secret = new_secret(self.inner.clock.as_ref());
        let expires_at_ms = self.inner.now_ms() + LINK_LIFE_MS;
        self.inner.directory.add_sign_in_link(digest(&secret), Some(person), expires_at_ms).await?;
        Ok((format!("/sign-in/link?token={secret}"), expires_at_ms))
    }

    async fn open_web_session(&self, person: Person) -> Result<WebSession> {
        let secret = new_secret(self.inner.clock.as_ref());
        let expires = self.inner.now_ms() + WEB_SESSION_LIFE_MS;
        self.inner.directory.add_web_session(digest(&secret), person.id, expires).await?;
        Ok(WebSession { person, secret, max_age_s: WEB_SESSION_LIFE_MS / 1000 })
    }
}

fn checked_name(name: &str) -> Result<String> {
    let name = name.trim();
    let fits = (1..=100).contains(&name.chars().count())
        && !name.chars().any(|c| c.is_control() || "<>".contains(c));
    fits.then(|| name.to_owned()).ok_or_else(|| {
        Problem::new(ErrorCode::InvalidRequest, "A name has 1 to 100 characters, without < and >.")
            .hint("Commits carry this name.")
    })
}

fn checked_email(email: &str) -> Result<String> {
    let email = email.trim();
    let fits = email.len() <= 254
        && email.split_once('@').is_some_and(|(local, host)| !local.is_empty() && !host.is_empty())
        && !email.chars().any(|c| c.is_control() || c.is_whitespace() || "<>".contains(c));
    fits.then(|| email.to_owned()).ok_or_else(|| {
        Problem::new(ErrorCode::InvalidRequest, "The e-mail address is not one.")
            .hint("Commits carry this address.")
    })
}

fn check_password(password: &str) -> Result<()> {
    if PASSWORD_LENGTH.contains(&password.chars().count()) {
        return Ok(());
    }
    Err(Problem::new(ErrorCode::InvalidRequest, "A password has 10 to 256 characters.")
        .hint("A few unrelated words make a good one."))
}

fn link_unknown() -> Problem {
    Problem::new(ErrorCode::WrongCredentials, "This sign-in link is used or has expired.").hint(
        "Ask an admin for a new one; the first admin's link is printed by `greenroom serve` at its start.",
    )
}

fn not_signed_in() -> Problem {
    Problem::new(ErrorCode::NotSignedIn, "You are not signed in.")
        .hint("Sign in on the web page, or give a token made with `greenroom token create`.")
}

/// A well-formed hash that no password matches in practice.
fn decoy_hash() -> String {
    "$argon2id$v=19$m=19456,t=2,p=1$c29tZXNhbHRzb21lc2FsdA$Wd2fd8mBfLkSjDCiVtVY9ZxWJjcHaTzhkGWtWpUPGWI"
        .to_owned()
}

async fn hash_password(password: String, salt: String) -> Result<String> {
    run_hashing(move || {
        let salt = SaltString::encode_b64(&digest(&salt)[..16]).map_err(|error| error.to_string())?;
        let hash = Argon2::default().hash_password(password.as_bytes(), &salt);
        hash.map(|hash| hash.to_string()).map_err(|error| error.to_string())
    })
    .await
}

async fn verify_password(password: String, hash: String) -> Result<bool> {
    run_hashing(move || {
        let hash = PasswordHash::new(&hash).map_err(|error| error.to_string())?;
        Ok(Argon2::default().verify_password(password.as_bytes(), &hash).is_ok())
    })
    .await
}

async fn run_hashing<T: Send + 'static>(
    work: impl FnOnce() -> std::result::Result<T, String> + Send + 'static,
) -> Result<T> {
    let done =
        tokio::task::spawn_blocking(work).await.map_err(|error| error.to_string()).and_then(|done| done);
    done.map_err(|error| {
        Problem::new(ErrorCode::Internal, format!("The password could not be checked: {error}."))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Bounds, World};

    #[tokio::test]
    async fn a_token_is_refused_from_its_end_on_and_one_without_an_end_is_not() {
        const NOW: i64 = 1_700_000_000_000;
        let world = World::start(Bounds { began_ms: Some(NOW), ..Bounds::without_pool() }).await;
        let create = async |expires_at_ms| {
            let body = CreateToken { name: "t".into(), login: None, expires_at_ms };
            world.app.create_token(&world.admin, body).await
        };
        assert_eq!(create(Some(NOW)).await.unwrap_err().code, ErrorCode::InvalidRequest);
        let (ends, stays) = (create(Some(NOW + 10)).await.unwrap(), create(None).await.unwrap());
        assert_eq!((ends.expires_at_ms, stays.expires_at_ms), (Some(NOW + 10), None));
        world.clock.set(NOW + 9);
        assert_eq!(world.app.person_of_token(&ends.secret).await.unwrap().id, world.admin.id);
        world.clock.set(NOW + 10);
        let refused = world.app.person_of_token(&ends.secret).await.unwrap_err();
        assert_eq!(refused.code, ErrorCode::NotSignedIn);
        assert_eq!(world.app.person_of_token(&stays.secret).await.unwrap().id, world.admin.id);
    }
}
