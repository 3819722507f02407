//! Which models sessions can be answered with.

use super::*;
use crate::testing::{Bounds, World};
use greenroom_domain::{Command, CommandId, Event};
use greenroom_wire::{CreateSession, ModelProvider, SubmitCommand};

async fn add(world: &World, name: &str, model: &str, is_default: bool) -> Result<ModelView> {
    let body = AddModel {
        name: name.into(),
        provider: ModelProvider::Openai,
        model: model.into(),
        // Nothing listens there: these tests ask nothing.
        base_url: Some("http://127.0.0.1:9/v1".into()),
        key: None,
        effort: None,
        is_default,
        is_text_only: false,
    };
    world.app.add_model(&world.admin, body).await
}

fn key(text: &str) -> CommandId {
    text.parse().unwrap()
}

fn choose(model: Option<&str>, effort: Option<Effort>) -> Command {
    Command::ChooseModel { model: model.map(str::to_owned), effort }
}

#[tokio::test]
async fn a_session_takes_only_models_and_efforts_that_are_known() {
    let world = World::start(Bounds::without_pool()).await;
    let row = world.add_repository("sample").await;
    add(&world, "main", "gpt-5.5", true).await.unwrap();
    add(&world, "plain", "gpt-4.1", false).await.unwrap();
    let session = world.session(&world.admin, &row).await;
    let submit = async |name: &str, command| {
        let body = SubmitCommand { key: key(name), command };
        world.app.submit_command(&world.admin, session, body).await
    };
    let refused = async |name: &str, command| submit(name, command).await.unwrap_err();
    assert_eq!(refused("a", choose(Some("gone"), None)).await.code, ErrorCode::ModelUnknown);
    let unknown = refused("b", choose(Some("main"), Some(Effort::Max))).await;
    assert_eq!(unknown.code, ErrorCode::ModelEffortUnknown);
    assert_eq!(unknown.hint.as_deref(), Some("It knows low, medium, high, xhigh."));
    let none = refused("c", choose(Some("plain"), Some(Effort::Low))).await;
    assert_eq!(none.code, ErrorCode::ModelEffortUnknown);
    submit("d", choose(Some("main"), Some(Effort::High))).await.unwrap();
    let view = world.app.session(&world.admin, session).await.unwrap();
    assert_eq!((view.model.as_deref(), view.effort), (Some("main"), Some(Effort::High)));
    let log = world.log(session).await;
    assert!(matches!(&log.last().unwrap().event, Event::ModelChosen { name, .. } if name == "Admin"));

    let body = |model: &str, effort| CreateSession {
        repository: row.name.clone(),
        prompt: None,
        attachments: vec![],
        title: None,
        model: Some(model.into()),
        effort,
        base_branch: None,
        budget: None,
        team_access: Default::default(),
    };
    let made = world.app.create_session(&world.admin, &key("e"), body("plain", Some(Effort::Low))).await;
    assert_eq!(made.unwrap_err().code, ErrorCode::ModelEffortUnknown);
    let made = world.app.create_session(&world.admin, &key("f"), body("main", Some(Effort::Low))).await;
    assert_eq!(made.unwrap().effort, Some(Effort::Low));
}

#[tokio::test]
async fn a_model_without_tools_answers_no_session() {
    let catalog = "[[model]]\nprovider = \"openai\"\nid = \"deaf\"\ncontext_window = 8000\ntools = false";
    let models = ModelSettings { catalog: Catalog::with(catalog).unwrap(), ..ModelSettings::default() };
    let world = World::start_with_models(models).await;
    let view = add(&world, "deaf", "deaf", true).await.unwrap();
    assert!(!view.uses_tools && view.context_window == 8_000);
    let inner = world.inner();
    let choice = ModelChoice { model: Some("deaf".into()), effort: None };
    assert_eq!(inner.check_choice(&choice).await.unwrap_err().code, ErrorCode::ModelWithoutTools);
    let turn = inner.provider_of_turn(&ModelChoice::default()).await;
    assert_eq!(turn.unwrap_err().code, ErrorCode::ModelWithoutTools);
}

#[tokio::test]
async fn the_chain_has_each_model_once_and_passes_over_what_cannot_be_used() {
    let fallback = ["gone", "second", "main", "third", "second"].map(str::to_owned).to_vec();
    let models = ModelSettings { fallback, ..ModelSettings::default() };
    let world = World::start_with_models(models).await;
    for (name, is_default) in [("main", true), ("second", false), ("third", false)] {
        add(&world, name, &format!("model-of-{name}"), is_default).await.unwrap();
    }
    let inner = world.inner();
    let labels = async |name: Option<&str>| {
        let first = inner.provider(name.map(str::to_owned)).await.unwrap();
        let chain = inner.fallbacks_of(&first).await;
        chain.iter().map(|one| one.model().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(labels(None).await, ["openai/model-of-second", "openai/model-of-third"]);
    assert_eq!(labels(Some("second")).await, ["openai/model-of-main", "openai/model-of-third"]);
    let views = world.app.models(&world.admin).await.unwrap();
    let place = |name: &str| views.iter().find(|view| view.name == name).unwrap().fallback;
    assert_eq!((place("second"), place("main"), place("third")), (Some(2), Some(3), Some(4)));
}
