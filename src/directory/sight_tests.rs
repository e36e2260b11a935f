//! Whoever is blocked learns nothing: drawn stories of three people, each lived twice at a real directory. In one world sam
//! blocks vera and goes on with his life; in its twin he shows himself to his friends only, goes away, and never comes
//! again. What vera is answered and pushed is the same in both. Only what she says to everyone is not tried: that somebody
//! does not hear it is told, and not who.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::timeout;

use super::*;
use crate::directory::chance::Chance;
use crate::wire::catalog::{Entry, EntryKind, Query, Scope};
use crate::wire::ids::{DialId, FileDigest, FileName, FileSize, Pattern};
use crate::wire::people::{Audience, FriendState, Presence};

/// Stories, and what happens in each before and after the block.
const STORIES: u64 = 16;
const BEFORE: usize = 25;
const AFTER: usize = 45;

/// Something that one of them does: which, and a number that sets it apart.
#[derive(Debug, Clone, Copy)]
enum Act {
    Vera(usize, u8),
    Sam(usize, u8),
    Walt(usize, u8),
}

/// How sam keeps vera out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sam {
    Blocks,
    HidesAndGoes,
}

/// What vera has seen.
#[derive(Debug, Default, PartialEq, Eq)]
struct Seen {
    answers: Vec<String>,
    /// In order, as far as one came after the other: what is pushed at once, and what waited in her mailbox.
    news: Vec<String>,
    returned: Vec<String>,
    receipts: Vec<String>,
    messages: Vec<String>,
    /// How sam is, as she is told.
    presence: Vec<Presence>,
}

/// One person, who answers what is pushed.
struct Present {
    client: Client,
    pushes: watch::Receiver<Vec<DirectoryPush>>,
    answering: JoinSet<()>,
}

impl Present {
    /// `takes`: whether messages are taken, with a receipt, or left where they are.
    fn new(client: Client, takes: bool) -> Self {
        let (seen, pushes) = watch::channel(Vec::new());
        let (connection, identity) = (client.connection.clone(), IdentityKey::from_seed(client.identity.seed()));
        let mut answering = JoinSet::new();
        answering.spawn(async move {
            while let Ok(mut stream) = connection.accept_stream().await {
                let Ok(push) = stream.read_frame::<DirectoryPush>().await else { return };
                let answer: PushAnswer = Ok(match &push {
                    DirectoryPush::Delivery(delivery) if takes => {
                        let EnvelopeHeader { sender, id, .. } = delivery.envelope.header;
                        let (by, kind, at) = (identity.public(), ReceiptKind::Delivered, now_millis());
                        let said = Receipt { by, to: sender, id, sequence: 1, highest: 1, kind, at };
                        PushReply::Receipt(Box::new(receipt::sign(&identity, said)))
                    }
                    DirectoryPush::Delivery(_) => PushReply::Left,
                    DirectoryPush::Dial(_) => PushReply::Candidates(Some(Vec::new())),
                    _ => PushReply::Taken,
                });
                seen.send_modify(|seen| seen.push(push));
                if stream.write_frame(&answer).await.is_err() {
                    return;
                }
                stream.finish();
            }
        });
        Self { client, pushes, answering }
    }

    async fn until_pushed(&self, what: impl Fn(&DirectoryPush) -> bool) {
        let mut pushes = self.pushes.clone();
        let came = pushes.wait_for(|pushes| pushes.iter().any(&what));
        drop(timeout(Duration::from_secs(20), came).await.expect("it is pushed").unwrap());
    }
}

/// One of the two worlds.
struct Story {
    world: World,
    sam: Present,
    vera: Present,
    walt: Present,
    marker: Client,
    prekeys: [PrekeyId; 3],
    /// The last dial of vera that sam took.
    dial: DialId,
    digest: FileDigest,
}

fn seeded(byte: u8) -> IdentityKey {
    IdentityKey::from_seed(&[byte; 32])
}

fn entry(text: &str, digest: FileDigest) -> Entry {
    Entry {
        name: FileName::parse(text).unwrap(),
        size: FileSize::try_from(5).unwrap(),
        digest,
        kind: EntryKind::File,
        scope: Scope::Everyone,
        hides_address: false,
    }
}

impl Story {
    async fn begin() -> Self {
        let world = World::start();
        let mut people = Vec::new();
        let mut prekeys = Vec::new();
        for (byte, text) in [(1, "sam"), (2, "vera"), (3, "walt")] {
            let client = world.member(text, LoginKind::Resident, seeded(byte)).await;
            prekeys.push(client.put_prekey(text).await);
            people.push(Present::new(client, text == "vera"));
        }
        let marker = world.member("marker", ERRAND, seeded(4)).await;
        let [walt, vera, sam] = [people.pop(), people.pop(), people.pop()].map(Option::unwrap);
        let prekeys = prekeys.try_into().unwrap();
        let dial = DialId::from_bytes([0; 16]);
        Self { world, sam, vera, walt, marker, prekeys, dial, digest: FileDigest::from_bytes([7; 32]) }
    }

    async fn act(&mut self, act: Act) -> Option<String> {
        match act {
            Act::Vera(kind, number) => Some(self.vera_asks(kind, number).await),
            Act::Sam(14, _) => {
                self.sam_comes_again().await;
                None
            }
            Act::Sam(kind, number) => {
                let request = self.of_sam(kind, number);
                drop(self.sam.client.ask(request).await);
                None
            }
            Act::Walt(kind, number) => {
                let request = self.of_walt(kind, number);
                drop(self.walt.client.ask(request).await);
                None
            }
        }
    }

    async fn sam_comes_again(&mut self) {
        self.sam_goes().await;
        let client = self.world.connect(seeded(1)).await;
        client.log_in(client.login("sam", LoginKind::Resident, None)).await.unwrap();
        self.sam = Present::new(client, false);
    }

    async fn sam_goes(&mut self) {
        self.sam.client.connection.close(CloseCode::Done);
        while self.world.shared.registry.is_online(&name("sam")) {
            tokio::task::yield_now().await;
        }
        self.sam.answering.shutdown().await;
    }

    async fn vera_asks(&mut self, kind: usize, number: u8) -> String {
        let answer = self.vera.client.ask(self.of_vera(kind, number)).await;
        if let Ok(DirectoryReply::DialGranted(granted)) = &answer {
            self.dial = granted.dial;
        }
        match answer {
            // What is drawn, or depends on the clock or the port, is another one in the twin world.
            Ok(DirectoryReply::Identity(identity)) => {
                let (online, accepts, key) = (identity.online, identity.accepts, identity.key);
                format!("identity {key}, prekey {}, online {online}, accepts {accepts}", identity.prekey.is_some())
            }
            Ok(DirectoryReply::DialGranted(_)) => "dial granted".to_owned(),
            Err(Refusal::TooOften { .. }) => "too often".to_owned(),
            other => format!("{other:?}"),
        }
    }

    fn of_vera(&self, kind: usize, number: u8) -> DirectoryRequest {
        let (sam, key) = (name("sam"), self.sam.client.identity.public());
        let dial = |purpose| {
            let candidates = Some(Vec::new());
            DirectoryRequest::Dial(DialRequest { to: sam.clone(), key, purpose, candidates, relay: false })
        };
        let find = |query| DirectoryRequest::Find { query, after: None };
        let id = MessageId::from_bytes([number; 16]);
        match kind {
            0 | 1 => DirectoryRequest::Identify { name: sam },
            2..=4 => self.deliver("sam", 0, &self.vera, number),
            5 => find(Query::Substring(Pattern::parse("").unwrap())),
            6 => find(Query::Owner(sam)),
            7 => find(Query::Digest(self.digest)),
            8 => find(Query::Exact { owner: sam, name: FileName::parse("sams").unwrap() }),
            9 => dial(Purpose::Talk),
            10 => dial(Purpose::Fetch { digest: self.digest }),
            11 => DirectoryRequest::AskConsent { to: sam },
            12 => DirectoryRequest::Allow(Grant { to: sam, allowance: Allowance::Always }),
            13 => DirectoryRequest::Deny { to: sam },
            14 | 15 => DirectoryRequest::Befriend { name: sam },
            16 => DirectoryRequest::Unfriend { name: sam },
            17 => DirectoryRequest::PutOff { name: sam },
            18 => DirectoryRequest::Block { name: sam },
            19 | 20 => DirectoryRequest::Unblock { name: sam },
            21 | 22 => DirectoryRequest::Friends { after: None },
            23 => DirectoryRequest::Blocked { after: None },
            24 => DirectoryRequest::Grants { after: None },
            25 => self.read("sam", &self.vera, &self.sam, number),
            26 => DirectoryRequest::Missing { messages: vec![(sam, id), (name("walt"), id)] },
            27 => DirectoryRequest::SetAudience(Audience::Friends),
            28 => DirectoryRequest::SetAudience(Audience::Everyone),
            29 => DirectoryRequest::Opened { dial: self.dial },
            30 => self.deliver("walt", 2, &self.vera, number),
            31 => DirectoryRequest::Who { recent: true, pattern: None, after: None },
            32 => DirectoryRequest::Who { recent: false, pattern: Some(Pattern::parse("sa").unwrap()), after: None },
            33 => DirectoryRequest::Watch { names: vec![sam] },
            34 => DirectoryRequest::Watch { names: Vec::new() },
            _ => DirectoryRequest::Identify { name: name("walt") },
        }
    }

    fn of_sam(&self, kind: usize, number: u8) -> DirectoryRequest {
        let vera = name("vera");
        match kind {
            0 | 1 => DirectoryRequest::Befriend { name: vera },
            2 => DirectoryRequest::Unfriend { name: vera },
            3 => DirectoryRequest::PutOff { name: vera },
            4 => DirectoryRequest::Allow(Grant { to: vera, allowance: Allowance::Always }),
            5 => DirectoryRequest::Deny { to: vera },
            6 => self.deliver("vera", 1, &self.sam, number),
            7 => DirectoryRequest::Publish(entry("sams", self.digest)),
            8 => DirectoryRequest::Unpublish { name: FileName::parse("sams").unwrap() },
            9 => DirectoryRequest::SetAudience(Audience::Friends),
            10 => DirectoryRequest::SetAudience(Audience::Everyone),
            11 => self.read("vera", &self.sam, &self.vera, number),
            12 => DirectoryRequest::AskConsent { to: vera },
            13 => DirectoryRequest::Dial(DialRequest {
                to: vera,
                key: self.vera.client.identity.public(),
                purpose: Purpose::Talk,
                candidates: Some(Vec::new()),
                relay: false,
            }),
            15 => DirectoryRequest::Befriend { name: name("walt") },
            16 => DirectoryRequest::Block { name: name("walt") },
            17 => DirectoryRequest::Unblock { name: name("walt") },
            18 => {
                let secret = PrekeySecret::generate(&mut OsRandom);
                let signed = secret.publish(&seeded(1), &name("sam"), now_millis().plus_millis(60_000));
                DirectoryRequest::PutPrekey(Box::new(signed))
            }
            19 => DirectoryRequest::SetPresence(Presence::Away),
            20 => DirectoryRequest::SetPresence(Presence::Online),
            _ => DirectoryRequest::Identify { name: vera },
        }
    }

    fn of_walt(&self, kind: usize, number: u8) -> DirectoryRequest {
        match kind {
            0 | 1 => self.deliver("vera", 1, &self.walt, number),
            2 => DirectoryRequest::Befriend { name: name("vera") },
            3 => DirectoryRequest::Unfriend { name: name("vera") },
            4 => DirectoryRequest::Publish(entry("walts", self.digest)),
            5 => DirectoryRequest::Befriend { name: name("sam") },
            6 => self.deliver("sam", 0, &self.walt, number),
            7 => DirectoryRequest::AskConsent { to: name("vera") },
            _ => self.read("vera", &self.walt, &self.vera, number),
        }
    }

    fn deliver(&self, to: &str, place: usize, from: &Present, number: u8) -> DirectoryRequest {
        let recipient = seeded(u8::try_from(place + 1).unwrap()).public();
        let envelope = envelope(&from.client, recipient, self.prekeys[place], number);
        DirectoryRequest::Deliver { to: name(to), envelope: Box::new(envelope) }
    }

    fn read(&self, to: &str, from: &Present, sender: &Present, number: u8) -> DirectoryRequest {
        let (by, to_key) = (from.client.identity.public(), sender.client.identity.public());
        let (id, kind) = (MessageId::from_bytes([number; 16]), ReceiptKind::Read);
        let said = Receipt { by, to: to_key, id, sequence: 1, highest: 1, kind, at: now_millis() };
        let receipts = vec![receipt::sign(&from.client.identity, said)];
        DirectoryRequest::Receipts { to: name(to), receipts }
    }

    /// Sam keeps vera out, one way or the other.
    async fn keeps_out(&mut self, sam: Sam) {
        let vera = name("vera");
        match sam {
            Sam::Blocks => drop(self.sam.client.ask(DirectoryRequest::Block { name: vera }).await.unwrap()),
            Sam::HidesAndGoes => {
                let bond = self.world.shared.store.bond(&name("sam"), &vera).await.unwrap();
                match bond.state() {
                    Some(FriendState::Friends | FriendState::Asked) => {
                        self.sam.client.ask(DirectoryRequest::Unfriend { name: vera }).await.unwrap();
                    }
                    Some(FriendState::AsksUs) | None => {}
                }
                self.sam.client.ask(DirectoryRequest::SetAudience(Audience::Friends)).await.unwrap();
                self.sam_goes().await;
            }
        }
    }

    /// Waits until everything has come to vera that is on its way, and begins to look anew.
    async fn settle(&mut self, round: u8) {
        let befriend = DirectoryRequest::Befriend { name: name("vera") };
        let marker = self.marker.identity.public();
        // She may have gone into hiding: then her messages are to be from a friend.
        self.vera.client.ask(DirectoryRequest::SetAudience(Audience::Everyone)).await.unwrap();
        self.marker.ask(befriend).await.unwrap();
        let id = 250 + round;
        let letter = envelope(&self.marker, self.vera.client.identity.public(), self.prekeys[1], id);
        self.marker.deliver("vera", letter).await.unwrap();
        self.vera.until_pushed(|push| matches!(push, DirectoryPush::FriendAsked { key, .. } if *key == marker)).await;
        let is_letter = |push: &DirectoryPush| match push {
            DirectoryPush::Delivery(delivery) => delivery.envelope.header.id == MessageId::from_bytes([id; 16]),
            _ => false,
        };
        self.vera.until_pushed(is_letter).await;
        self.marker.ask(DirectoryRequest::Unfriend { name: name("vera") }).await.unwrap();
        // Presence goes its own way.
        let presence = if round == 1 { Presence::Away } else { Presence::Busy };
        self.walt.client.ask(DirectoryRequest::SetPresence(presence)).await.unwrap();
        let told = DirectoryPush::Presence { name: name("walt"), presence };
        self.vera.until_pushed(|push| *push == told).await;
    }

    /// What was pushed to vera after the first so many, without what came from the marker.
    fn pushed(&self, after: usize) -> Seen {
        let mut seen = Seen::default();
        for push in &self.vera.pushes.borrow()[after..] {
            match push {
                DirectoryPush::Delivery(delivery) if delivery.from != name("marker") => {
                    let header = &delivery.envelope.header;
                    seen.messages.push(format!("{} {}", delivery.from, header.id));
                }
                DirectoryPush::Receipts(receipts) => {
                    seen.receipts
                        .extend(receipts.iter().map(|signed| format!("{} {}", signed.receipt.by, signed.receipt.id)));
                }
                DirectoryPush::Returned { to, id, refusal } => seen.returned.push(format!("{to} {id} {refusal}")),
                DirectoryPush::FriendAsked { from, .. } if *from != name("marker") => {
                    seen.news.push(format!("{push:?}"))
                }
                DirectoryPush::FriendAnswered { .. }
                | DirectoryPush::ConsentAsked { .. }
                | DirectoryPush::ConsentAnswered { .. }
                | DirectoryPush::KeyChanged { .. }
                | DirectoryPush::KeyRequested { .. } => seen.news.push(format!("{push:?}")),
                DirectoryPush::Dial(announced) => seen.news.push(format!("dial of {}", announced.from)),
                DirectoryPush::Opened { .. } => seen.news.push("opened".to_owned()),
                DirectoryPush::Announcement { from, .. } => seen.news.push(format!("announcement of {from}")),
                // How often a session hears that nothing waits depends on how fast it is.
                DirectoryPush::Drained { .. } | DirectoryPush::PeopleChanged => {}
                DirectoryPush::Presence { name: who, presence } if *who == name("sam") => seen.presence.push(*presence),
                DirectoryPush::Presence { .. } => {}
                DirectoryPush::Delivery(_) | DirectoryPush::FriendAsked { .. } => {}
            }
        }
        seen
    }
}

/// Lives one world, and says what vera has seen since sam keeps her out.
async fn live(acts: &[Act], sam: Sam) -> Seen {
    let mut story = Story::begin().await;
    for act in &acts[..BEFORE] {
        story.act(*act).await;
    }
    story.settle(1).await;
    let before = story.vera.pushes.borrow().len();
    story.keeps_out(sam).await;
    let mut answers = Vec::new();
    for act in &acts[BEFORE..] {
        let is_gone = sam == Sam::HidesAndGoes;
        if !(is_gone && matches!(act, Act::Sam(..))) {
            answers.extend(story.act(*act).await);
        }
    }
    story.settle(2).await;
    let seen = Seen { answers, ..story.pushed(before) };
    story.world.stop().await;
    seen
}

fn drawn(seed: u64) -> Vec<Act> {
    let mut chance = Chance::new(seed);
    let mut act = |number: usize| {
        let number = u8::try_from(number + 1).unwrap();
        match chance.below(8) {
            0..=3 => Act::Vera(chance.below(36), number),
            4..=6 => Act::Sam(chance.below(22), number),
            _ => Act::Walt(chance.below(9), number),
        }
    };
    (0..BEFORE + AFTER).map(&mut act).collect()
}

#[tokio::test]
async fn who_is_blocked_sees_the_same_as_if_the_other_had_gone_for_ever() {
    let mut kinds = std::collections::BTreeSet::new();
    for seed in 0..STORIES {
        let acts = drawn(seed);
        let (blocked, twin) = (live(&acts, Sam::Blocks).await, live(&acts, Sam::HidesAndGoes).await);
        assert_eq!(blocked, twin, "seed {seed}: {acts:?}");
        kinds.extend(
            blocked.answers.iter().map(|answer| answer.split(['{', '(', ' ']).next().unwrap_or_default().to_owned()),
        );
        assert!(!blocked.presence.iter().any(|presence| presence.is_online()), "seed {seed}: {:?}", blocked.presence);
        kinds.extend(blocked.presence.iter().map(|_| "presence of sam".to_owned()));
        kinds.extend(blocked.returned.iter().map(|_| "returned".to_owned()));
        kinds.extend(blocked.news.iter().filter(|news| news.contains("\"sam\"")).map(|_| "news of sam".to_owned()));
        assert!(
            !blocked.answers.iter().any(|answer| answer.contains("online true, accepts true")
                && answer.contains(&seeded(1).public().to_string())),
            "seed {seed}"
        );
    }
    for kind in ["identity", "Ok", "returned", "news of sam", "presence of sam"] {
        assert!(kinds.contains(kind), "no story showed this: {kind}, only {kinds:?}");
    }
}
