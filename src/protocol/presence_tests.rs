//! What is promised of presence, on crowds in memory: nobody's picture goes stale, and nobody finds out who hides from
//! them. What it costs is in `tests/simulation/presence.rs`.

use super::*;

const LATER: UnixMillis = UnixMillis(1_000_000);

/// Numbers that look random and are the same in each run (SplitMix64, Steele et al., 2014).
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((mixed ^ (mixed >> 31)) % u64::try_from(bound).unwrap()).unwrap()
    }

    fn one<T: Clone>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())].clone()
    }

    fn some(&mut self, of: &[PeerName]) -> BTreeSet<PeerName> {
        of.iter().filter(|_| self.below(3) == 0).cloned().collect()
    }
}

fn name(text: &str) -> PeerName {
    PeerName::parse(text).unwrap()
}

fn names(prefix: &str, count: usize) -> Vec<PeerName> {
    (0..count).map(|number| name(&format!("{prefix}{number}"))).collect()
}

fn set(texts: &[&str]) -> BTreeSet<PeerName> {
    texts.iter().map(|text| name(text)).collect()
}

fn circle(audience: Audience, friends: &[&str], blocked: &[&str]) -> Circle {
    Circle { audience, friends: set(friends), blocked: set(blocked) }
}

fn open() -> Circle {
    Circle::default()
}

/// Who is told of whom, as text.
fn told(news: Vec<News>) -> Vec<String> {
    news.into_iter().map(|News { to, about }| format!("{to}: {about}")).collect()
}

/// So many strangers that not everyone hears of everyone.
fn crowd() -> Attendance {
    let mut all = Attendance::default();
    for name in names("stranger", PRESENCE_TO_ALL_MAX + 1) {
        all.enter(&name, open());
    }
    all
}

fn online(all: &Attendance, asker: &str) -> Vec<String> {
    let sought = Sought { by: &name(asker), recent: false, pattern: None, after: None };
    all.listed(sought, 1_000, LATER).0.into_iter().map(|listed| listed.name.to_string()).collect()
}

#[test]
fn in_a_small_directory_everyone_hears_of_everyone() {
    let mut all = Attendance::default();
    assert_eq!(told(all.enter(&name("alice"), open())), [] as [&str; 0]);
    assert_eq!(told(all.enter(&name("bob"), open())), ["alice: bob"]);
    assert_eq!(told(all.set_presence(&name("bob"), Presence::Away)), ["alice: bob"]);
    assert_eq!(told(all.set_presence(&name("bob"), Presence::Away)), [] as [&str; 0]);
    assert_eq!(all.presence_to(&name("alice"), &name("bob")), Presence::Away);
    assert_eq!(told(all.leave(&name("bob"), LATER)), ["alice: bob"]);
    assert_eq!(told(all.leave(&name("bob"), LATER)), [] as [&str; 0]);
    assert_eq!(all.presence_to(&name("alice"), &name("bob")), Presence::Offline);
}

#[test]
fn in_a_large_one_friends_hear_of_each_other_and_whoever_watches() {
    let mut all = crowd();
    all.enter(&name("alice"), circle(Audience::Everyone, &["bob"], &[]));
    all.enter(&name("carol"), open());
    all.enter(&name("dave"), open());
    assert_eq!(told(all.watch(&name("carol"), set(&["bob", "carol"]))), ["carol: bob"]);
    assert_eq!(
        told(all.enter(&name("bob"), circle(Audience::Everyone, &["alice"], &[]))),
        ["alice: bob", "carol: bob"]
    );
    assert_eq!(told(all.watch(&name("carol"), set(&["dave", "bob"]))), ["carol: dave"]);
    all.watch(&name("carol"), set(&["dave"]));
    assert_eq!(told(all.set_presence(&name("bob"), Presence::Busy)), ["alice: bob"]);
    all.leave(&name("carol"), LATER);
    assert_eq!(told(all.leave(&name("dave"), LATER)), [] as [&str; 0], "who has left watches nobody");
}

#[test]
fn whom_somebody_hides_from_is_told_once_that_they_are_gone() {
    for mut all in [Attendance::default(), crowd()] {
        all.enter(&name("eve"), open());
        all.enter(&name("alice"), open());
        all.watch(&name("eve"), set(&["alice"]));
        assert_eq!(all.presence_to(&name("eve"), &name("alice")), Presence::Online);
        let news = told(all.circle_changed(&name("alice"), circle(Audience::Everyone, &[], &["eve"])));
        assert!(news.contains(&"eve: alice".to_owned()), "{news:?}");
        assert_eq!(all.presence_to(&name("eve"), &name("alice")), Presence::Offline);
        assert!(!online(&all, "eve").contains(&"alice".to_owned()));
        for news in [
            all.set_presence(&name("alice"), Presence::Away),
            all.begin_anew(&name("alice")),
            all.leave(&name("alice"), LATER),
            all.enter(&name("alice"), circle(Audience::Everyone, &[], &["eve"])),
        ] {
            assert!(!told(news).contains(&"eve: alice".to_owned()));
        }
        let news = told(all.circle_changed(&name("alice"), open()));
        assert!(news.contains(&"eve: alice".to_owned()), "{news:?}");
    }
}

#[test]
fn whoever_shows_themselves_to_friends_only_is_seen_by_friends_only() {
    let mut all = Attendance::default();
    all.enter(&name("alice"), open());
    all.enter(&name("bob"), circle(Audience::Everyone, &["carol"], &[]));
    assert_eq!(told(all.enter(&name("carol"), circle(Audience::Friends, &["bob"], &[]))), ["bob: carol"]);
    assert_eq!((online(&all, "alice"), online(&all, "bob").len()), (vec!["alice".to_owned(), "bob".to_owned()], 3));
    assert_eq!(online(&all, "carol").len(), 3, "everybody sees themselves");
    assert_eq!(told(all.circle_changed(&name("carol"), circle(Audience::Friends, &[], &[]))), ["bob: carol"]);
    assert_eq!(all.presence_to(&name("bob"), &name("carol")), Presence::Offline);
}

#[test]
fn whom_somebody_keeps_out_they_hear_nothing_of() {
    let mut all = Attendance::default();
    all.enter(&name("alice"), circle(Audience::Everyone, &[], &["eve"]));
    assert_eq!(told(all.enter(&name("eve"), open())), [] as [&str; 0]);
    assert_eq!(told(all.watch(&name("alice"), set(&["eve"]))), [] as [&str; 0]);
    assert_eq!(told(all.circle_changed(&name("alice"), open())), ["eve: alice", "alice: eve"]);
}

#[test]
fn a_listing_has_its_pages_its_pattern_and_who_left() {
    let mut all = Attendance::default();
    for text in ["alice", "bob", "malice", "zoe"] {
        all.enter(&name(text), open());
    }
    all.set_presence(&name("malice"), Presence::Busy);
    all.leave(&name("bob"), LATER);
    let page = |recent, pattern: &str, after: Option<&str>, limit| {
        let (by, pattern, after) = (name("zoe"), Pattern::parse(pattern).unwrap(), after.map(name));
        let sought = Sought { by: &by, recent, pattern: Some(&pattern), after: after.as_ref() };
        let (listed, more) = all.listed(sought, limit, LATER);
        let row = |listed: &Listed| format!("{} {:?} {:?}", listed.name, listed.presence, listed.left_at.is_some());
        (listed.iter().map(row).collect::<Vec<_>>().join(", "), more)
    };
    assert_eq!(page(false, "", None, 2), ("alice Online false, malice Busy false".to_owned(), true));
    assert_eq!(page(false, "", Some("malice"), 2), ("zoe Online false".to_owned(), false));
    assert_eq!(page(true, "", None, 2), ("alice Online false, bob Offline true".to_owned(), true));
    assert_eq!(page(true, "ALI", None, 2), ("alice Online false, malice Busy false".to_owned(), false));
    assert_eq!(page(true, "bob", None, 2), ("bob Offline true".to_owned(), false));
    assert_eq!(page(true, "no one", None, 2), (String::new(), false));
    all.enter(&name("bob"), open());
    assert!(online(&all, "zoe").contains(&"bob".to_owned()));
}

#[test]
fn an_announcement_reaches_whom_both_sides_may_see() {
    let mut all = Attendance::default();
    for text in ["alice", "bob", "speaker"] {
        all.enter(&name(text), open());
    }
    let listeners = |all: &Attendance, circle: &Circle| {
        let (listeners, is_everyone) = all.listeners(&name("speaker"), circle);
        (listeners.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "), is_everyone)
    };
    assert_eq!(listeners(&all, &open()), ("alice bob".to_owned(), true));
    all.circle_changed(&name("bob"), circle(Audience::Everyone, &[], &["speaker"]));
    assert_eq!(listeners(&all, &open()), ("alice".to_owned(), false));
    assert_eq!(listeners(&all, &circle(Audience::Friends, &[], &[])), (String::new(), false));
}

/// What somebody does.
#[derive(Debug, Clone)]
enum Act {
    Enter(Circle),
    Leave,
    Show(Presence),
    Watch(BTreeSet<PeerName>),
    Know(Circle),
    Begin,
}

impl Act {
    fn random(dice: &mut Dice, people: &[PeerName]) -> Self {
        match dice.below(8) {
            0 | 1 => Self::Enter(random_circle(dice, people)),
            2 => Self::Leave,
            3 | 4 => Self::Show(dice.one(&[Presence::Online, Presence::Away, Presence::Busy])),
            5 => Self::Watch(dice.some(people)),
            6 => Self::Begin,
            _ => Self::Know(random_circle(dice, people)),
        }
    }

    fn of(self, name: &PeerName, all: &mut Attendance) -> Vec<News> {
        let is_here = all.presence(name).is_online();
        match self {
            Self::Enter(circle) => all.enter(name, circle),
            Self::Leave => all.leave(name, LATER),
            Self::Show(presence) if is_here => all.set_presence(name, presence),
            Self::Watch(watched) => all.watch(name, watched),
            Self::Know(circle) => all.circle_changed(name, circle),
            Self::Begin if is_here => all.begin_anew(name),
            Self::Show(_) | Self::Begin => Vec::new(),
        }
    }
}

fn random_circle(dice: &mut Dice, people: &[PeerName]) -> Circle {
    let audience = dice.one(&[Audience::Everyone, Audience::Everyone, Audience::Friends]);
    let (friends, blocked) = (dice.some(people), dice.some(people));
    let blocked = if dice.below(2) == 0 { BTreeSet::new() } else { blocked };
    let friends = friends.difference(&blocked).cloned().collect();
    Circle { audience, friends, blocked }
}

#[test]
fn nobodys_picture_of_their_contacts_goes_stale() {
    for seed in 0..200 {
        let worlds = if seed % 10 == 0 { vec![Attendance::default(), crowd()] } else { vec![Attendance::default()] };
        for mut all in worlds {
            let (mut dice, people) = (Dice(seed), names("p", 6));
            let mut pictures: BTreeMap<PeerName, BTreeMap<PeerName, Presence>> = BTreeMap::new();
            for step in 0..60 {
                let (who, act) = (dice.one(&people), Act::random(&mut dice, &people));
                let was_here = all.presence(&who).is_online();
                for News { to, about } in act.clone().of(&who, &mut all) {
                    let presence = all.presence_to(&to, &about);
                    pictures.entry(to).or_default().insert(about, presence);
                }
                if !was_here {
                    // Whoever comes asks who is here.
                    let picture = people.iter().map(|other| (other.clone(), all.presence_to(&who, other))).collect();
                    pictures.insert(who.clone(), picture);
                }
                for viewer in people.iter().filter(|viewer| all.presence(viewer).is_online()) {
                    for other in people.iter().filter(|other| all.hears(viewer, other)) {
                        let believed = pictures[viewer].get(other).copied().unwrap_or_default();
                        let what = format!("seed {seed}, step {step}: {viewer} of {other} after {who}: {act:?}");
                        assert_eq!(believed, all.presence_to(viewer, other), "{what}");
                    }
                }
            }
        }
    }
}

#[test]
fn nobody_finds_out_by_what_they_hear_that_somebody_hides_from_them() {
    for seed in 0..300 {
        let (mut dice, people) = (Dice(seed), names("p", 4));
        let (viewer, hider) = (name("viewer"), name("hider"));
        let everyone: Vec<_> = people.iter().chain([&viewer, &hider]).cloned().collect();
        // In some worlds just so many that one more or less decides whether all hear of all.
        let strangers = if seed % 25 == 0 { PRESENCE_TO_ALL_MAX - 3 } else { 1 };
        let mut real = Attendance::default();
        let mut twin = Attendance::default();
        for all in [&mut real, &mut twin] {
            for stranger in names("stranger", strangers) {
                all.enter(&stranger, open());
            }
            all.enter(&viewer, open());
            all.watch(&viewer, everyone.iter().cloned().collect());
            all.enter(&hider, open());
        }
        let heard = |all: &Attendance, news: Vec<News>| -> Vec<_> {
            let mine = news.into_iter().filter(|news| news.to == viewer);
            mine.map(|news| (all.presence_to(&viewer, &news.about), news.about)).collect()
        };
        let blocked = circle(Audience::Everyone, &[], &["viewer"]);
        let news = real.circle_changed(&hider, blocked.clone());
        let mut gone = twin.circle_changed(&hider, circle(Audience::Friends, &[], &[]));
        gone.extend(twin.leave(&hider, LATER));
        assert_eq!(heard(&real, news), heard(&twin, gone), "seed {seed}");
        for step in 0..80 {
            let (who, act) = (dice.one(&everyone), Act::random(&mut dice, &everyone));
            let in_real = match (&act, who == hider) {
                (Act::Enter(circle) | Act::Know(circle), true) => {
                    let hidden = &circle.blocked | &blocked.blocked;
                    Act::Enter(Circle { blocked: hidden, ..circle.clone() })
                }
                _ => act.clone(),
            };
            let news = in_real.of(&who, &mut real);
            let in_twin = if who == hider { Vec::new() } else { act.clone().of(&who, &mut twin) };
            assert_eq!(heard(&real, news), heard(&twin, in_twin), "seed {seed}, step {step}: {who} {act:?}");
            assert_eq!(online(&real, "viewer"), online(&twin, "viewer"), "seed {seed}, step {step}: {who} {act:?}");
        }
    }
}
