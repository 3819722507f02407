//! Whatever people do to a queue: nothing is lost, answered twice, or overtaken against the rules.

use super::*;
use proptest::collection::vec;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

fn any_delivery() -> impl Strategy<Value = Delivery> {
    prop_oneof![Just(Delivery::Queue), Just(Delivery::Insert)]
}

fn any_command() -> impl Strategy<Value = Command> {
    let id = || (0..12usize).prop_map(prompt_id);
    prop_oneof![
        4 => any_delivery().prop_map(say),
        2 => (id(), "[a-c]{0,2}").prop_map(|(prompt, text)| Command::EditPrompt { prompt, text }),
        2 => (id(), any_delivery()).prop_map(|(prompt, delivery)| Command::SetDelivery { prompt, delivery }),
        4 => (id(), proptest::option::of(id()))
            .prop_map(|(prompt, before)| Command::MovePrompt { prompt, before }),
        1 => id().prop_map(|prompt| Command::WithdrawPrompt { prompt }),
        1 => any::<bool>().prop_map(|hold_queue| Command::Stop { hold_queue }),
        1 => Just(Command::ReleaseQueue {}),
    ]
}

fn any_act() -> impl Strategy<Value = Act> {
    let by = prop_oneof![Just(1u128), Just(2), Just(ADMIN)];
    prop_oneof![
        12 => (any_command(), by).prop_map(|(of, by)| Act::Command { of, by }),
        1 => Just(Act::Step),
        2 => Just(Act::Finish),
    ]
}

/// Pairs of prompts that wait in both, and changed their order.
fn overtaken<'a>(
    before: &'a [QueuedPrompt],
    after: &[QueuedPrompt],
) -> Vec<(&'a QueuedPrompt, &'a QueuedPrompt)> {
    let places: BTreeMap<PromptId, usize> = after.iter().enumerate().map(|(n, q)| (q.prompt, n)).collect();
    let mut pairs = vec![];
    for (n, first) in before.iter().enumerate() {
        for second in &before[n + 1..] {
            if places.get(&second.prompt) < places.get(&first.prompt) && places.contains_key(&second.prompt) {
                pairs.push((first, second));
            }
        }
    }
    pairs
}

/// What an accepted act may have done to the queue, said without the code that did it.
fn is_lawful(before: &[QueuedPrompt], act: &Act, after: &[QueuedPrompt]) -> bool {
    let by = match act {
        Act::Command { by, .. } => Some(PersonId::from_parts(1, *by)),
        _ => None,
    };
    let is_own = |queued: &QueuedPrompt| Some(queued.author.on_behalf_of) == by;
    let is_admin = matches!(act, Act::Command { by: ADMIN, .. });
    let is_moved = |queued: &QueuedPrompt| matches!(act, Act::Command { of: Command::MovePrompt { prompt, .. }, .. } if *prompt == queued.prompt);
    let order = overtaken(before, after).into_iter().all(|(first, second)| {
        let went_back = is_moved(first) && (is_own(first) || is_admin);
        let went_ahead = is_moved(second) && ((is_own(first) && is_own(second)) || is_admin);
        went_back || went_ahead
    });
    let kept =
        before.iter().filter_map(|old| Some((old, after.iter().find(|new| new.prompt == old.prompt)?)));
    order
        && kept.into_iter().all(|(old, new)| {
            old.author == new.author
                && (old.text == new.text || is_own(old))
                && (old.delivery == new.delivery || is_own(old) || is_admin)
        })
}

proptest! {
    #[test]
    fn nothing_is_lost_answered_twice_or_overtaken_against_the_rules(acts in vec(any_act(), 1..60)) {
        let mut play = Play::default();
        for act in &acts {
            let before = play.state.clone();
            let answered = play.answered.len();
            let withdrawn = play.withdrawn.len();
            if play.act(act).is_err() {
                prop_assert_eq!(&play.state, &before, "a refusal changes nothing");
                continue;
            }
            prop_assert!(is_lawful(&before.queue, act, &play.state.queue), "{:?}: {:?}", act, before.queue);

            let waiting: Vec<PromptId> = play.state.queue.iter().map(|queued| queued.prompt).collect();
            let everything: Vec<PromptId> = [waiting.clone(), play.answered.clone(), play.withdrawn.clone()].concat();
            let distinct: BTreeSet<PromptId> = everything.iter().copied().collect();
            prop_assert_eq!(distinct.len(), everything.len(), "each prompt is in one place");
            prop_assert_eq!(distinct, play.accepted.iter().copied().collect::<BTreeSet<_>>());

            let taken = &play.answered[answered..];
            for prompt in taken {
                let was = before.queue.iter().find(|queued| queued.prompt == *prompt);
                let is_release = matches!(act, Act::Command { of: Command::ReleaseQueue {}, .. });
                prop_assert!(was.is_none_or(|was| !was.is_held || is_release), "held: {:?}", prompt);
            }
            if let (Act::Finish, [next]) = (act, taken) {
                let first = before.queue.iter().find(|queued| !queued.is_held).map(|queued| queued.prompt);
                prop_assert_eq!(Some(*next), first, "first come, first answered");
            }
            for prompt in &play.withdrawn[withdrawn..] {
                let Act::Command { by, .. } = act else { unreachable!("only a command withdraws") };
                let was = before.queue.iter().find(|queued| queued.prompt == *prompt).unwrap();
                prop_assert!(*by == ADMIN || was.author.on_behalf_of == PersonId::from_parts(1, *by));
            }
            let is_idle = play.state.running.is_none();
            prop_assert!(!is_idle || play.state.queue.iter().all(|queued| queued.is_held), "nothing waits for nothing");
            prop_assert!(waiting.len() <= crate::command::QUEUE_LIMIT);
        }
        let mut replayed = SessionState::default();
        play.log.iter().for_each(|entry| drop(replayed.step(entry)));
        prop_assert_eq!(replayed, play.state, "the log says it all");
    }
}
