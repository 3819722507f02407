//! Rooms as viewers meet them, over a whole app.

use crate::testing::{Bounds, World, until};
use crate::{App, FrameStream};
use futures::FutureExt;
use greenroom_domain::{ErrorCode, Person, PersonId, Role, SessionId};
use greenroom_wire::{
    ClientKind, DraftAnswer, Frame, Presence, PresentPerson, ReadPosition, Readers, SessionsFrame, WriteDraft,
};
use std::time::Duration;

struct Place {
    world: World,
    session: SessionId,
    ada: Person,
    ben: Person,
}

impl Place {
    async fn start() -> Self {
        let world = World::start(Bounds::without_pool()).await;
        let row = world.add_repository("sample").await;
        let (ada, ben) = (world.member("ada").await, world.member("ben").await);
        let session = world.session(&ada, &row).await;
        Self { world, session, ada, ben }
    }

    fn app(&self) -> &App {
        &self.world.app
    }

    async fn open(&self, person: &Person, client: ClientKind) -> FrameStream {
        self.app().subscribe(person, self.session, 0, None, client).await.unwrap()
    }

    fn room_count(&self) -> usize {
        self.app().inner.rooms.all().len()
    }
}

fn frame_of(shared: &crate::SharedFrame) -> Frame {
    serde_json::from_slice(shared.written.text()).expect("a frame of the contract")
}

/// The next frame that the choice takes; bounded, so that a test ends.
async fn wait_for<T>(stream: &mut FrameStream, mut choice: impl FnMut(Frame) -> Option<T>) -> T {
    let found = async {
        loop {
            let frame = stream.next().await.expect("it goes on").expect("it is whole");
            if let Some(found) = choice(frame_of(&frame)) {
                return found;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(30), found).await.expect("in time")
}

async fn presence(stream: &mut FrameStream, wanted: impl Fn(&Presence) -> bool) -> Presence {
    wait_for(stream, |frame| match frame {
        Frame::Presence(presence) if wanted(&presence) => Some(presence),
        _ => None,
    })
    .await
}

async fn draft(stream: &mut FrameStream, text: &str) -> DraftAnswer {
    wait_for(stream, |frame| match frame {
        Frame::Draft(answer) if answer.draft.text == text => Some(answer),
        _ => None,
    })
    .await
}

fn names(presence: &Presence) -> Vec<&str> {
    presence.people.iter().map(|one| one.name.as_str()).collect()
}

fn person(n: u128) -> Person {
    Person {
        id: PersonId::from_parts(2, n),
        login: format!("p{n}").parse().unwrap(),
        name: format!("Person {n}"),
        email: "p@test.invalid".into(),
        role: Role::Member,
    }
}

#[tokio::test]
async fn one_person_with_three_connections_is_one_person_and_is_gone_with_the_last() {
    let place = Place::start().await;
    let mut ben = place.open(&place.ben, ClientKind::Slack).await;
    let web = place.open(&place.ada, ClientKind::Web).await;
    let other_web = place.open(&place.ada, ClientKind::Web).await;
    let cli = place.open(&place.ada, ClientKind::Cli).await;
    let seen = presence(&mut ben, |now| now.people.iter().any(|one| one.clients.len() == 2)).await;
    assert_eq!(names(&seen), ["ben", "ada"]);
    assert_eq!(seen.people[1].clients, [ClientKind::Web, ClientKind::Cli]);
    drop((web, cli));
    let seen = presence(&mut ben, |now| now.people.iter().all(|one| one.clients.len() == 1)).await;
    assert_eq!(names(&seen), ["ben", "ada"], "one page is still open");
    drop(other_web);
    presence(&mut ben, |now| names(now) == ["ben"]).await;
    drop(ben);
    assert_eq!(place.room_count(), 0);
}

#[tokio::test]
async fn who_comes_later_is_told_who_is_there_at_once() {
    let place = Place::start().await;
    let mut ada = place.open(&place.ada, ClientKind::Web).await;
    presence(&mut ada, |now| names(now) == ["ada"]).await;
    // A second connection of the same kind changes nothing that is told, and is told all the same.
    let mut again = place.open(&place.ada, ClientKind::Web).await;
    presence(&mut again, |now| names(now) == ["ada"]).await;
}

#[tokio::test]
async fn typing_is_shown_and_passes_by_itself() {
    let place = Place::start().await;
    let mut ada = place.open(&place.ada, ClientKind::Web).await;
    let ben = place.open(&place.ben, ClientKind::Web).await;
    let types = |now: &Presence| now.people.iter().any(|one| one.is_typing);
    place.app().say_typing(&place.ben, place.session, ClientKind::Web, true).await.unwrap();
    assert!(presence(&mut ada, types).await.people.iter().all(|one| one.is_typing == (one.name == "ben")));
    presence(&mut ada, |now| !types(now) && now.people.len() == 2).await;
    // Who types without a stream is here while it lasts.
    drop(ben);
    presence(&mut ada, |now| names(now) == ["ada"]).await;
    place.app().say_typing(&place.ben, place.session, ClientKind::Slack, true).await.unwrap();
    let seen = presence(&mut ada, types).await;
    assert_eq!(seen.people[1].clients, [ClientKind::Slack]);
    place.app().say_typing(&place.ben, place.session, ClientKind::Slack, false).await.unwrap();
    presence(&mut ada, |now| names(now) == ["ada"]).await;
}

#[tokio::test]
async fn a_thousand_viewers_at_once_are_told_of_in_few_words_and_counted() {
    let place = Place::start().await;
    let mut first = place.open(&place.ada, ClientKind::Web).await;
    let inner = &place.app().inner;
    let people: Vec<_> = (1..1000).map(person).collect();
    let enter = |one| inner.enter_room(place.session, one, ClientKind::Web, 1, (vec![], 0));
    let seats: Vec<_> = people.iter().map(enter).collect();
    let mut told = 0;
    let all = wait_for(&mut first, |frame| match frame {
        Frame::Presence(now) => {
            told += 1;
            (now.people.len() as u32 + now.more == 1000).then_some(now)
        }
        _ => None,
    })
    .await;
    assert_eq!((all.people.len(), all.more), (50, 950));
    assert!(told <= 3, "told {told} times");
    // Who types is named, whoever else is here.
    place.app().inner.note_typing(place.session, &people[998], ClientKind::Web, true);
    let seen = presence(&mut first, |now| now.people.iter().any(|one| one.is_typing)).await;
    assert_eq!(seen.people.len(), 50);
    drop(seats);
    presence(&mut first, |now| names(now) == ["ada"] && now.more == 0).await;
}

#[tokio::test]
async fn a_read_position_is_told_and_kept_and_goes_neither_back_nor_beyond_the_log() {
    let place = Place::start().await;
    let ada = place.open(&place.ada, ClientKind::Web).await;
    let mut phone = place.open(&place.ada, ClientKind::Web).await;
    let mut ben = place.open(&place.ben, ClientKind::Web).await;
    let mut list = place.app().follow_sessions(&place.ada, None).await.unwrap();
    let SessionsFrame::Snapshot { reads, .. } = list.next().await.unwrap() else { panic!() };
    assert_eq!(reads, []);
    let at = |seq| ReadPosition { session: place.session, seq };
    let head = ada.head_seq();
    let marked = async |seq| place.app().mark_read(&place.ada, place.session, seq).await.unwrap();
    assert_eq!(marked(u64::MAX).await, at(head));
    assert_eq!(marked(0).await, at(head), "it does not go back");
    wait_for(&mut phone, |frame| (frame == Frame::Read(at(head))).then_some(())).await;
    assert!(matches!(list.next().await.unwrap(), SessionsFrame::Read(read) if read == at(head)));
    let readers = wait_for(&mut ben, |frame| match frame {
        Frame::Readers(Readers { readers, .. }) if !readers.is_empty() => Some(readers),
        _ => None,
    })
    .await;
    assert_eq!((readers.len(), readers[0].name.as_str(), readers[0].seq), (1, "ada", head));
    let kept = async || place.app().read_positions(&place.ada).await.unwrap();
    until("it is written", async || kept().await == [at(head)]).await;
    // The next visit begins with what was read before.
    let mut later = place.open(&place.ada, ClientKind::Cli).await;
    assert_eq!(frame_of(&later.next().await.unwrap().unwrap()), Frame::Read(at(head)));
    // Without anyone there it is written before the answer.
    drop((ada, phone, ben, later));
    assert_eq!(place.app().mark_read(&place.ben, place.session, 1).await.unwrap(), at(1));
    assert_eq!(place.app().read_positions(&place.ben).await.unwrap(), [at(1)]);
}

#[tokio::test]
async fn a_draft_follows_its_person_and_nobody_else_sees_it() {
    let place = Place::start().await;
    let mut laptop = place.open(&place.ada, ClientKind::Web).await;
    let mut phone = place.open(&place.ada, ClientKind::Web).await;
    let mut ben = place.open(&place.ben, ClientKind::Web).await;
    let write = async |text: &str, revision| {
        let body = WriteDraft { text: text.into(), revision };
        place.app().write_draft(&place.ada, Some(place.session), None, body).await.unwrap()
    };
    let first = draft(&mut laptop, "").await.draft.revision;
    let kept = write("half a sen", first).await;
    assert_eq!(draft(&mut phone, "half a sen").await, kept);
    let refused = write("from an older", first).await;
    assert_eq!((refused.is_refused, &refused.draft), (true, &kept.draft));
    // A client that comes later finds it.
    let mut later = place.open(&place.ada, ClientKind::Vscode).await;
    assert_eq!(draft(&mut later, "half a sen").await, kept);
    // Everything that reached the other person until something that surely did.
    place.app().say_typing(&place.ada, place.session, ClientKind::Web, true).await.unwrap();
    wait_for(&mut ben, |frame| match frame {
        Frame::Draft(answer) => {
            assert_eq!(answer.draft.text, "");
            None
        }
        Frame::Presence(now) => now.people.iter().any(|one| one.is_typing).then_some(()),
        _ => None,
    })
    .await;
    assert!(!ben_hears(&mut ben), "nothing more waits for the other person");
    // Sent as a prompt, it is over everywhere.
    place.app().inner.forget_sent_draft(place.ada.id, Some(place.session), None, "another").await;
    place.app().inner.forget_sent_draft(place.ada.id, Some(place.session), None, "half a sen").await;
    assert!(draft(&mut phone, "").await.draft.revision > kept.draft.revision);
    assert_eq!(place.app().draft(&place.ada, Some(place.session), None).await.unwrap().text, "");
}

/// Whether a draft waits for this person.
fn ben_hears(stream: &mut FrameStream) -> bool {
    while let Some(Some(Ok(frame))) = stream.next().now_or_never() {
        if matches!(frame_of(&frame), Frame::Draft(_)) {
            return true;
        }
    }
    false
}

#[tokio::test]
async fn a_draft_for_a_new_session_is_told_beside_the_list() {
    let place = Place::start().await;
    let mut own = place.app().follow_sessions(&place.ada, None).await.unwrap();
    let mut other = place.app().follow_sessions(&place.ben, None).await.unwrap();
    own.next().await.unwrap();
    other.next().await.unwrap();
    let repository = Some("sample".parse().unwrap());
    for repository in [None, repository] {
        let body = WriteDraft { text: "make it".into(), revision: 0 };
        let answer = place.app().write_draft(&place.ada, None, repository, body).await.unwrap();
        // The session that was just made may still be told of.
        let told = loop {
            match own.next().await.unwrap() {
                SessionsFrame::Changed { .. } => {}
                told => break told,
            }
        };
        assert!(matches!(&told, SessionsFrame::Draft(draft) if *draft == answer.draft), "{told:?}");
    }
    while let Some(told) = other.next().now_or_never() {
        let told = told.unwrap();
        assert!(matches!(told, SessionsFrame::Changed { .. }), "{told:?}");
    }
}

#[tokio::test]
async fn drafts_are_bounded_in_size_and_rate_and_a_viewer_has_none() {
    let place = Place::start().await;
    let write = async |by: &Person, text: String| {
        let body = WriteDraft { text, revision: 0 };
        place.app().write_draft(by, None, None, body).await.map_err(|problem| problem.code)
    };
    assert_eq!(write(&place.ada, "x".repeat(256 * 1024 + 1)).await.unwrap_err(), ErrorCode::TooLarge);
    let viewer = Person { role: Role::Viewer, ..place.ben.clone() };
    assert_eq!(write(&viewer, "x".into()).await.unwrap_err(), ErrorCode::NotAllowed);
    let unknown = place.app().draft(&place.ada, Some(SessionId::from_parts(1, 1)), None).await;
    assert_eq!(unknown.unwrap_err().code, ErrorCode::SessionUnknown);
    let mut refused = None;
    for _ in 0..1000 {
        refused = refused.or(write(&place.ada, "x".into()).await.err());
    }
    assert_eq!(refused, Some(ErrorCode::TooManyRequests));
    assert!(write(&place.ben, "x".into()).await.is_ok(), "one person's pace is not another's");
}

#[test]
fn those_who_have_been_here_longest_are_named_first() {
    let mut people = super::people::People::default();
    for n in [3, 1, 2] {
        people.join(&person(n), ClientKind::Web, 100 - n as i64);
    }
    let named = |people: &super::people::People| -> Vec<PresentPerson> { people.presence(2).people };
    assert_eq!(named(&people).iter().map(|one| one.since_ms).collect::<Vec<_>>(), [97, 98]);
    people.leave(person(3).id, ClientKind::Web);
    assert_eq!(named(&people).iter().map(|one| one.since_ms).collect::<Vec<_>>(), [98, 99]);
}

#[test]
fn those_who_came_in_one_millisecond_are_named_as_they_came() {
    let mut people = super::people::People::default();
    for n in [3, 1, 2] {
        people.join(&person(n), ClientKind::Web, 7);
    }
    let order: Vec<_> = people.presence(3).people.into_iter().map(|one| one.person).collect();
    assert_eq!(order, [3, 1, 2].map(|n| person(n).id));
}
