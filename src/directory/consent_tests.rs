//! Who hears whose address: what a dial brings with every kind of consent, and how consent is asked for and given.

use std::time::Duration;

use tokio::time::timeout;

use super::*;
use crate::wire::catalog::{Entry, EntryKind, Scope};
use crate::wire::ids::{DialId, FileDigest, FileName, FileSize};
use crate::wire::limits::{DIALS_PER_MINUTE, QUESTIONS_PER_MINUTE};
use crate::wire::rendezvous::{Allowance, DialAnnounced, DialGranted, Direct, Grant, WhyRelayed};

/// An address that alice and bob name as their own.
const PRIVATE: &str = "10.0.0.7:4433";

/// Two people who are online, and a third.
struct Three {
    world: World,
    alice: Client,
    bob: Client,
    carol: Client,
}

impl Three {
    async fn start() -> Self {
        let world = World::start();
        let bob = world.registered("bob", LoginKind::Resident).await;
        let alice = world.registered("alice", ERRAND).await;
        let carol = world.registered("carol", ERRAND).await;
        Self { world, alice, bob, carol }
    }

    /// Alice dials bob, who is reachable at the private address too.
    fn dial(&self, purpose: Purpose, relay: bool) -> DirectoryRequest {
        let candidates = Some(vec![PRIVATE.parse().unwrap()]);
        DirectoryRequest::Dial(DialRequest {
            to: name("bob"),
            key: self.bob.identity.public(),
            purpose,
            candidates,
            relay,
        })
    }

    /// What both are told when bob takes the dial with these candidates.
    async fn dialled(&self, purpose: Purpose, candidates: Option<Vec<SocketAddr>>) -> (DialAnnounced, DirectoryAnswer) {
        let answer = Ok(PushReply::Candidates(candidates));
        let (pushed, answered) = tokio::join!(self.bob.pushed(answer), self.alice.ask(self.dial(purpose, false)));
        let DirectoryPush::Dial(announced) = pushed else { panic!("{pushed:?} is no dial") };
        (announced, answered)
    }

    /// A dial that bob takes, and by which both hear of each other.
    async fn is_direct(&self, purpose: Purpose) -> DialId {
        let (announced, answered) = self.dialled(purpose, Some(Vec::new())).await;
        let Ok(DirectoryReply::DialGranted(granted)) = answered else { panic!("{answered:?}") };
        let own: SocketAddr = PRIVATE.parse().unwrap();
        assert_eq!(announced.direct.candidates(), [self.alice.endpoint.local_address().unwrap(), own]);
        assert_eq!(granted.direct.candidates(), [self.bob.endpoint.local_address().unwrap()]);
        assert_eq!(announced.dial, granted.dial);
        granted.dial
    }

    async fn is_refused(&self, purpose: Purpose) {
        assert_eq!(self.alice.ask(self.dial(purpose, false)).await, Err(Refusal::NoConsent));
    }

    async fn bob_says(&self, request: DirectoryRequest) {
        assert_eq!(self.bob.ask(request).await, Ok(DirectoryReply::Done));
    }

    async fn stop(self) {
        self.world.stop().await;
    }
}

fn allow(to: &str, allowance: Allowance) -> DirectoryRequest {
    DirectoryRequest::Allow(Grant { to: name(to), allowance })
}

fn deny(to: &str) -> DirectoryRequest {
    DirectoryRequest::Deny { to: name(to) }
}

fn ask(to: &str) -> DirectoryRequest {
    DirectoryRequest::AskConsent { to: name(to) }
}

fn answered(by: &str, allowed: bool) -> DirectoryPush {
    DirectoryPush::ConsentAnswered { by: name(by), allowed }
}

fn published(file: &str, digest: u8, hides_address: bool) -> (DirectoryRequest, Purpose) {
    let digest = FileDigest::from_bytes([digest; 32]);
    let entry = Entry {
        name: FileName::parse(file).unwrap(),
        size: FileSize::try_from(5).unwrap(),
        digest,
        kind: EntryKind::File,
        scope: Scope::Everyone,
        hides_address,
    };
    (DirectoryRequest::Publish(entry), Purpose::Fetch { digest })
}

#[tokio::test]
async fn a_grant_holds_as_long_as_it_says_and_once_is_once() {
    let three = Three::start().await;
    three.is_refused(Purpose::Talk).await;
    three.bob_says(allow("alice", Allowance::Once)).await;
    three.is_direct(Purpose::Talk).await;
    three.is_refused(Purpose::Talk).await;
    three.bob_says(allow("alice", Allowance::Always)).await;
    three.is_direct(Purpose::Talk).await;
    three.is_direct(Purpose::Talk).await;
    three.bob_says(deny("alice")).await;
    three.is_refused(Purpose::Talk).await;
    three.bob_says(deny("alice")).await;
    three.bob_says(allow("alice", Allowance::Until(now_millis().plus_millis(3_600_000)))).await;
    three.is_direct(Purpose::Talk).await;
    three.bob_says(allow("alice", Allowance::Until(now_millis()))).await;
    three.is_refused(Purpose::Talk).await;
    three.stop().await;
}

#[tokio::test]
async fn what_was_allowed_once_is_left_when_no_address_was_told() {
    let three = Three::start().await;
    three.bob_says(allow("alice", Allowance::Once)).await;
    let (_, answered) = three.dialled(Purpose::Talk, None).await;
    assert_eq!(answered, Err(Refusal::NoConsent), "there is no relay to fall back to");
    three.is_direct(Purpose::Talk).await;
    three.stop().await;
}

#[tokio::test]
async fn a_published_file_may_be_fetched_from_its_owner_unless_it_hides() {
    let three = Three::start().await;
    let (open, fetch_open) = published("open", 1, false);
    let (hidden, fetch_hidden) = published("hidden", 2, true);
    let (again, _) = published("open, once more", 1, true);
    three.bob_says(open).await;
    three.bob_says(hidden).await;
    three.bob_says(allow("alice", Allowance::Once)).await;
    three.is_direct(fetch_open).await;
    // By the grant alone bob would learn where alice is, who has asked for a file and for nothing else.
    three.is_refused(fetch_hidden).await;
    assert_eq!(three.alice.ask(allow("bob", Allowance::Once)).await, Ok(DirectoryReply::Done));
    three.is_direct(fetch_hidden).await; // by both grants, which are used up by it and were not before
    three.is_refused(fetch_hidden).await;
    three.is_refused(Purpose::Talk).await;
    three.is_refused(published("nothing", 3, false).1).await;
    three.bob_says(again).await;
    three.is_refused(fetch_open).await;
    three.stop().await;
}

#[tokio::test]
async fn without_consent_no_frame_has_an_address() {
    let three = Three::start().await;
    let is_secret = |frame: String| {
        let at = [&three.alice, &three.bob].map(|client| client.endpoint.local_address().unwrap().to_string());
        assert!(!frame.contains(PRIVATE) && !at.iter().any(|at| frame.contains(at)), "{frame}");
    };
    let hiding = |relay| {
        let (to, key) = (name("bob"), three.bob.identity.public());
        DirectoryRequest::Dial(DialRequest { to, key, purpose: Purpose::Talk, candidates: None, relay })
    };
    let asked_to_relay =
        [(three.dial(Purpose::Talk, true), WhyRelayed::NoConsent), (hiding(true), WhyRelayed::DiallerHides)];
    for (dial, why) in asked_to_relay {
        let answer = Ok(PushReply::Candidates(Some(vec![PRIVATE.parse().unwrap()])));
        let mut asked = std::pin::pin!(three.alice.ask(dial));
        let told = tokio::select! {
            refused = &mut asked => (None, refused),
            pushed = three.bob.pushed(answer) => (Some(pushed), asked.await),
        };
        is_secret(format!("{told:?}"));
        match told {
            (None, refused) => assert_eq!(refused, Err(Refusal::RelayFull), "without room nothing is announced"),
            (Some(DirectoryPush::Dial(announced)), Ok(DirectoryReply::DialGranted(granted))) => {
                assert_eq!((announced.direct, granted.direct), (Direct::Not(why), Direct::Not(why)));
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(three.alice.ask(hiding(false)).await, Err(Refusal::NoConsent));
    three.is_refused(Purpose::Talk).await;
    // And when bob hides although he has allowed it, alice learns nothing.
    three.bob_says(allow("alice", Allowance::Always)).await;
    let (_, answered) = three.dialled(Purpose::Talk, None).await;
    is_secret(format!("{answered:?}"));
    three.stop().await;
}

#[tokio::test]
async fn only_the_account_itself_writes_its_grants() {
    let three = Three::start().await;
    // Carol and alice can write in their own names only: none of it lets alice dial bob.
    for client in [&three.carol, &three.alice] {
        assert_eq!(client.ask(allow("bob", Allowance::Always)).await, Ok(DirectoryReply::Done));
    }
    assert_eq!(three.carol.ask(allow("alice", Allowance::Always)).await, Ok(DirectoryReply::Done));
    assert_eq!(three.alice.ask(allow("alice", Allowance::Always)).await, Err(Refusal::NotAccepted));
    assert_eq!(three.alice.ask(allow("nobody2", Allowance::Always)).await, Err(Refusal::UnknownName));
    three.is_refused(Purpose::Talk).await;
    three.bob_says(allow("alice", Allowance::Always)).await;
    assert_eq!(three.carol.ask(deny("alice")).await, Ok(DirectoryReply::Done), "which takes back only what is hers");
    three.is_direct(Purpose::Talk).await;
    let grants =
        DirectoryReply::Grants { grants: vec![Grant { to: name("alice"), allowance: Allowance::Always }], more: false };
    assert_eq!(three.bob.ask(DirectoryRequest::Grants { after: None }).await, Ok(grants));
    three.stop().await;
}

#[tokio::test]
async fn who_asks_is_told_the_answer_once() {
    let three = Three::start().await;
    let Three { alice, bob, .. } = &three;
    let asked = DirectoryPush::ConsentAsked { from: name("alice"), key: alice.identity.public() };
    for (answer, allowed) in [(deny("alice"), false), (allow("alice", Allowance::Once), true)] {
        let (pushed, done) = tokio::join!(bob.pushed(Ok(PushReply::Taken)), alice.ask(ask("bob")));
        assert_eq!((pushed, done), (asked.clone(), Ok(DirectoryReply::Done)));
        let (told, done) = tokio::join!(alice.pushed(Ok(PushReply::Taken)), bob.ask(answer));
        assert_eq!((told, done), (answered("bob", allowed), Ok(DirectoryReply::Done)));
    }
    // Nobody has asked any more: what is said now is told to nobody. The next that alice hears is the answer to her question.
    three.bob_says(deny("alice")).await;
    three.bob_says(allow("alice", Allowance::Always)).await;
    let (told, done) = tokio::join!(alice.pushed(Ok(PushReply::Taken)), alice.ask(ask("bob")));
    assert_eq!((told, done), (answered("bob", true), Ok(DirectoryReply::Done)), "bob is not asked again");
    assert_eq!(alice.ask(ask("nobody2")).await, Err(Refusal::UnknownName));
    assert_eq!(alice.ask(ask("alice")).await, Err(Refusal::NotAccepted));
    assert_eq!(alice.ask(ask("carol")).await, Err(Refusal::Offline), "an errand shows nothing to anybody");
    three.stop().await;
}

#[tokio::test]
async fn who_dials_and_asks_too_often_has_to_wait() {
    let three = Three::start().await;
    for _ in 0..DIALS_PER_MINUTE {
        three.is_refused(Purpose::Talk).await;
    }
    // The bucket fills meanwhile, but far more slowly than it is asked.
    let mut refused = Err(Refusal::NotAccepted);
    for _ in 0..DIALS_PER_MINUTE {
        refused = three.alice.ask(three.dial(Purpose::Talk, false)).await;
        if matches!(refused, Err(Refusal::TooOften { .. })) {
            break;
        }
    }
    assert_eq!(refused, Err(Refusal::TooOften { seconds: 1 }));
    for _ in 0..QUESTIONS_PER_MINUTE {
        assert_eq!(three.alice.ask(ask("nobody2")).await, Err(Refusal::UnknownName));
    }
    let refused = three.alice.ask(ask("bob")).await;
    assert!(matches!(refused, Err(Refusal::TooOften { seconds: 1..=6 })), "{refused:?}");
    assert_eq!(three.carol.ask(ask("nobody2")).await, Err(Refusal::UnknownName), "others do not");
    three.stop().await;
}

#[tokio::test]
async fn the_asker_alone_tells_the_taker_that_it_has_opened() {
    let three = Three::start().await;
    three.bob_says(allow("alice", Allowance::Always)).await;
    let dial = three.is_direct(Purpose::Talk).await;
    let opened = DirectoryRequest::Opened { dial };
    assert_eq!(three.carol.ask(opened.clone()).await, Err(Refusal::NotAccepted));
    assert_eq!(three.bob.ask(opened.clone()).await, Err(Refusal::NotAccepted));
    let other = three.world.again(&three.alice).await;
    other.log_in(other.login("alice", ERRAND, None)).await.unwrap();
    assert_eq!(other.ask(opened.clone()).await, Err(Refusal::NotAccepted), "it is another session");
    let (told, done) = tokio::join!(three.bob.pushed(Ok(PushReply::Taken)), three.alice.ask(opened.clone()));
    assert_eq!((told, done), (DirectoryPush::Opened { dial }, Ok(DirectoryReply::Done)));
    assert_eq!(three.alice.ask(opened).await, Err(Refusal::NotAccepted), "once is enough");
    three.stop().await;
}

#[tokio::test]
async fn of_several_errands_the_first_that_takes_a_dial_has_it() {
    let world = World::start();
    let bob = world.registered("bob", ERRAND).await;
    let other = world.again(&bob).await;
    other.log_in(other.login("bob", ERRAND, None)).await.unwrap();
    let alice = world.registered("alice", ERRAND).await;
    assert_eq!(bob.ask(allow("alice", Allowance::Once)).await, Ok(DirectoryReply::Done));
    let (to, key) = (name("bob"), bob.identity.public());
    let dial = DialRequest { to, key, purpose: Purpose::Talk, candidates: Some(Vec::new()), relay: false };
    let (_, _, answered) = tokio::join!(
        bob.pushed(Err(Refusal::NotAccepted)),
        other.pushed(Ok(PushReply::Candidates(Some(Vec::new())))),
        alice.ask(DirectoryRequest::Dial(dial))
    );
    let Ok(DirectoryReply::DialGranted(DialGranted { dial, direct, .. })) = answered else { panic!("{answered:?}") };
    assert_eq!(direct, Direct::Candidates(vec![other.endpoint.local_address().unwrap()]));
    let (told, _) = tokio::join!(other.pushed(Ok(PushReply::Taken)), alice.ask(DirectoryRequest::Opened { dial }));
    assert_eq!(told, DirectoryPush::Opened { dial });
    world.stop().await;
}

#[tokio::test]
async fn a_dial_that_comes_to_nothing_or_goes_to_another_errand_holds_no_port_of_the_relay() {
    let three = Three::start().await;
    let Three { world, alice, bob, .. } = &three;
    let sessions = || world.shared.relay.report();
    let dial = || alice.ask(three.dial(Purpose::Talk, true));
    let (pushed, answered) = tokio::join!(bob.pushed(Err(Refusal::NotAccepted)), dial());
    let DirectoryPush::Dial(DialAnnounced { relay: Some(_), .. }) = pushed else { panic!("{pushed:?} has no leg") };
    assert_eq!(answered, Err(Refusal::NotAccepted));
    assert_eq!((sessions().0.opened, sessions().1.len()), (1, 0));

    let to_errands = DialRequest {
        to: name("carol"),
        key: three.carol.identity.public(),
        purpose: Purpose::Talk,
        candidates: None,
        relay: true,
    };
    let other = world.again(&three.carol).await;
    other.log_in(other.login("carol", ERRAND, None)).await.unwrap();
    let (_, answered) = tokio::join!(
        three.carol.pushed(Ok(PushReply::Candidates(None))),
        alice.ask(DirectoryRequest::Dial(to_errands))
    );
    let Ok(DirectoryReply::DialGranted(DialGranted { relay: Some(leg), .. })) = answered else {
        panic!("{answered:?}")
    };
    let left = async {
        while sessions().1.len() > 1 {
            tokio::task::yield_now().await;
        }
    };
    // Well before the relay itself would give up on it.
    timeout(Duration::from_secs(10), left).await.expect("the errand that did not answer holds no port");
    assert_eq!((sessions().0.opened, sessions().0.expired), (3, 0));
    assert_eq!(sessions().1[0].port, leg.port, "the one that was taken is there");
    three.stop().await;
}
