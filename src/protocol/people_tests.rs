//! What two people can say of each other in any order, and what either sees of it.

use super::*;

/// What two people have said of each other.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Pair {
    sam: One,
    vera: One,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct One {
    asks: bool,
    /// Whether the other one has put off what this one asks.
    is_put_off: bool,
    blocks: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Who {
    Sam,
    Vera,
}

/// What whoever said something sees of it, and what the other one hears.
type Heard = (Result<Option<FriendState>, Refusal>, Option<News>);

const WORDS: [Word; 5] = [Word::Befriend, Word::Unfriend, Word::PutOff, Word::Block, Word::Unblock];

impl Pair {
    fn bond(&self, of: Who) -> Bond {
        let (we, they) = match of {
            Who::Sam => (self.sam, self.vera),
            Who::Vera => (self.vera, self.sam),
        };
        Bond {
            we_ask: we.asks,
            they_ask: they.asks,
            is_put_off: they.is_put_off,
            we_block: we.blocks,
            they_block: they.blocks,
        }
    }

    fn say(&mut self, who: Who, word: Word) -> Heard {
        match self.bond(who).after(word) {
            Err(refusal) => (Err(refusal), None),
            Ok((bond, news)) => {
                let (we, they) = match who {
                    Who::Sam => (&mut self.sam, &mut self.vera),
                    Who::Vera => (&mut self.vera, &mut self.sam),
                };
                *we = One { asks: bond.we_ask, is_put_off: we.is_put_off && bond.we_ask, blocks: bond.we_block };
                *they = One { asks: bond.they_ask, is_put_off: bond.is_put_off && bond.they_ask, ..*they };
                (Ok(bond.state()), news)
            }
        }
    }
}

/// Every order of so many words of both.
fn orders(length: u32) -> impl Iterator<Item = Vec<(Who, Word)>> {
    let word = |choice: usize| (if choice.is_multiple_of(2) { Who::Sam } else { Who::Vera }, WORDS[choice / 2]);
    (0..10_usize.pow(length))
        .map(move |number| (0..length).map(|place| word(number / 10_usize.pow(place) % 10)).collect())
}

#[track_caller]
fn check(before: Bond, word: Word, state: Option<FriendState>, news: Option<News>) {
    let (after, told) = before.after(word).unwrap();
    assert_eq!((after.state(), told), (state, news), "{before:?} {word:?}");
}

#[test]
fn two_become_friends_by_asking_each_other_and_either_ends_it() {
    use FriendAnswer::{Accepted, Busy, Declined, Ended};
    use FriendState::{Asked, AsksUs, Friends};
    let nothing = Bond::default();
    let asked = Bond { we_ask: true, ..nothing };
    let asks_us = Bond { they_ask: true, ..nothing };
    let friends = Bond { we_ask: true, they_ask: true, ..nothing };
    check(nothing, Word::Befriend, Some(Asked), Some(News::Asked));
    check(asked, Word::Befriend, Some(Asked), None);
    check(asks_us, Word::Befriend, Some(Friends), Some(News::Answered(Accepted)));
    check(friends, Word::Befriend, Some(Friends), None);
    check(asked, Word::Unfriend, None, None);
    check(asks_us, Word::Unfriend, None, Some(News::Answered(Declined)));
    check(friends, Word::Unfriend, None, Some(News::Answered(Ended)));
    check(asks_us, Word::PutOff, Some(AsksUs), Some(News::Answered(Busy)));
    check(Bond { is_put_off: true, ..asks_us }, Word::PutOff, Some(AsksUs), None);
    for bond in [nothing, asked, friends] {
        assert_eq!(bond.after(Word::PutOff), Err(Refusal::NotFriends));
    }
    assert_eq!(nothing.after(Word::Unfriend), Err(Refusal::NotFriends));
    assert_eq!(friends.after(Word::Unblock), Err(Refusal::NotBlocked));
}

#[test]
fn friendship_and_blocking_exclude_each_other() {
    let friends = Bond { we_ask: true, they_ask: true, ..Bond::default() };
    check(friends, Word::Block, None, Some(News::Answered(FriendAnswer::Ended)));
    let (blocked, _) = friends.after(Word::Block).unwrap();
    assert_eq!(blocked.after(Word::Befriend), Err(Refusal::YouBlock));
    let (again, news) = blocked.after(Word::Block).unwrap();
    assert_eq!((again, news), (blocked, None));
    check(blocked, Word::Unblock, None, None);
    // Who is blocked asks nobody who hears it; when that is over, it is as if they had asked just then.
    let unheard = Bond { they_block: true, ..Bond::default() };
    check(unheard, Word::Befriend, Some(FriendState::Asked), None);
    check(Bond { they_ask: true, we_block: true, ..Bond::default() }, Word::Unblock, Some(FriendState::AsksUs), None);
}

#[test]
fn whatever_two_people_say_they_see_one_friendship_and_nobody_hears_from_whom_they_block() {
    for words in orders(5) {
        let mut pair = Pair::default();
        for (who, word) in &words {
            let before = pair.bond(*who);
            let (_, news) = pair.say(*who, *word);
            assert!(news.is_none() || !(before.we_block || before.they_block), "{words:?}");
            for side in [pair.sam, pair.vera] {
                assert!(!side.blocks || !side.asks, "{words:?}");
            }
            let (sam, vera) = (pair.bond(Who::Sam).state(), pair.bond(Who::Vera).state());
            let are_friends = sam == Some(FriendState::Friends);
            assert_eq!(are_friends, vera == Some(FriendState::Friends), "{words:?}");
            assert!(sam != Some(FriendState::AsksUs) || vera == Some(FriendState::Asked), "{words:?}");
        }
    }
}

/// What vera sees and hears while the two say this. In the twin world sam does not block her: he ends what there is, says
/// nothing more, and hides from everybody but his friends.
fn observed(words: &[(Who, Word)], is_twin: bool) -> Vec<(Option<Heard>, Option<FriendState>)> {
    let mut pair = Pair::default();
    let mut has_blocked = false;
    let mut observed = Vec::new();
    for (who, word) in words {
        let heard = match (who, word) {
            (Who::Vera, word) => Some((pair.say(Who::Vera, *word).0, None)),
            (Who::Sam, _) if is_twin && has_blocked => None,
            (Who::Sam, Word::Block) if is_twin => match pair.bond(Who::Sam).state() {
                Some(FriendState::Friends | FriendState::Asked) => {
                    Some((Ok(None), pair.say(Who::Sam, Word::Unfriend).1))
                }
                Some(FriendState::AsksUs) | None => None,
            },
            (Who::Sam, word) => Some((Ok(None), pair.say(Who::Sam, *word).1)),
        };
        has_blocked |= (*who, *word) == (Who::Sam, Word::Block);
        let heard = heard.filter(|(answer, news)| *who == Who::Vera || (answer.is_ok() && news.is_some()));
        observed.push((heard, pair.bond(Who::Vera).state()));
    }
    observed
}

#[test]
fn who_is_blocked_sees_of_a_friendship_what_anybody_sees_who_is_not_answered() {
    let mut compared = 0;
    for words in orders(5) {
        // When he takes it back, she may see it.
        let is_ended = words.contains(&(Who::Sam, Word::Unblock));
        if !is_ended && words.contains(&(Who::Sam, Word::Block)) {
            assert_eq!(observed(&words, false), observed(&words, true), "{words:?}");
            compared += 1;
        }
    }
    assert!(compared > 10_000, "{compared}");
}

#[test]
fn who_is_admitted_and_who_is_a_stranger_is_decided_by_the_recipient() {
    let (everyone, friends_only) =
        (Relation::default(), Relation { audience: Audience::Friends, ..Relation::default() });
    let admits =
        |relation, is_kept_out| Reception { relation, is_kept_out, ..Reception::default() }.admits(Refusal::Offline);
    assert_eq!(admits(everyone, false), Ok(()));
    assert_eq!(admits(friends_only, false), Err(Refusal::Offline));
    assert_eq!(admits(Relation { are_friends: true, ..friends_only }, false), Ok(()));
    assert_eq!(admits(Relation { blocks: true, ..everyone }, false), Err(Refusal::Offline), "blocked looks alike");
    assert_eq!(admits(Relation { blocks: true, ..everyone }, true), Err(Refusal::YouBlock), "whoever blocks knows it");

    let nobody = Reception::default();
    assert!(nobody.is_stranger());
    let relation = Relation { are_friends: true, ..everyone };
    for known in [
        Reception { relation, ..nobody },
        Reception { has_written: true, ..nobody },
        Reception { has_allowed: true, ..nobody },
    ] {
        assert!(!known.is_stranger(), "{known:?}");
    }
}

#[test]
fn so_many_may_ask_and_who_may_not_see_a_person_does_not_learn_how_many_do() {
    let (open, closed) = (Relation::default(), Relation { blocks: true, ..Relation::default() });
    assert_eq!(is_shown(open, FRIEND_REQUESTS_MAX - 1), Ok(true));
    assert_eq!(is_shown(open, FRIEND_REQUESTS_MAX), Err(Refusal::TooManyAsk));
    assert_eq!(is_shown(closed, FRIEND_REQUESTS_MAX - 1), Ok(true));
    assert_eq!(is_shown(closed, FRIEND_REQUESTS_MAX), Ok(false));
}
