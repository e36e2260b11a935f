//! People who open and close exclusive conversations over a network that loses and reorders: whatever happens, they
//! agree in the end.

use super::*;

const ALICE: PeerKey = PeerKey::from_bytes([1; 32]);
const BOB: PeerKey = PeerKey::from_bytes([2; 32]);
const CAROL: PeerKey = PeerKey::from_bytes([3; 32]);

/// Numbers from a seed (xorshift64*, Vigna 2016), so that a failure can be repeated.
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        usize::try_from(self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33).unwrap() % end
    }
}

/// What is on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Packet {
    from: PeerKey,
    to: PeerKey,
    what: What,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum What {
    Open,
    /// The answer to an opening.
    Answer {
        agreed: bool,
    },
    Close,
}

/// Some people, and what is on its way between them.
#[derive(Debug, Default)]
struct World {
    people: Vec<(PeerKey, Engagement)>,
    network: Vec<Packet>,
}

impl World {
    fn of(people: &[PeerKey]) -> Self {
        Self { people: people.iter().map(|key| (*key, Engagement::default())).collect(), network: Vec::new() }
    }

    fn person(&mut self, key: PeerKey) -> &mut Engagement {
        self.people.iter_mut().find(|(known, _)| *known == key).map(|(_, engagement)| engagement).unwrap()
    }

    fn with(&mut self, key: PeerKey) -> Option<PeerKey> {
        self.person(key).with()
    }

    fn send(&mut self, from: PeerKey, to: PeerKey, what: What) {
        self.network.push(Packet { from, to, what });
    }

    fn open(&mut self, from: PeerKey, to: PeerKey) {
        if self.person(from).open(to) == Ok(Opening::Ask) {
            self.send(from, to, What::Open);
        }
    }

    fn close(&mut self, from: PeerKey) {
        if let Some(to) = self.person(from).close() {
            self.send(from, to, What::Close);
        }
    }

    fn deliver(&mut self, place: usize) {
        let Packet { from, to, what } = self.network.remove(place);
        match what {
            What::Open => {
                let agreed = self.person(to).take_open(from).is_ok();
                self.send(to, from, What::Answer { agreed });
            }
            What::Answer { agreed } => {
                self.person(to).take_answer(from, agreed);
            }
            What::Close => {
                self.person(to).take_close(from);
            }
        }
    }

    /// Nobody waits for an answer any longer, and whoever gives up says so.
    fn give_up(&mut self, from: PeerKey) {
        if let Stage::Asking(asked) = self.person(from).stage
            && self.person(from).take_answer(asked, false) == Answered::GivenUp
        {
            self.send(from, asked, What::Close);
        }
    }

    /// Somebody asks whether it still holds.
    fn check(&mut self, from: PeerKey, is_heard: bool) {
        let Some(other) = self.with(from) else { return };
        let heard = match is_heard {
            true if self.person(other).holds(from) => Heard::Yes,
            true => Heard::No,
            false => Heard::Silence,
        };
        self.person(from).take_check(other, heard);
    }

    fn step(&mut self, dice: &mut Dice) {
        let keys: Vec<PeerKey> = self.people.iter().map(|(key, _)| *key).collect();
        let one = keys[dice.below(keys.len())];
        let others: Vec<PeerKey> = keys.iter().copied().filter(|key| *key != one).collect();
        match dice.below(12) {
            0..3 => self.open(one, others[dice.below(others.len())]),
            3 => self.close(one),
            4 => self.give_up(one),
            5 => self.check(one, dice.below(3) > 0),
            6 if !self.network.is_empty() => {
                self.network.remove(dice.below(self.network.len()));
            }
            _ if !self.network.is_empty() => self.deliver(dice.below(self.network.len())),
            _ => {}
        }
    }

    /// Lets everything arrive in some order, everybody give up, and everybody ask again until all have heard.
    fn settle(&mut self, dice: &mut Dice) {
        let keys: Vec<PeerKey> = self.people.iter().map(|(key, _)| *key).collect();
        for _ in 0..3 {
            while !self.network.is_empty() {
                self.deliver(dice.below(self.network.len()));
            }
            keys.iter().for_each(|key| self.give_up(*key));
        }
        assert!(self.network.is_empty(), "whoever has given up asks nobody");
        keys.iter().for_each(|key| self.check(*key, true));
        keys.iter().for_each(|key| self.check(*key, true));
    }

    /// Checks that whoever is with somebody is who that person is with, so that nobody is with two.
    fn check_agreement(&mut self, seed: u64) {
        for (key, engagement) in self.people.clone() {
            assert!(!matches!(engagement.stage, Stage::Asking(_)), "seed {seed}: somebody asks for ever");
            if let Some(other) = engagement.with() {
                assert_ne!(other, key, "seed {seed}");
                assert_eq!(self.with(other), Some(key), "seed {seed}: only one side believes in it: {:?}", self.people);
            }
        }
    }
}

#[test]
fn two_and_three_people_agree_in_the_end_whatever_is_lost_and_in_whatever_order() {
    let mut meetings = 0;
    for seed in 1..20_000 {
        let people = if seed % 2 == 0 { &[ALICE, BOB][..] } else { &[ALICE, BOB, CAROL][..] };
        let (mut world, mut dice) = (World::of(people), Dice(seed));
        for _ in 0..dice.below(60) {
            world.step(&mut dice);
        }
        world.settle(&mut dice);
        world.check_agreement(seed);
        meetings += usize::from(people.iter().any(|key| world.with(*key).is_some()));
    }
    assert!(meetings > 2_000, "conversations outlive the noise: {meetings} of 20000");
}

#[test]
fn when_both_open_at_once_they_meet_in_any_order() {
    for seed in 1..500 {
        let (mut world, mut dice) = (World::of(&[ALICE, BOB]), Dice(seed));
        world.open(ALICE, BOB);
        world.open(BOB, ALICE);
        while !world.network.is_empty() {
            world.deliver(dice.below(world.network.len()));
        }
        assert_eq!((world.with(ALICE), world.with(BOB)), (Some(BOB), Some(ALICE)), "seed {seed}");
    }
}

#[test]
fn a_third_person_is_told_that_somebody_is_engaged_and_two_stay_together() {
    for seed in 1..500 {
        let (mut world, mut dice) = (World::of(&[ALICE, BOB, CAROL]), Dice(seed));
        world.open(ALICE, BOB);
        while !world.network.is_empty() {
            world.deliver(0);
        }
        world.open(CAROL, BOB);
        world.open(CAROL, ALICE);
        while !world.network.is_empty() {
            world.deliver(dice.below(world.network.len()));
        }
        assert_eq!((world.with(ALICE), world.with(BOB), world.with(CAROL)), (Some(BOB), Some(ALICE), None));
    }
    assert_eq!(Engagement::default().take_open(ALICE), Ok(true));
    let mut asking = Engagement::default();
    assert_eq!(asking.open(BOB), Ok(Opening::Ask));
    assert_eq!((asking.take_open(CAROL), asking.open(CAROL)), (Err(Engaged), Err(Engaged)));
}

#[test]
fn three_who_ask_in_a_circle_wait_for_nobody() {
    let mut world = World::of(&[ALICE, BOB, CAROL]);
    for (from, to) in [(ALICE, BOB), (BOB, CAROL), (CAROL, ALICE)] {
        world.open(from, to);
    }
    while !world.network.is_empty() {
        world.deliver(0);
    }
    world.check_agreement(0);
    assert_eq!(world.with(ALICE), None);
    world.open(ALICE, BOB);
    world.settle(&mut Dice(1));
    assert_eq!(world.with(BOB), Some(ALICE));
}

#[test]
fn who_is_not_heard_twice_in_a_row_is_gone() {
    let mut with_bob = Engagement::default();
    with_bob.take_open(BOB).unwrap();
    for heard in [Heard::Silence, Heard::Yes, Heard::Silence] {
        assert_eq!(with_bob.take_check(BOB, heard), None);
    }
    assert_eq!(with_bob.take_check(CAROL, Heard::No), None, "it is not with her");
    assert_eq!(with_bob.take_check(BOB, Heard::Silence), Some(Ended::Lost));
    assert_eq!((with_bob.with(), with_bob.close()), (None, None));
}

#[test]
fn a_no_ends_it_and_an_answer_that_comes_late_begins_nothing() {
    let mut alice = Engagement::default();
    alice.open(BOB).unwrap();
    assert_eq!(alice.close(), Some(BOB));
    assert_eq!((alice.take_answer(BOB, true), alice.with()), (Answered::Unchanged, None));
    alice.take_open(BOB).unwrap();
    assert_eq!(alice.take_answer(BOB, false), Answered::Unchanged, "they have opened it meanwhile");
    assert_eq!(alice.take_check(BOB, Heard::No), Some(Ended::ByThem));
    assert!(!alice.take_close(BOB), "it is over already");
}
