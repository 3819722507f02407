//! What declarations of admins mean for the sandboxes of their repository, and for no others.

use super::*;
use greenroom_broker::{Inject, SecretText};

fn row(number: u128) -> RepositoryRow {
    RepositoryRow {
        id: RepositoryId::from_parts(1, number),
        name: format!("sample{number}").parse().unwrap(),
        source: String::new(),
        default_branch: "main".parse().unwrap(),
        required_approvals: 1,
        added_at_ms: 0,
    }
}

fn secret(name: &str, host: &str) -> Arc<Injection> {
    let targets = vec![InjectionTarget::parse(host).unwrap()];
    let value = SecretText::new("some-secret-value");
    Arc::new(Injection::new(name, targets, Inject::Bearer, format!("placeholder-{name}"), value).unwrap())
}

fn policies() -> SandboxPolicies {
    let policies = SandboxPolicies::default();
    let allow = vec![AllowRule::parse("db.corp:5432").unwrap(), AllowRule::parse("plain.corp").unwrap()];
    let injections = vec![secret("ONE", "one.corp:8443"), secret("TWO", "two.corp")];
    policies.set_additions(row(1).id, Additions { allow, injections });
    policies
}

async fn policy_of(policies: &SandboxPolicies, number: u128, secrets: &[String]) -> SandboxPolicy {
    let session = format!("scratch-{number}");
    let fence = Fence { session: session.clone(), epoch: 1, generation: 1 };
    policies.grant_scratch(&fence, &row(number), vec![], secrets, None);
    let destination = "198.18.0.1:443".parse().unwrap();
    let origin = Origin { sandbox: "s".into(), session, generation: 1, destination };
    policies.policy(&origin).await.expect("it was granted")
}

fn names(policy: &SandboxPolicy) -> (Vec<String>, Vec<String>) {
    let secrets = policy.injections.iter().map(|one| one.name().to_owned()).collect();
    (policy.allow.iter().map(ToString::to_string).collect(), secrets)
}

#[tokio::test]
async fn additions_and_secrets_are_in_force_for_their_repository_alone() {
    let policies = policies();
    let (allow, secrets) = names(&policy_of(&policies, 1, &[]).await);
    assert_eq!(allow, ["db.corp:5432", "plain.corp", "one.corp:8443", "two.corp:443"]);
    assert_eq!(secrets, ["ONE", "TWO"]);
    assert_eq!(names(&policy_of(&policies, 2, &[]).await), (vec![], vec![]));
    policies.set_additions(row(1).id, Additions::default());
    assert_eq!(names(&policy_of(&policies, 1, &[]).await), (vec![], vec![]), "taken back at once");
}

#[tokio::test]
async fn a_recipe_narrows_what_its_sandboxes_may_use() {
    let (allow, secrets) = names(&policy_of(&policies(), 1, &["TWO".to_owned(), "OTHER".to_owned()]).await);
    assert_eq!(secrets, ["TWO"]);
    assert!(!allow.contains(&"one.corp:8443".to_owned()), "{allow:?}");
}

#[test]
fn a_claim_gets_placeholders_and_ports_of_its_own() {
    let mirrors = [AllowRule::parse("mirror.corp:4873").unwrap(), AllowRule::parse("m.corp:443").unwrap()];
    let declared = policies().for_claim(row(1).id, &[], &mirrors);
    let expected = [("ONE", "placeholder-ONE"), ("TWO", "placeholder-TWO")];
    assert_eq!(declared.env, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
    assert_eq!(declared.ports, [4873, 5432, 8443]);
}
