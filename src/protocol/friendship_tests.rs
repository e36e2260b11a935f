//! What a peer believes of a friendship, beside a directory that tells the truth, that loses what it should tell, or lies.

use std::collections::BTreeSet;

use super::*;
use crate::protocol::people::{self, Bond, Word};
use crate::wire::refusal::Refusal;

const KNOWN: [Option<Wanted>; 3] = [None, Some(Wanted::Asked), Some(Wanted::Friends)];
const SAID: [Option<FriendState>; 4] =
    [None, Some(FriendState::Asked), Some(FriendState::AsksUs), Some(FriendState::Friends)];
const ANSWERS: [FriendAnswer; 4] =
    [FriendAnswer::Accepted, FriendAnswer::Declined, FriendAnswer::Busy, FriendAnswer::Ended];

#[track_caller]
fn check(heard: Heard, state: Option<Wanted>, news: Option<News>) {
    assert_eq!(heard, Heard { state, news });
}

#[test]
fn what_has_become_of_a_request_is_told() {
    let asked = Some(Wanted::Asked);
    check(hear(asked, Some(FriendState::Friends)), Some(Wanted::Friends), answered(FriendAnswer::Accepted));
    check(hear(asked, None), None, answered(FriendAnswer::Declined));
    check(hear(asked, Some(FriendState::Asked)), asked, None);
    check(hear_answer(asked, FriendAnswer::Busy), asked, answered(FriendAnswer::Busy));
    check(hear_answer(asked, FriendAnswer::Accepted), Some(Wanted::Friends), answered(FriendAnswer::Accepted));
    check(hear(Some(Wanted::Friends), None), None, answered(FriendAnswer::Ended));
    check(hear_answer(Some(Wanted::Friends), FriendAnswer::Ended), None, answered(FriendAnswer::Ended));
}

#[test]
fn an_answer_is_told_once() {
    for known in KNOWN {
        for said in SAID {
            let again = hear(hear(known, said).state, said);
            assert_eq!(again.state, hear(known, said).state, "{known:?} hears {said:?} twice");
            assert!(!matches!(again.news, Some(News::Answered(_))), "{known:?} hears {said:?} twice: {again:?}");
        }
    }
}

#[test]
fn no_directory_makes_friends_of_people_who_have_not_asked_here() {
    for said in SAID {
        assert_eq!(hear(None, said).state, None, "{said:?}");
    }
    for answer in ANSWERS {
        let heard = hear_answer(None, answer);
        assert_eq!(heard.state, None, "{answer:?}");
        assert!(!matches!(heard.news, Some(News::Answered(_))), "nobody has asked: {heard:?}");
    }
    check(hear(None, Some(FriendState::Friends)), None, Some(News::AsksUs));
}

#[test]
fn a_friendship_is_shown_as_far_as_it_is_believed() {
    assert_eq!(shown(None, FriendState::Friends), FriendState::AsksUs);
    for known in KNOWN {
        for listed in [FriendState::Asked, FriendState::AsksUs] {
            assert_eq!(shown(known, listed), listed);
        }
    }
    assert_eq!(shown(Some(Wanted::Asked), FriendState::Friends), FriendState::Friends);
    assert_eq!(shown(Some(Wanted::Friends), FriendState::Friends), FriendState::Friends);
}

/// Two people with their peers, and what their directory knows of them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Two {
    asks: [bool; 2],
    is_put_off: [bool; 2],
    blocks: [bool; 2],
    /// What each peer believes.
    believes: [Option<Believed>; 2],
    /// Whether each has said here that they want it, and not taken it back.
    wants: [bool; 2],
}

/// [`Wanted`], in an order for sets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Believed {
    Asked,
    Friends,
}

const WORDS: [Word; 5] = [Word::Befriend, Word::Unfriend, Word::PutOff, Word::Block, Word::Unblock];

impl Two {
    fn bond(&self, who: usize) -> Bond {
        Bond {
            we_ask: self.asks[who],
            they_ask: self.asks[1 - who],
            is_put_off: self.is_put_off[1 - who],
            we_block: self.blocks[who],
            they_block: self.blocks[1 - who],
        }
    }

    fn known(&self, who: usize) -> Option<Wanted> {
        self.believes[who].map(|believed| match believed {
            Believed::Asked => Wanted::Asked,
            Believed::Friends => Wanted::Friends,
        })
    }

    fn believe(&mut self, who: usize, state: Option<Wanted>) {
        self.believes[who] = state.map(|state| match state {
            Wanted::Asked => Believed::Asked,
            Wanted::Friends => Believed::Friends,
        });
    }

    /// The directory hears a word. What it tells the other one.
    fn told(&mut self, who: usize, word: Word) -> Result<Option<people::News>, Refusal> {
        let (bond, news) = self.bond(who).after(word)?;
        (self.asks[who], self.asks[1 - who]) = (bond.we_ask, bond.they_ask);
        self.blocks[who] = bond.we_block;
        self.is_put_off[1 - who] = bond.is_put_off && bond.they_ask;
        self.is_put_off[who] &= bond.we_ask;
        Ok(news)
    }

    /// A person gives a command, as `peer/friends.rs` and `peer/blocks.rs` run it; what the other one is told arrives or not.
    fn says(mut self, who: usize, word: Word, arrives: bool) -> Self {
        let before = self;
        match word {
            Word::Befriend => self.believe(who, self.known(who).or(Some(Wanted::Asked))),
            Word::Unfriend | Word::Block => self.believe(who, None),
            Word::PutOff | Word::Unblock => {}
        }
        let Ok(news) = self.told(who, word) else {
            return if word == Word::Befriend { before } else { self };
        };
        match word {
            Word::Befriend => {
                self.wants[who] = true;
                self.logs_in(who);
            }
            Word::Unfriend | Word::Block => self.wants[who] = false,
            Word::PutOff | Word::Unblock => {}
        }
        let other = 1 - who;
        if let (Some(people::News::Answered(answer)), true, false) = (news, arrives, self.blocks[other]) {
            self.believe(other, hear_answer(self.known(other), answer).state);
        }
        self
    }

    /// A peer hears how it is.
    fn logs_in(&mut self, who: usize) {
        let said = self.bond(who).state();
        self.believe(who, hear(self.known(who), said).state);
    }

    /// What a peer should believe of whom nothing was kept from.
    fn truth(&self, who: usize) -> Option<Wanted> {
        match self.bond(who).state()? {
            FriendState::Friends => Some(Wanted::Friends),
            FriendState::Asked => Some(Wanted::Asked),
            FriendState::AsksUs => None,
        }
    }
}

/// Everything that two people can come to by any words in any order.
fn reachable(next: impl Fn(Two) -> Vec<Two>) -> BTreeSet<Two> {
    let (mut found, mut to_follow) = (BTreeSet::new(), vec![Two::default()]);
    while let Some(two) = to_follow.pop() {
        if found.insert(two) {
            to_follow.extend(next(two));
        }
    }
    found
}

fn words(two: Two, arrives: bool) -> impl Iterator<Item = Two> {
    (0..2).flat_map(move |who| WORDS.map(|word| two.says(who, word, arrives)))
}

#[test]
fn peers_to_which_everything_is_told_believe_what_the_directory_knows() {
    let all = reachable(|two| words(two, true).collect());
    assert!(all.iter().any(|two| two.believes == [Some(Believed::Friends); 2]));
    for two in all {
        for who in [0, 1] {
            assert_eq!(two.known(who), two.truth(who), "{who} of {two:?}");
        }
    }
}

#[test]
fn peers_to_which_nothing_is_told_for_sure_know_it_after_their_next_login() {
    let logged_in = |two: Two, who| {
        let mut two = two;
        two.logs_in(who);
        two
    };
    let next = |two| {
        let logins = [0, 1].map(|who| logged_in(two, who));
        words(two, true).chain(words(two, false)).chain(logins).collect()
    };
    let all = reachable(next);
    assert!(all.iter().any(|two| two.known(0) != two.truth(0)), "what is lost is not known at once");
    for two in all {
        for who in [0, 1] {
            assert_eq!(logged_in(two, who).known(who), two.truth(who), "{who} of {two:?}");
            assert!(two.known(who).is_none() || two.wants[who], "believed without being wanted: {who} of {two:?}");
        }
    }
}

#[test]
fn a_directory_that_lies_cannot_make_a_friend_of_somebody_who_is_not_wanted() {
    let lies = |two: Two| {
        let said = SAID.map(|said| {
            let mut two = two;
            two.believe(0, hear(two.known(0), said).state);
            two
        });
        let answers = ANSWERS.map(|answer| {
            let mut two = two;
            two.believe(0, hear_answer(two.known(0), answer).state);
            two
        });
        words(two, false).chain(said).chain(answers).collect()
    };
    for two in reachable(lies) {
        assert!(two.known(0).is_none() || two.wants[0], "{two:?}");
    }
}
