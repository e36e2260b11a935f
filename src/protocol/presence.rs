//! Who is here, how they let others see them, and who is to hear when that changes. Whom to tell is found among the
//! contacts of whoever changes, so that the work grows with those and not with how many people are here.
//!
//! ```text
//! V hears of S:  V is here, V is not S, S may be seen by V (`people::Relation`), V does not keep S out, and
//!                both are friends, or V watches S, or few people are here
//! ```
//! What is found is only of whom somebody is to be told. What they are told is read when they are told it, so the last
//! word is always how it is.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use super::people::Circle;
use super::recent::Recent;
use crate::wire::ids::{Pattern, PeerName, UnixMillis};
use crate::wire::limits::PRESENCE_TO_ALL_MAX;
use crate::wire::people::{Audience, Presence};

/// Everyone who is here, and who was lately.
#[derive(Debug, Default)]
pub struct Attendance {
    here: BTreeMap<PeerName, Here>,
    /// Who watches somebody, whether that person is here or not.
    watchers: BTreeMap<PeerName, BTreeSet<PeerName>>,
    recent: Recent,
    /// How many of those who are here hide from nobody.
    open: usize,
    looked_at: u64,
}

/// Somebody who is here.
#[derive(Debug)]
struct Here {
    presence: Presence,
    circle: Circle,
    watched: BTreeSet<PeerName>,
}

/// Somebody is to be told how somebody is now.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct News {
    /// Who is to be told.
    pub to: PeerName,
    /// Of whom.
    pub about: PeerName,
}

/// Whom a listing is to show.
#[derive(Debug, Clone, Copy)]
pub struct Sought<'a> {
    /// Who asks.
    pub by: &'a PeerName,
    /// Those too who left in the last hour. Whether the asker may see them is not known here.
    pub recent: bool,
    /// Only names that contain this.
    pub pattern: Option<&'a Pattern>,
    /// Only names that come after this one.
    pub after: Option<&'a PeerName>,
}

/// Somebody in a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Who.
    pub name: PeerName,
    /// How they are, as far as the asker may see.
    pub presence: Presence,
    /// When they left: of those who are not here.
    pub left_at: Option<UnixMillis>,
}

impl Attendance {
    /// Somebody came. Whoever is here already stays so.
    pub fn enter(&mut self, name: &PeerName, circle: Circle) -> Vec<News> {
        self.recent.is_back(name);
        if self.here.contains_key(name) {
            return self.circle_changed(name, circle);
        }
        self.change(name, |all| all.insert(name.clone(), circle))
    }

    /// Another session of somebody who is here has taken over: what it shows and watches begins anew.
    pub fn begin_anew(&mut self, name: &PeerName) -> Vec<News> {
        self.watch(name, BTreeSet::new());
        self.set_presence(name, Presence::Online)
    }

    /// Somebody left.
    pub fn leave(&mut self, name: &PeerName, now: UnixMillis) -> Vec<News> {
        if !self.here.contains_key(name) {
            return Vec::new();
        }
        self.recent.left(name, now);
        self.watch(name, BTreeSet::new());
        self.change(name, |all| all.remove(name))
    }

    /// Somebody was here at a time before this began.
    pub fn was_here(&mut self, name: &PeerName, at: UnixMillis) {
        if !self.here.contains_key(name) {
            self.recent.left(name, at);
        }
    }

    /// Somebody lets others see them otherwise.
    pub fn set_presence(&mut self, name: &PeerName, presence: Presence) -> Vec<News> {
        self.change(name, |all| {
            if let Some(here) = all.here.get_mut(name) {
                here.presence = presence;
            }
        })
    }

    /// Somebody hears of these people from now on, and not of those they watched before. They are told at once how those
    /// are whom they did not watch before.
    pub fn watch(&mut self, name: &PeerName, mut watched: BTreeSet<PeerName>) -> Vec<News> {
        let Some(here) = self.here.get_mut(name) else { return Vec::new() };
        watched.remove(name);
        let before = std::mem::replace(&mut here.watched, watched.clone());
        for gone in before.difference(&watched) {
            self.unwatch(name, gone);
        }
        let new: Vec<_> = watched.difference(&before).cloned().collect();
        for about in &new {
            self.watchers.entry(about.clone()).or_default().insert(name.clone());
        }
        self.looked_at += count(before.len() + new.len());
        self.news_for(name, new)
    }

    /// Whom somebody knows and keeps out has changed: others see them otherwise now, or they see others again.
    pub fn circle_changed(&mut self, name: &PeerName, circle: Circle) -> Vec<News> {
        let Some(here) = self.here.get(name) else { return Vec::new() };
        let let_in: Vec<_> = here.circle.blocked.difference(&circle.blocked).cloned().collect();
        self.looked_at += count(let_in.len());
        let mut news = self.change(name, |all| all.set_circle(name, circle));
        news.extend(self.news_for(name, let_in));
        news
    }

    /// How somebody is, whoever asks.
    fn presence(&self, name: &PeerName) -> Presence {
        self.here.get(name).map_or(Presence::Offline, |here| here.presence)
    }

    /// How somebody is, as far as somebody else may see.
    #[must_use]
    pub fn presence_to(&self, asker: &PeerName, name: &PeerName) -> Presence {
        let visible = self.here.get(name).filter(|here| here.is_visible(name, asker));
        visible.map_or(Presence::Offline, |here| here.presence)
    }

    /// The first people of a listing, at most so many, by name, and whether there may be more.
    #[must_use]
    pub fn listed(&self, sought: Sought<'_>, limit: usize, now: UnixMillis) -> (Vec<Listed>, bool) {
        let pattern = sought.pattern.map(|pattern| pattern.as_str().to_ascii_lowercase()).unwrap_or_default();
        let names = (sought.after.map_or(Bound::Unbounded, Bound::Excluded), Bound::Unbounded);
        let fits = |name: &PeerName| name.as_str().contains(&pattern);
        let here = self.here.range::<PeerName, _>(names).filter(|(name, here)| here.is_visible(name, sought.by));
        let here = here.map(|(name, here)| Listed { name: name.clone(), presence: here.presence, left_at: None });
        let mut listed: Vec<_> = here.filter(|listed| fits(&listed.name)).take(limit + 1).collect();
        if sought.recent {
            let names = (names.0.cloned(), Bound::Unbounded);
            let left = self.recent.range(names, now).filter(|(name, _)| fits(name)).take(limit + 1);
            let presence = Presence::Offline;
            listed.extend(left.map(|(name, at)| Listed { name: name.clone(), presence, left_at: Some(at) }));
            listed.sort_by(|one, other| one.name.cmp(&other.name));
        }
        let more = listed.len() > limit;
        listed.truncate(limit);
        (listed, more)
    }

    /// Who hears what somebody with this circle says to everyone, and whether that is everyone who is here. Looks at
    /// everybody.
    #[must_use]
    pub fn listeners(&self, speaker: &PeerName, circle: &Circle) -> (Vec<PeerName>, bool) {
        let others = self.here.iter().filter(|(name, _)| *name != speaker);
        let (hear, do_not): (Vec<_>, Vec<_>) = others
            .partition(|(name, here)| circle.relation_to(name).is_open() && here.circle.relation_to(speaker).is_open());
        (hear.into_iter().map(|(name, _)| name.clone()).collect(), do_not.is_empty())
    }

    /// Whether so few people are here that everyone hears of everyone. Whoever hides from anybody is not counted: so
    /// nobody finds out by this that somebody hides from them. But not even with those are many told.
    #[must_use]
    pub fn is_small(&self) -> bool {
        self.open <= PRESENCE_TO_ALL_MAX && self.here.len() <= 2 * PRESENCE_TO_ALL_MAX
    }

    /// How many people were looked at so far to find out who is to be told of what.
    #[must_use]
    pub fn looked_at(&self) -> u64 {
        self.looked_at
    }

    /// Changes somebody, and finds whom that is news for: whoever heard of them before or hears of them now, unless they
    /// do both and the presence is the same.
    fn change(&mut self, name: &PeerName, change: impl FnOnce(&mut Self)) -> Vec<News> {
        let (before, was) = (self.hearers(name), self.presence(name));
        change(self);
        let (after, is) = (self.hearers(name), self.presence(name));
        let told: Vec<&PeerName> =
            if was == is { before.symmetric_difference(&after).collect() } else { before.union(&after).collect() };
        told.into_iter().map(|to| News { to: to.clone(), about: name.clone() }).collect()
    }

    /// Who hears of somebody.
    fn hearers(&mut self, name: &PeerName) -> BTreeSet<PeerName> {
        let Some(here) = self.here.get(name) else { return BTreeSet::new() };
        let candidates: Vec<&PeerName> = if self.is_small() {
            self.here.keys().collect()
        } else {
            here.circle.friends.iter().chain(self.watchers.get(name).into_iter().flatten()).collect()
        };
        self.looked_at += count(candidates.len());
        candidates.into_iter().filter(|viewer| self.hears(viewer, name)).cloned().collect()
    }

    fn hears(&self, viewer: &PeerName, name: &PeerName) -> bool {
        let (Some(viewing), Some(here)) = (self.here.get(viewer), self.here.get(name)) else { return false };
        let is_told = self.is_small() || here.circle.friends.contains(viewer) || viewing.watched.contains(name);
        is_told && viewer != name && !viewing.circle.blocked.contains(name) && here.is_visible(name, viewer)
    }

    /// News of these people, but of none that the person keeps out.
    fn news_for(&self, to: &PeerName, about: Vec<PeerName>) -> Vec<News> {
        let Some(here) = self.here.get(to) else { return Vec::new() };
        let wanted = about.into_iter().filter(|name| !here.circle.blocked.contains(name));
        wanted.map(|about| News { to: to.clone(), about }).collect()
    }

    fn unwatch(&mut self, viewer: &PeerName, name: &PeerName) {
        if let Some(watchers) = self.watchers.get_mut(name) {
            watchers.remove(viewer);
            if watchers.is_empty() {
                self.watchers.remove(name);
            }
        }
    }

    fn insert(&mut self, name: PeerName, circle: Circle) {
        self.open += usize::from(hides_from_nobody(&circle));
        self.here.insert(name, Here { presence: Presence::Online, circle, watched: BTreeSet::new() });
    }

    fn remove(&mut self, name: &PeerName) {
        if let Some(gone) = self.here.remove(name) {
            self.open -= usize::from(hides_from_nobody(&gone.circle));
        }
    }

    fn set_circle(&mut self, name: &PeerName, circle: Circle) {
        let Some(here) = self.here.get_mut(name) else { return };
        self.open += usize::from(hides_from_nobody(&circle));
        self.open -= usize::from(hides_from_nobody(&here.circle));
        here.circle = circle;
    }
}

impl Here {
    /// Whether somebody may see this person, who is called so. Everybody sees themselves.
    fn is_visible(&self, name: &PeerName, asker: &PeerName) -> bool {
        name == asker || self.circle.relation_to(asker).is_open()
    }
}

fn hides_from_nobody(circle: &Circle) -> bool {
    circle.audience == Audience::Everyone && circle.blocked.is_empty()
}

fn count(people: usize) -> u64 {
    u64::try_from(people).unwrap_or(u64::MAX)
}

#[cfg(test)]
#[path = "presence_tests.rs"]
mod tests;
