//! Secrets that an admin declares for a repository: the value goes to the vault, sandboxes get a placeholder, the broker
//! adds the value to requests for the secret's hosts.

use crate::policy::trust;
use crate::{App, Inner, Result, require};
use greenroom_broker::{Inject, Injection, InjectionTarget, PLACEHOLDER_PREFIX, SecretText};
use greenroom_directory::SecretRow;
use greenroom_domain::{ErrorCode, Person, Problem, RepositoryId, RepositoryName, Role};
use greenroom_vault::Secret;
use greenroom_wire::{AddSecret, SecretInjection, SecretView};
use sha2::{Digest, Sha256};

const MOST_SECRETS: usize = 100;
const MOST_HOSTS: usize = 20;
const SHORTEST: usize = 8;
const LONGEST: usize = 8192;
/// What a sandbox needs for itself cannot be a secret's name.
const TAKEN: &[&str] = &["PATH", "HOME", "LANG", "TERM", "SHELL", "USER", "PWD"];

impl App {
    /// Names, hosts and placeholders; no values.
    pub async fn secrets(&self, caller: &Person, repository: &RepositoryName) -> Result<Vec<SecretView>> {
        require(caller, Role::Admin)?;
        let row = self.inner.repository_row(repository).await?;
        self.inner.directory.secrets(row.id).await?.iter().map(view_of).collect()
    }

    /// Adds a secret, or replaces the one of that name. In force at once where sandboxes know the placeholder already.
    pub async fn add_secret(
        &self,
        caller: &Person,
        repository: &RepositoryName,
        body: AddSecret,
    ) -> Result<SecretView> {
        require(caller, Role::Admin)?;
        let inner = &self.inner;
        let repository = inner.repository_row(repository).await?;
        check(&body)?;
        let known = inner.directory.secrets(repository.id).await?;
        if known.len() >= MOST_SECRETS && known.iter().all(|row| row.name != body.name) {
            return Err(invalid(format!("A repository has at most {MOST_SECRETS} secrets.")));
        }
        let value = Secret::from(body.value);
        let row = SecretRow {
            repository: repository.id,
            name: body.name,
            hosts: body.hosts.iter().map(|host| host.trim().to_owned()).collect(),
            injection: serde_json::to_value(&body.injection).map_err(|error| invalid(error.to_string()))?,
            added_at_ms: inner.now_ms(),
        };
        injection_of(&row, &value)?;
        // The value first: a row without one would be of no use.
        inner.vault.put(&vault_name(row.repository, &row.name), &value)?;
        inner.directory.put_secret(row.clone()).await?;
        inner.reload_policy(repository.id).await?;
        inner.tell_forge_what_is_secret();
        view_of(&row)
    }

    pub async fn remove_secret(
        &self,
        caller: &Person,
        repository: &RepositoryName,
        name: &str,
    ) -> Result<()> {
        require(caller, Role::Admin)?;
        let row = self.inner.repository_row(repository).await?;
        if !self.inner.directory.remove_secret(row.id, name.to_owned()).await? {
            let shown: String = name.chars().take(80).collect();
            let words = format!("{repository} has no secret named {shown}.");
            return Err(Problem::new(ErrorCode::SecretUnknown, words)
                .hint(format!("List them with `greenroom secret list {repository}`.")));
        }
        self.inner.vault.remove(&vault_name(row.id, name))?;
        self.inner.tell_forge_what_is_secret();
        self.inner.reload_policy(row.id).await
    }
}

impl Inner {
    /// No push may bring what the vault holds, or what registries ask for. Whenever one of them changes.
    pub(crate) fn tell_forge_what_is_secret(&self) {
        let mut known: Vec<Vec<u8>> = vec![];
        for name in self.vault.names().unwrap_or_default().iter().filter(|name| *name != trust::CERTIFICATE) {
            if let Ok(Some(secret)) = self.vault.get(name)
                && let Some(text) = secret.text().and_then(|text| crate::mirror::unpushable(name, text))
            {
                known.extend(greenroom_broker::forms(&text, None));
            }
        }
        known.extend(self.config.registry.credentials.iter().flat_map(|one| one.forms()));
        self.forge.set_known_secrets(known);
    }

    /// The values go with the repository.
    pub(crate) async fn forget_secrets(&self, repository: RepositoryId) -> Result<()> {
        for row in self.directory.secrets(repository).await? {
            self.vault.remove(&vault_name(repository, &row.name))?;
        }
        self.policies.forget(repository);
        Ok(())
    }
}

pub(crate) fn vault_name(repository: RepositoryId, name: &str) -> String {
    format!("secret/{repository}/{name}")
}

/// The same each time, so that an image that was built with it stays good.
pub(crate) fn placeholder(repository: RepositoryId, name: &str) -> String {
    let digest = Sha256::digest(format!("{repository}/{name}").as_bytes());
    digest[..8].iter().fold(PLACEHOLDER_PREFIX.to_owned(), |text, byte| text + &format!("{byte:02x}"))
}

pub(crate) fn injection_of(row: &SecretRow, value: &Secret) -> Result<Injection> {
    let targets: Vec<InjectionTarget> = row.hosts.iter().map(|host| target(host)).collect::<Result<_>>()?;
    let how = match stored(row)? {
        SecretInjection::Bearer => Inject::Bearer,
        SecretInjection::Basic { user } => Inject::Basic { user },
        SecretInjection::Header { name } => Inject::Header { name: header(&name)? },
        SecretInjection::Placeholder => Inject::Placeholder,
    };
    let text = value.text().ok_or_else(|| invalid("A secret's value is text.".to_owned()))?;
    Injection::new(&row.name, targets, how, placeholder(row.repository, &row.name), SecretText::new(text))
        .ok_or_else(|| invalid("The value cannot stand in a header.".to_owned()))
}

fn stored(row: &SecretRow) -> Result<SecretInjection> {
    serde_json::from_value(row.injection.clone()).map_err(|error| {
        Problem::new(ErrorCode::Internal, format!("The secret {} cannot be read: {error}.", row.name))
            .hint("Add it again with `greenroom secret add`.")
    })
}

fn target(text: &str) -> Result<InjectionTarget> {
    InjectionTarget::parse(text).ok_or_else(|| {
        invalid(format!("{:?} is no host for a secret.", text.chars().take(80).collect::<String>()))
    })
}

fn header(name: &str) -> Result<http::HeaderName> {
    const REFUSED: &[&str] =
        &["host", "content-length", "transfer-encoding", "connection", "upgrade", "te", "trailer", "expect"];
    let parsed: Option<http::HeaderName> = name.parse().ok();
    parsed
        .filter(|name| !REFUSED.contains(&name.as_str()))
        .ok_or_else(|| invalid("The header's name cannot be used.".to_owned()))
}

fn check(body: &AddSecret) -> Result<()> {
    let is_letter = |b: u8| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_';
    let name = body.name.as_bytes();
    let is_name = (1..=50).contains(&name.len())
        && name[0].is_ascii_uppercase()
        && name.last().is_some_and(|b| *b != b'_')
        && name.iter().copied().all(is_letter);
    if !is_name || TAKEN.contains(&body.name.as_str()) {
        return Err(invalid("A secret's name has 1 to 50 capital letters, digits and '_'.".to_owned()));
    }
    let is_value = (SHORTEST..=LONGEST).contains(&body.value.len())
        && body.value.chars().all(|c| c.is_ascii_graphic() || c == ' ')
        && body.value.trim() == body.value;
    if !is_value {
        return Err(invalid(format!("A secret has {SHORTEST} to {LONGEST} printable characters.")));
    }
    if !(1..=MOST_HOSTS).contains(&body.hosts.len()) {
        return Err(invalid(format!("A secret has 1 to {MOST_HOSTS} hosts.")));
    }
    match &body.injection {
        SecretInjection::Basic { user } if user.contains(':') || user.chars().any(char::is_control) => {
            Err(invalid("The user holds a character that basic authentication has no place for.".to_owned()))
        }
        _ => Ok(()),
    }
}

fn view_of(row: &SecretRow) -> Result<SecretView> {
    Ok(SecretView {
        name: row.name.clone(),
        hosts: row.hosts.clone(),
        injection: stored(row)?,
        placeholder: placeholder(row.repository, &row.name),
        base_url: format!("http://{}", Injection::alias_of(&row.name)),
        added_at_ms: row.added_at_ms,
    })
}

fn invalid(words: String) -> Problem {
    Problem::new(ErrorCode::InvalidRequest, words)
        .hint("For example: name STRIPE_KEY, hosts [\"api.stripe.com\"], injection {\"kind\": \"bearer\"}.")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body() -> AddSecret {
        AddSecret {
            name: "API_KEY".into(),
            value: "a-value-of-some-length".into(),
            hosts: vec!["api.corp".into()],
            injection: SecretInjection::Bearer,
        }
    }

    #[test]
    fn names_values_and_hosts_are_checked() {
        assert!(check(&body()).is_ok());
        for name in ["", "api", "1A", "A_", "PATH", "A-B", "A\nB"] {
            assert!(check(&AddSecret { name: name.into(), ..body() }).is_err(), "{name:?}");
        }
        for value in ["short", " padded-value", "line\nbreak-in-it", "naïve-value"] {
            assert!(check(&AddSecret { value: value.into(), ..body() }).is_err(), "{value:?}");
        }
        assert!(check(&AddSecret { hosts: vec![], ..body() }).is_err());
        assert!(header("Transfer-Encoding").is_err() && header("X-Api-Key").is_ok());
    }

    #[test]
    fn a_placeholder_is_stable_and_tells_repositories_apart() {
        let (one, two) = (RepositoryId::from_parts(1, 1), RepositoryId::from_parts(1, 2));
        assert_eq!(placeholder(one, "A"), placeholder(one, "A"));
        assert_ne!(placeholder(one, "A"), placeholder(two, "A"));
        assert_ne!(placeholder(one, "A"), placeholder(one, "B"));
    }
}
