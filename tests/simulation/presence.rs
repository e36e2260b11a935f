//! What presence costs a directory: people with contacts who come, change and go, by thousands, and how many of them it looks
//! at for each change.

use std::collections::BTreeSet;

use qchat::protocol::people::Circle;
use qchat::protocol::presence::Attendance;
use qchat::wire::ids::{PeerName, UnixMillis};
use qchat::wire::people::{Audience, Presence};

use crate::scene::Chance;

/// So many people, each with friends on both sides of them and with others whom they watch.
#[derive(Debug, Clone, Copy)]
struct Crowd {
    people: usize,
    friends: usize,
    watched: usize,
}

impl Crowd {
    /// How many people were looked at for each change, once everybody is here, and how many were told.
    fn costs(self) -> (f64, f64) {
        let names: Vec<PeerName> =
            (0..self.people).map(|number| PeerName::parse(&format!("p{number}")).expect("a name")).collect();
        let (mut all, mut chance) = (Attendance::default(), Chance::new(7));
        let come = |all: &mut Attendance, number: usize, chance: &mut Chance| {
            let told = all.enter(&names[number], self.circle(number, &names)).len();
            let watched: BTreeSet<_> = (0..self.watched).map(|_| names[chance.place(self.people)].clone()).collect();
            told + all.watch(&names[number], watched).len()
        };
        for number in 0..self.people {
            come(&mut all, number, &mut chance);
        }
        let (before, mut changes, mut told) = (all.looked_at(), 0, 0);
        for _ in 0..self.people {
            let number = chance.place(self.people);
            told += all.set_presence(&names[number], Presence::Away).len();
            told += all.leave(&names[number], UnixMillis(changes)).len();
            told += come(&mut all, number, &mut chance);
            changes += 4;
        }
        let number = |count: u64| f64::from(u32::try_from(count).expect("a small number"));
        (
            number(all.looked_at() - before) / number(changes),
            number(u64::try_from(told).expect("a small number")) / number(changes),
        )
    }

    fn circle(self, number: usize, names: &[PeerName]) -> Circle {
        let sides = (1..=self.friends / 2).flat_map(|step| [number + step, number + self.people - step]);
        let friends = sides.map(|other| names[other % self.people].clone()).collect();
        Circle { audience: Audience::Everyone, friends, blocked: BTreeSet::new() }
    }
}

#[test]
#[expect(clippy::print_stdout, reason = "whoever runs it wants the numbers")]
fn the_work_grows_with_contacts_and_not_with_people() {
    let few = Crowd { people: 1_000, friends: 20, watched: 5 };
    let costs = [few, Crowd { people: 4_000, ..few }, Crowd { friends: 80, watched: 20, ..few }].map(|crowd| {
        let (looked_at, told) = crowd.costs();
        println!("{crowd:?}: {looked_at:.1} looked at and {told:.1} told for each change");
        looked_at
    });
    assert!(costs[0] < 60.0, "25 contacts who are here, looked at before and after, are less than {}", costs[0]);
    assert!(costs[1] < 1.1 * costs[0], "four times the people cost {} instead of {}", costs[1], costs[0]);
    assert!(costs[2] > 3.0 * costs[0], "four times the contacts cost {} instead of {}", costs[2], costs[0]);
}
