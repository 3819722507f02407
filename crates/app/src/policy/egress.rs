//! What a repository's sandboxes may reach: shown to everybody, changed by an admin, in force at once.

use crate::secrets::declared::injection_of;
use crate::{App, Inner, Result, require};
use greenroom_broker::{AllowRule, HostPattern, default_allow};
use greenroom_directory::{EgressRow, RepositoryRow};
use greenroom_domain::{ErrorCode, Person, Problem, RepositoryId, RepositoryName, Role};
use greenroom_wire::{EgressAddition, EgressRuleView, EgressSource, EgressView, SetEgress};
use std::sync::Arc;

const MOST_ADDITIONS: usize = 200;

impl App {
    pub async fn egress(&self, caller: &Person, name: &RepositoryName) -> Result<EgressView> {
        require(caller, Role::Viewer)?;
        let row = self.inner.repository_row(name).await?;
        self.inner.egress_view(&row).await
    }

    /// Replaces the additions. Sandboxes that run are bound by the new ones from the next connection on; a new port
    /// opens with the next sandbox.
    pub async fn set_egress(
        &self,
        caller: &Person,
        name: &RepositoryName,
        body: SetEgress,
    ) -> Result<EgressView> {
        require(caller, Role::Admin)?;
        let row = self.inner.repository_row(name).await?;
        if body.additions.len() > MOST_ADDITIONS {
            let words = format!("A repository has at most {MOST_ADDITIONS} additions.");
            return Err(Problem::new(ErrorCode::InvalidRequest, words)
                .hint("Allow everything below a domain with `*.domain`."));
        }
        let mut rows = vec![];
        for addition in body.additions {
            rule_of(&addition.host, addition.allows_private)?;
            rows.push(EgressRow {
                host: addition.host.trim().to_owned(),
                allows_private: addition.allows_private,
            });
        }
        self.inner.directory.set_egress(row.id, rows).await?;
        self.inner.reload_policy(row.id).await?;
        self.inner.egress_view(&row).await
    }
}

impl Inner {
    /// Reads what admins declared into the table that the broker asks.
    pub(crate) async fn reload_policy(&self, repository: RepositoryId) -> Result<()> {
        let mut allow = vec![];
        for row in self.directory.egress(repository).await? {
            allow.push(rule_of(&row.host, row.allows_private)?);
        }
        let mut injections = vec![];
        for row in self.directory.secrets(repository).await? {
            match self.vault.get(&crate::secrets::declared::vault_name(repository, &row.name)) {
                Ok(Some(value)) => injections.push(Arc::new(injection_of(&row, &value)?)),
                Ok(None) => tracing::warn!(secret = row.name, "a declared secret has no value"),
                Err(error) => tracing::warn!(secret = row.name, %error, "a declared secret cannot be read"),
            }
        }
        self.policies.set_additions(repository, super::Additions { allow, injections });
        Ok(())
    }

    /// At the start of the app.
    pub(crate) async fn load_policies(&self) -> Result<()> {
        self.policies.set_credentials(self.config.registry.credentials.clone());
        for row in self.directory.repositories().await? {
            self.reload_policy(row.id).await?;
        }
        self.tell_forge_what_is_secret();
        Ok(())
    }

    async fn egress_view(&self, row: &RepositoryRow) -> Result<EgressView> {
        let additions = self.directory.egress(row.id).await?;
        let recipe = match self.directory.newest_ready_image(row.id).await? {
            Some(image) => self.manifest(image.id).await.map(|m| m.egress_allow.clone()).unwrap_or_default(),
            None => vec![],
        };
        let injections = self.policies.injections_of(row.id);
        let is_tls_ended = |rule: &AllowRule| {
            let ports = rule.port.map_or_else(|| vec![80, 443], |port| vec![port]);
            injections.iter().flat_map(|one| one.targets()).any(|target| {
                let is_host = rule.host == HostPattern::Exact(target.host.clone());
                target.is_tls && is_host && ports.contains(&target.port)
            })
        };
        let view = |rule: AllowRule, source| EgressRuleView {
            is_tls_ended: is_tls_ended(&rule),
            host: rule.to_string(),
            source,
            allows_private: rule.allow_private,
        };
        let mut rules: Vec<EgressRuleView> = vec![];
        rules.extend(default_allow().into_iter().map(|rule| view(rule, EgressSource::Default)));
        let mirrors = self.config.registry.hosts.iter().cloned();
        rules.extend(mirrors.map(|rule| view(rule, EgressSource::Installation)));
        let of_recipe = recipe.iter().filter_map(|text| AllowRule::parse(text).ok());
        rules.extend(of_recipe.map(|rule| view(rule, EgressSource::Recipe)));
        for row in &additions {
            rules.push(view(rule_of(&row.host, row.allows_private)?, EgressSource::Admin));
        }
        let declared = self.policies.declared(row.id);
        let of_secrets =
            declared.iter().flat_map(|one| one.targets()).map(greenroom_broker::InjectionTarget::rule);
        rules.extend(of_secrets.map(|rule| view(rule, EgressSource::Secret)));
        let addition = |row: EgressRow| EgressAddition { host: row.host, allows_private: row.allows_private };
        Ok(EgressView { rules, additions: additions.into_iter().map(addition).collect() })
    }
}

fn rule_of(host: &str, allows_private: bool) -> Result<AllowRule> {
    let invalid = |words: String| {
        Problem::new(ErrorCode::InvalidRequest, words)
            .hint("Write a host (example.com), a host and port (db.example.com:5432) or *.example.com.")
    };
    let rule = AllowRule::parse(host)
        .map_err(|_| invalid(format!("{:?} is no host.", host.chars().take(80).collect::<String>())))?;
    match (allows_private, &rule.host) {
        (false, _) => Ok(rule),
        (true, HostPattern::Exact(_)) => Ok(rule.private()),
        (true, _) => Err(invalid("A private network is only allowed for an exact host.".to_owned())),
    }
}
