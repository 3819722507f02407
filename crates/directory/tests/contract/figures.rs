//! Figures of what happened.

use crate::{fresh, projection, put, repository, session};
use greenroom_directory::{Fact, Onlooker, Projected, SessionRow, StatisticsQuery, What};
use greenroom_domain::money::Usage;
use greenroom_domain::statistics::{Figures, StatisticsBy, ToolFigures};
use greenroom_domain::{PersonId, RepositoryId, SessionRole, TeamAccess};

fn facts() -> Vec<Fact> {
    let by = PersonId::from_parts(1, 1);
    let usage = Usage { input_tokens: 10, output_tokens: 5, requests: 1, ..Usage::default() };
    let whats = [
        What::Prompted { prompt: "p".into(), by },
        What::TurnStarted { turn: "t".into(), prompt: Some("p".into()) },
        What::ToolStarted { turn: "t".into(), call: "c".into(), tool: "shell".into() },
        What::ToolEnded { call: "c".into(), outcome: "failed", duration_ms: 7 },
        What::TurnEnded { turn: "t".into(), outcome: "completed", usage, duration_ms: 100 },
        What::ChangeMerged { change: "x".into(), by },
    ];
    let day = 24 * 3_600_000;
    whats.into_iter().zip(1..).map(|(what, seq)| Fact { seq, at_ms: day + seq.cast_signed(), what }).collect()
}

#[tokio::test]
async fn figures_count_each_event_once_say_what_they_do_not_know_and_outlive_the_session() {
    let directory = fresh().await;
    let row = session(1, &repository(1, "sample"));
    let whole = projection(&row, 0, facts(), vec![]);
    assert_eq!(directory.project(whole.clone()).await.unwrap(), Projected::Done);
    assert_eq!(directory.project(whole).await.unwrap(), Projected::Moved, "as after a crash");
    directory.remove_session(row.id, 1).await.unwrap();
    let day = 24 * 3_600_000;
    let query = |from_ms, by| StatisticsQuery {
        from_ms,
        until_ms: from_ms + day,
        repository: None,
        person: None,
        by,
        onlooker: Onlooker::All,
    };
    let figures = directory.statistics(query(day, StatisticsBy::Day)).await.unwrap();
    let totals = figures.totals;
    assert_eq!((totals.prompts, totals.turns, totals.completed, totals.failed), (1, 1, 1, 0));
    assert_eq!((totals.tool_calls, totals.tool_failures, totals.changes_merged), (1, 1, 1));
    assert_eq!((totals.people, totals.sessions), (1, 1), "turn and tool are the prompter's");
    assert_eq!((totals.turn_ms, totals.input_tokens), (Some(100), Some(10)));
    assert_eq!((totals.cost_microusd, totals.unpriced_turns), (None, 1), "no price is no zero");
    assert_eq!(figures.groups[0].0, "1970-01-02");
    let tool = ToolFigures { tool: "shell".into(), calls: 1, failures: 1, duration_ms: Some(7) };
    assert_eq!(figures.tools, [tool]);
    let by_person = directory.statistics(query(day, StatisticsBy::Person)).await.unwrap();
    assert_eq!(by_person.groups[0].0, PersonId::from_parts(1, 1).to_string());
    let nothing = directory.statistics(query(0, StatisticsBy::Repository)).await.unwrap();
    assert_eq!(nothing.totals, Figures::default());
    assert_eq!(nothing.groups, []);
}

/// Ada's private session changes nothing in what Ben is told of people, and all in what she and an admin are.
#[tokio::test]
async fn figures_by_person_are_of_what_the_asker_may_see() {
    let directory = fresh().await;
    let (ada, ben) = (PersonId::from_parts(1, 1), PersonId::from_parts(1, 2));
    let sample = repository(1, "sample");
    let day = 24 * 3_600_000;
    let asked = async |person, by, onlooker| {
        let query =
            StatisticsQuery { from_ms: day, until_ms: 2 * day, repository: None, person, by, onlooker };
        directory.statistics(query).await.unwrap()
    };
    let answers = async |onlooker| {
        [
            asked(Some(ada), StatisticsBy::Day, onlooker).await,
            asked(Some(ada), StatisticsBy::Repository, onlooker).await,
            asked(None, StatisticsBy::Person, onlooker).await,
        ]
    };
    directory.project(projection(&session(1, &sample), 0, facts(), vec![])).await.unwrap();
    let before = answers(Onlooker::Person(ben)).await;
    assert_eq!(before[0].totals.prompts, 1, "what everyone may see is told");
    let private = SessionRow { team_access: TeamAccess::None, participants: vec![], ..session(2, &sample) };
    directory.project(projection(&private, 0, facts(), vec![])).await.unwrap();
    assert_eq!(answers(Onlooker::Person(ben)).await, before);
    for (onlooker, prompts) in [(Onlooker::All, 2), (Onlooker::Person(ada), 2)] {
        let all = answers(onlooker).await;
        assert_eq!(all.map(|answer| answer.totals.prompts), [prompts; 3], "{onlooker:?}");
    }
    let day_of_all = asked(None, StatisticsBy::Day, Onlooker::Person(ben)).await;
    assert_eq!(day_of_all.totals.prompts, 2, "sums of everyone name nobody");
    let invited = SessionRow {
        participants: vec![(ben, SessionRole::Viewer)],
        head_seq: private.head_seq + 1,
        ..private
    };
    put(&directory, invited).await;
    assert_eq!(answers(Onlooker::Person(ben)).await[0].totals.prompts, 2);
}

#[tokio::test]
async fn tokens_that_a_provider_does_not_count_are_not_known_and_a_turn_without_a_request_used_none() {
    let directory = fresh().await;
    let row = session(1, &repository(1, "sample"));
    let mut all = facts();
    let end = |fact: &mut Fact, requests| {
        if let What::TurnEnded { usage, .. } = &mut fact.what {
            *usage = Usage { requests, ..Usage::default() };
        }
    };
    all.iter_mut().for_each(|fact| end(fact, 1));
    directory.project(projection(&row, 0, all.clone(), vec![])).await.unwrap();
    let day = 24 * 3_600_000;
    let query = StatisticsQuery {
        from_ms: day,
        until_ms: 2 * day,
        repository: None,
        person: None,
        by: StatisticsBy::Day,
        onlooker: Onlooker::All,
    };
    let totals = directory.statistics(query.clone()).await.unwrap().totals;
    assert_eq!((totals.input_tokens, totals.cost_microusd, totals.unpriced_turns), (None, None, 1));
    all.iter_mut().for_each(|fact| end(fact, 0));
    let second = projection(&session(2, &repository(1, "sample")), 0, all.clone(), vec![]);
    directory.project(second).await.unwrap();
    let totals = directory.statistics(query.clone()).await.unwrap().totals;
    assert_eq!((totals.input_tokens, totals.cost_microusd, totals.unpriced_turns), (None, None, 1));
    let query = StatisticsQuery { repository: Some(RepositoryId::from_parts(1, 2)), ..query };
    directory.project(projection(&session(3, &repository(2, "other")), 0, all, vec![])).await.unwrap();
    let totals = directory.statistics(query).await.unwrap().totals;
    assert_eq!((totals.input_tokens, totals.cost_microusd, totals.unpriced_turns), (Some(0), Some(0), 0));
}
