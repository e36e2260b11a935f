//! Profiles: asked of their owners and of friends of both, honest ones and one that hands on what nobody has signed.

use qchat::clock::now_millis;
use qchat::peer::event::Event;
use qchat::peer::failure::{Failure, FailureKind};
use qchat::peer::handle::{Command, ProfileEdit};
use qchat::peer::rows::{ProfileRow, ProfileSource};
use qchat::seal::identity::{IdentityKey, Label};
use qchat::seal::profile::{self as seal, sign};
use qchat::seal::random::OsRandom;
use qchat::storage::profiles::{self, Checked};
use qchat::transport::connection::Connection;
use qchat::wire::account::LoginKind;
use qchat::wire::codec;
use qchat::wire::directory::{DirectoryPush, DirectoryReply, DirectoryRequest, PushAnswer, PushReply};
use qchat::wire::ids::PeerKey;
use qchat::wire::limits::{FRAME_BYTES_MAX, PICTURE_BYTES_MAX, PROFILE_BYTES_MAX};
use qchat::wire::people::FriendState;
use qchat::wire::profile::{DisplayName, Fields, Profile, ProfileInfo, ProfileReply, ProfileRequest, SignedProfile};
use qchat::wire::refusal::Refusal;
use qchat::wire::rendezvous::{Allowance, Grant};
use qchat::wire::transfer::{PeerRequest, ProfileAnswer};
use serde_bytes::ByteBuf;

use crate::world::{ERRAND, Machine, RawClient, TestDirectory, TestPeer, in_time, name};

/// What somebody says at a version of theirs.
fn version_of(key: &IdentityKey, of: &str, version: u64) -> Profile {
    let display_name = Some(DisplayName::parse(&format!("version {version}")).unwrap());
    Profile { version, display_name, ..Profile::empty(name(of), key.public()) }
}

fn new(signed: SignedProfile) -> Reply {
    Reply::Answer(Ok(ProfileReply::New(Box::new(signed))))
}

/// What somebody answers to a question for a profile.
enum Reply {
    Answer(ProfileAnswer),
    /// Bytes of their own, header and all.
    Bytes(Vec<u8>),
}

/// A friend of alice's who answers as she likes, and bob, whose profile alice wants.
struct Carol {
    client: RawClient,
    bob: IdentityKey,
    link: Option<Connection>,
}

impl Carol {
    async fn beside(directory: &TestDirectory) -> (Self, TestPeer) {
        let alice = TestPeer::join(directory, "alice").await;
        let client = RawClient::registered(directory, "carol", LoginKind::Resident).await;
        let allow = DirectoryRequest::Allow(Grant { to: name("alice"), allowance: Allowance::Always });
        assert_eq!(client.ask(allow).await, Ok(DirectoryReply::Done));
        let bob = RawClient::registered(directory, "bob", ERRAND).await.identity;
        (Self { client, bob, link: None }, alice)
    }

    /// Answers the next question for a profile, and says what it was.
    async fn answers(&mut self, reply: Reply) -> ProfileRequest {
        let link = match &self.link {
            Some(link) => link.clone(),
            None => self.link.insert(self.accept().await).clone(),
        };
        let mut stream = in_time(link.accept_stream()).await.unwrap();
        let PeerRequest::Profile(request) = stream.read_frame().await.unwrap() else {
            panic!("nothing else is asked here")
        };
        match reply {
            Reply::Answer(answer) => stream.answer(&answer).await,
            Reply::Bytes(bytes) => {
                stream.write(bytes.into()).await.unwrap();
                stream.finish();
                stream.wait_sent().await;
            }
        }
        request
    }

    /// Takes the connection that alice makes.
    async fn accept(&self) -> Connection {
        loop {
            tokio::select! {
                connection = self.client.next_connection() => return connection,
                stream = self.client.connection.accept_stream() => {
                    let mut stream = stream.unwrap();
                    let mut answer: PushAnswer = Ok(PushReply::Taken);
                    if let DirectoryPush::Dial(announced) = stream.read_frame().await.unwrap() {
                        answer = self.client.expect(announced);
                    }
                    stream.answer(&answer).await;
                }
            }
        }
    }

    /// Has alice ask her for bob's profile, and answers that.
    async fn is_asked(&mut self, alice: &TestPeer, reply: Reply) -> (ProfileRequest, Result<ProfileRow, Failure>) {
        in_time(async { tokio::join!(self.answers(reply), show(alice, "bob", Some("carol"))) }).await
    }
}

async fn show(peer: &TestPeer, of: &str, via: Option<&str>) -> Result<ProfileRow, Failure> {
    let via = via.map(name);
    let rows = peer.ask(Command::Profile { name: Some(name(of)), via, picture_to: None }).await?;
    Ok(row(&rows))
}

fn row(rows: &[Event]) -> ProfileRow {
    match rows.last() {
        Some(Event::Profile(row)) => (**row).clone(),
        other => panic!("the last row is {other:?}"),
    }
}

/// Says something about oneself.
async fn say(peer: &TestPeer, text: &str) -> u64 {
    let edit = ProfileEdit::Info { text: Some(ProfileInfo::parse(text).unwrap()) };
    row(&peer.ask(Command::EditProfile { edit }).await.unwrap()).version
}

/// Which version lies on a machine.
async fn version_here(machine: &Machine, of: &str, key: PeerKey) -> Option<u64> {
    let held = profiles::held(machine.profile().database(), &name(of), key).await.unwrap();
    held.map(|held| held.profile().version)
}

/// Has somebody accept the friendship that a person's directory says is wanted.
async fn accept(peer: &TestPeer, friend: &str) {
    let rows = peer.ask(Command::Befriend { name: name(friend) }).await.unwrap();
    assert!(matches!(rows[..], [Event::Friend { state: FriendState::Friends, .. }]), "{rows:?}");
}

async fn befriend(one: &TestPeer, other: &TestPeer) {
    one.ask(Command::Befriend { name: other.machine.name().clone() }).await.unwrap();
    accept(other, one.machine.name().as_str()).await;
}

#[tokio::test]
async fn what_a_false_friend_hands_on_is_refused_and_named_and_harms_nothing() {
    let directory = TestDirectory::start();
    let (mut carol, alice) = Carol::beside(&directory).await;
    let key = carol.bob.public();
    let his = |version| sign(&carol.bob, &version_of(&carol.bob, "bob", version));
    let mallory = IdentityKey::generate(&mut OsRandom);
    let unsigned = SignedProfile { signature: sign(&mallory, &version_of(&carol.bob, "bob", 9)).signature, ..his(9) };
    let mut changed = his(9);
    *changed.document.last_mut().unwrap() ^= 1;
    let of_carol = sign(&carol.client.identity, &version_of(&carol.client.identity, "carol", 9));
    let in_his_name = sign(&mallory, &version_of(&mallory, "bob", 9));
    let another = Profile { info: Some(ProfileInfo::parse("another").unwrap()), ..version_of(&carol.bob, "bob", 5) };
    let cut = SignedProfile { document: his(9).document[..40].to_vec(), ..his(9) };
    let long = vec![7; PROFILE_BYTES_MAX + 1];
    let long = SignedProfile { signature: carol.bob.sign(Label::Profile, &long), document: long };
    let with_large_picture = signed_with_picture_of(&carol.bob, PICTURE_BYTES_MAX + 1);
    let frame = codec::encode_frame::<ProfileAnswer>(&Ok(ProfileReply::New(Box::new(his(9))))).unwrap();
    let mut over_long_frame = u32::try_from(FRAME_BYTES_MAX + 1).unwrap().to_le_bytes().to_vec();
    over_long_frame.resize(4_096, 0);

    let five = his(5);
    let older = his(4);
    let (asked, taken) = carol.is_asked(&alice, new(five)).await;
    assert_eq!((asked.known, taken.unwrap().version), (0, 5));
    let cases = [
        (new(unsigned), FailureKind::Authentication, "forged"),
        (new(changed), FailureKind::Integrity, "cannot be read"),
        (new(in_his_name), FailureKind::Authentication, "which is not theirs"),
        (new(of_carol), FailureKind::Integrity, "the profile of carol"),
        (new(older), FailureKind::Integrity, "older, version 4 where 5 is known"),
        (new(sign(&carol.bob, &another)), FailureKind::Integrity, "another one of the same version"),
        (new(cut), FailureKind::Integrity, "cannot be read"),
        (new(long), FailureKind::Integrity, "49153 bytes"),
        (new(with_large_picture), FailureKind::Integrity, "32769"),
        (Reply::Bytes(frame[..frame.len() - 1].to_vec()), FailureKind::Integrity, "ended within a frame"),
        (Reply::Bytes(over_long_frame), FailureKind::Integrity, "over the limit"),
        (Reply::Answer(Err(Refusal::NoProfile)), FailureKind::Other, "carol has no profile of bob for you"),
    ];
    for (reply, kind, says) in cases {
        let (asked, refused) = carol.is_asked(&alice, reply).await;
        let refused = refused.unwrap_err();
        assert_eq!((asked.known, refused.kind), (5, kind), "{refused}");
        assert!(refused.message.contains(says) && refused.message.contains("carol"), "{says:?} in {refused}");
        assert_eq!(version_here(&alice.machine, "bob", key).await, Some(5), "{says}");
    }
    let six = sign(&carol.bob, &version_of(&carol.bob, "bob", 6));
    let (_, taken) = carol.is_asked(&alice, new(six)).await;
    let taken = taken.unwrap();
    assert_eq!((taken.version, taken.source, taken.via), (6, ProfileSource::Friend, Some(name("carol"))));
}

/// A document that its owner signed although its picture is too large for any profile.
fn signed_with_picture_of(bob: &IdentityKey, bytes: usize) -> SignedProfile {
    let mut picture = b"\x89PNG\r\n\x1a\n".to_vec();
    picture.resize(bytes, 7);
    let (nothing, fields) = (None::<String>, Fields::default());
    let parts = (name("bob"), bob.public(), 9_u64, &nothing, &nothing, fields, Some(ByteBuf::from(picture)));
    let document = codec::encode(&parts).unwrap();
    let signed = SignedProfile { signature: bob.sign(Label::Profile, &document), document };
    assert!(matches!(seal::open(&signed), Err(seal::ProfileFault::Malformed(_))));
    signed
}

#[tokio::test]
async fn only_news_travels() {
    let directory = TestDirectory::start();
    let (mut carol, alice) = Carol::beside(&directory).await;
    let his = sign(&carol.bob, &version_of(&carol.bob, "bob", 2));
    let (asked, first) = carol.is_asked(&alice, new(his)).await;
    assert_eq!((asked, first.unwrap().news), (ProfileRequest { of: name("bob"), known: 0 }, true));
    let nothing_new: ProfileAnswer = Ok(ProfileReply::NothingNew);
    assert_eq!(codec::encode_frame(&nothing_new).unwrap().len(), 6, "so many bytes say that nothing is new");
    let (asked, again) = carol.is_asked(&alice, Reply::Answer(nothing_new)).await;
    let again = again.unwrap();
    assert_eq!(asked, ProfileRequest { of: name("bob"), known: 2 });
    assert_eq!((again.version, again.news, again.display_name.as_deref()), (2, false, Some("version 2")));
}

#[tokio::test]
async fn a_peer_gives_its_own_profile_to_everybody_and_those_of_others_to_its_friends() {
    let directory = TestDirectory::start();
    let carol = TestPeer::join(&directory, "carol").await;
    let bob = RawClient::registered(&directory, "bob", ERRAND).await.identity;
    let alice = RawClient::registered(&directory, "alice", LoginKind::Resident).await;
    carol.allow("alice").await;
    let link = alice.dial("carol", carol.key()).await;
    let ask = async |of: &str, known| -> ProfileAnswer {
        in_time(link.request(&PeerRequest::Profile(ProfileRequest { of: name(of), known }))).await.unwrap()
    };
    assert_eq!(ask("carol", 0).await, Err(Refusal::NoProfile));
    assert_eq!(say(&carol, "hers").await, 1);
    let Ok(ProfileReply::New(hers)) = ask("carol", 0).await else { panic!("it is news") };
    assert_eq!(seal::open(&hers).unwrap().key, carol.key());
    assert_eq!(ask("carol", 1).await, Ok(ProfileReply::NothingNew));
    assert_eq!(ask("carol", u64::MAX).await, Ok(ProfileReply::NothingNew));

    let database = carol.machine.profile().database();
    let his = sign(&bob, &version_of(&bob, "bob", 3));
    let pinned = Command::Verify { name: name("bob"), mark: false };
    carol.ask(pinned).await.unwrap();
    let found = Checked::open(his.clone()).unwrap();
    profiles::take(database, &name("carol"), (&name("bob"), bob.public()), found, now_millis()).await.unwrap().unwrap();
    assert_eq!(ask("bob", 0).await, Err(Refusal::NoProfile), "alice is no friend");
    let wanted = DirectoryRequest::Befriend { name: name("carol") };
    assert_eq!(alice.ask(wanted).await, Ok(DirectoryReply::Friendship(FriendState::Asked)));
    assert_eq!(ask("bob", 0).await, Err(Refusal::NoProfile), "she wants to be one");
    accept(&carol, "alice").await;
    assert_eq!(ask("bob", 0).await, Ok(ProfileReply::New(Box::new(his))));
    assert_eq!(ask("bob", 3).await, Ok(ProfileReply::NothingNew));
    assert_eq!(ask("nemo", 0).await, Err(Refusal::NoProfile));

    let another_key: Result<usize, qchat::database::DatabaseError> =
        database.run(|sql| Ok(sql.execute("UPDATE contact SET key = zeroblob(32) WHERE name = 'alice'", [])?)).await;
    assert_eq!(another_key.unwrap(), 1);
    assert_eq!(ask("bob", 0).await, Err(Refusal::NoProfile), "a friend is a key, not a name");
}

#[tokio::test]
async fn a_profile_goes_from_its_owner_to_a_friend_and_on_to_theirs() {
    let directory = TestDirectory::start();
    let bob = TestPeer::join(&directory, "bob").await;
    let (alice, carol) = (TestPeer::join(&directory, "alice").await, TestPeer::join(&directory, "carol").await);
    let nothing = show(&carol, "bob", None).await.unwrap_err();
    assert_eq!((nothing.refusal, nothing.kind), (Some(Refusal::NoProfile.number()), FailureKind::Other));
    say(&bob, "one").await;
    // Nobody allowed anybody to see an address, and nobody shares a file: it comes through the relay.
    let seen = show(&carol, "bob", None).await.unwrap();
    assert_eq!(
        (seen.source, seen.news, seen.version, seen.info.as_deref()),
        (ProfileSource::Owner, true, 1, Some("one"))
    );
    assert!(!show(&carol, "bob", None).await.unwrap().news);

    let refused = show(&alice, "bob", Some("carol")).await.unwrap_err();
    assert_eq!(refused.refusal, Some(Refusal::NoProfile.number()));
    befriend(&alice, &carol).await;
    let (key, bob) = (bob.key(), bob.stop().await);
    let handed_on = show(&alice, "bob", Some("carol")).await.unwrap();
    assert_eq!((handed_on.source, handed_on.news, handed_on.key), (ProfileSource::Friend, true, key));
    let rows = alice.ask(Command::Profile { name: Some(name("bob")), via: None, picture_to: None }).await.unwrap();
    assert!(matches!(&rows[0], Event::Note { text } if text.contains("bob: not online")), "{rows:?}");
    assert_eq!((row(&rows).source, row(&rows).version), (ProfileSource::Stored, 1));

    let bob = bob.resident().await;
    assert_eq!(say(&bob, "two").await, 2);
    assert_eq!(show(&alice, "bob", Some("carol")).await.unwrap().version, 1, "as carol has it");
    assert_eq!(show(&alice, "bob", None).await.unwrap().version, 2);
    let behind = show(&alice, "bob", Some("carol")).await.unwrap();
    assert_eq!((behind.version, behind.news), (2, false), "what is older does not come back");
}

/// A disk that was lost or restored from a backup: what friends have seen is newer than what its owner has.
#[tokio::test]
async fn a_friend_gives_our_own_profile_back() {
    let directory = TestDirectory::start();
    let (alice, carol) = (TestPeer::join(&directory, "alice").await, TestPeer::join(&directory, "carol").await);
    for text in ["one", "two"] {
        say(&alice, text).await;
    }
    show(&carol, "alice", None).await.unwrap();
    befriend(&alice, &carol).await;
    let twin = alice.machine.twin();
    drop(alice.stop().await);
    let alice = twin.resident().await;
    assert!(alice.ask(Command::Profile { name: None, via: None, picture_to: None }).await.is_err(), "it was lost");
    assert_eq!(show(&alice, "alice", Some("carol")).await.unwrap().version, 2);
    assert_eq!(say(&alice, "three").await, 3, "and is gone on with");
}
