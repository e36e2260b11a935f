//! Which legacy names there are: whose they were, who is here, who is just coming or going. Knows no network and no clock.
//!
//! ```text
//! (unknown, or gone) --expect--> arriving --arrives--> here --leaves--> leaving --has_gone--> gone
//!                                    \--does_not_arrive------------------------------------------^
//! ```

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;

use super::records::Record;
use super::resident::{LegacyName, Resident};
use super::settings::Dialect;
use crate::peer::failure::Failure;
use crate::wire::ids::{PeerName, UnixMillis};
use crate::wire::limits::{
    LEGACY_BOUND_DAYS, LEGACY_NAMES_KNOWN_MAX, LEGACY_NAMES_MAX, LEGACY_NAMES_PER_SOURCE_MAX, LEGACY_NEW_NAMES_MAX,
};

const DAY_MILLIS: u64 = 24 * 3_600_000;

/// Why a name cannot be had.
#[derive(Debug, Clone)]
pub(super) enum NotIn {
    /// It is here already, and this is who it is.
    Here(Resident),
    /// It is on its way in or out: ask again.
    UnderWay,
    /// It belongs to somebody at another address, or with other programs.
    Elsewhere,
    /// Somebody with a key of their own has it.
    Taken,
    /// There is no room: at this address, or at all.
    Full,
    /// Something else.
    Failed(Failure),
}

impl fmt::Display for NotIn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Here(_) => f.write_str("this name is in use"),
            Self::UnderWay => f.write_str("this name is just coming or going: try again"),
            Self::Elsewhere => f.write_str("this name belongs to somebody at another address, or with other programs"),
            Self::Taken => f.write_str("this name belongs to somebody with a key of their own"),
            Self::Full => f.write_str("no more names fit: try again later"),
            Self::Failed(failure) => f.write_str(&failure.message),
        }
    }
}

/// By what somebody shows that a name is theirs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Claim {
    /// They come from where its owner came from.
    Address,
    /// They know its password.
    Password,
}

/// All names.
#[derive(Debug, Default)]
pub(super) struct Names {
    /// Everybody who was ever here; of those who are, as they were when they came: their resident knows better.
    known: BTreeMap<PeerName, Record>,
    here: BTreeMap<PeerName, Slot>,
}

#[derive(Debug)]
enum Slot {
    /// From which address it comes, and as it is written.
    Arriving {
        source: IpAddr,
        spelled: String,
    },
    Here(Resident),
    Leaving,
}

impl Names {
    /// Of everybody who was ever here; nobody is here yet.
    pub(super) fn new(known: impl IntoIterator<Item = (PeerName, Record)>) -> Self {
        Self { known: known.into_iter().collect(), here: BTreeMap::new() }
    }

    /// Everybody who was ever here.
    pub(super) fn known(&self) -> impl Iterator<Item = (PeerName, Record)> {
        self.known.iter().map(|(name, record)| (name.clone(), self.now(name, record)))
    }

    /// What is remembered of a name.
    pub(super) fn record(&self, name: &PeerName) -> Option<Record> {
        self.known.get(name).map(|record| self.now(name, record))
    }

    fn now(&self, name: &PeerName, record: &Record) -> Record {
        self.resident(name).map_or_else(|| record.clone(), |resident| resident.record_now())
    }

    /// How a name is written: as its owner does, if that is known.
    pub(super) fn spelled(&self, name: &PeerName) -> String {
        // Others may hear of somebody who arrives before the gateway does.
        if let Some(Slot::Arriving { spelled, .. }) = self.here.get(name) {
            return spelled.clone();
        }
        self.known.get(name).map_or_else(|| name.to_string(), |record| record.spelled.clone())
    }

    /// Who is here under a name.
    pub(super) fn resident(&self, name: &PeerName) -> Option<Resident> {
        match self.here.get(name) {
            Some(Slot::Here(resident)) => Some(resident.clone()),
            Some(Slot::Arriving { .. } | Slot::Leaving) | None => None,
        }
    }

    /// Everybody who is here.
    pub(super) fn residents(&self) -> impl Iterator<Item = Resident> {
        self.here.values().filter_map(|slot| match slot {
            Slot::Here(resident) => Some(resident.clone()),
            Slot::Arriving { .. } | Slot::Leaving => None,
        })
    }

    /// Keeps a name for whoever arrives under it, if it is free and there is room.
    pub(super) fn expect(
        &mut self,
        LegacyName { spelled, name }: &LegacyName,
        dialect: Dialect,
        source: IpAddr,
        claim: Claim,
        now: UnixMillis,
    ) -> Result<(), NotIn> {
        // First whose it is: strangers do not learn whether its owner is here.
        match self.known.get(name) {
            Some(known) if claim == Claim::Address && is_elsewhere(known, dialect, source, now) => {
                return Err(NotIn::Elsewhere);
            }
            None if self.known.len() >= LEGACY_NAMES_KNOWN_MAX => return Err(NotIn::Full),
            Some(_) | None => {}
        }
        match self.here.get(name) {
            Some(Slot::Here(resident)) => return Err(NotIn::Here(resident.clone())),
            Some(Slot::Arriving { .. } | Slot::Leaving) => return Err(NotIn::UnderWay),
            None => {}
        }
        let is_from_there = |slot: &&Slot| match slot {
            Slot::Arriving { source: from, .. } => *from == source,
            Slot::Here(resident) => resident.source() == source,
            Slot::Leaving => false,
        };
        let from_there = self.here.values().filter(is_from_there).count();
        let room = if self.known.contains_key(name) { LEGACY_NAMES_MAX } else { LEGACY_NEW_NAMES_MAX };
        if self.here.len() >= room || from_there >= LEGACY_NAMES_PER_SOURCE_MAX {
            return Err(NotIn::Full);
        }
        self.here.insert(name.clone(), Slot::Arriving { source, spelled: spelled.clone() });
        Ok(())
    }

    /// Whoever was expected is here.
    pub(super) fn arrives(&mut self, resident: &Resident) {
        self.known.insert(resident.name().clone(), resident.record_now());
        self.here.insert(resident.name().clone(), Slot::Here(resident.clone()));
    }

    /// Whoever was expected does not come.
    pub(super) fn does_not_arrive(&mut self, name: &PeerName) {
        self.here.remove(name);
    }

    /// Somebody is on their way out.
    pub(super) fn leaves(&mut self, resident: &Resident) {
        self.known.insert(resident.name().clone(), resident.record_now());
        self.here.insert(resident.name().clone(), Slot::Leaving);
    }

    /// Notes somebody who is known and not here.
    pub(super) fn remember(&mut self, resident: &Resident) {
        self.known.insert(resident.name().clone(), resident.record_now());
    }

    /// Forgets whose a name was.
    pub(super) fn forget(&mut self, name: &PeerName) {
        self.known.remove(name);
    }

    /// Forgets that a name is here, once its peer has ended.
    pub(super) fn has_gone(&mut self, name: &PeerName) {
        match self.here.get(name) {
            // It may be on its way in again by now.
            Some(Slot::Here(resident)) if !resident.has_ended() => {}
            Some(Slot::Here(resident)) => {
                self.known.insert(name.clone(), resident.record_now());
                self.here.remove(name);
            }
            Some(Slot::Leaving) => drop(self.here.remove(name)),
            Some(Slot::Arriving { .. }) | None => {}
        }
    }
}

/// Whether a name that is not here belongs to somebody else than who comes now.
fn is_elsewhere(known: &Record, dialect: Dialect, source: IpAddr, now: UnixMillis) -> bool {
    let is_stale = now.0.saturating_sub(known.last_here.0) > LEGACY_BOUND_DAYS * DAY_MILLIS;
    known.is_bound && !is_stale && (known.contact.ip != source || known.dialect != dialect)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compat::records::Contact;

    const NOW: UnixMillis = UnixMillis(1_700_000_000_000);

    fn expect(names: &mut Names, name: &str, source: [u8; 4]) -> Result<(), NotIn> {
        names.expect(&LegacyName::parse(name).unwrap(), Dialect::S3, source.into(), Claim::Address, NOW)
    }

    #[test]
    fn one_address_does_not_fill_the_house() {
        let mut names = Names::default();
        let (here, there) = ([127, 0, 0, 1], [127, 0, 0, 2]);
        for number in 0..LEGACY_NAMES_PER_SOURCE_MAX {
            expect(&mut names, &format!("n{number}"), here).unwrap();
        }
        assert!(matches!(expect(&mut names, "more", here), Err(NotIn::Full)));
        assert!(expect(&mut names, "other", there).is_ok());
        assert!(matches!(expect(&mut names, "N0", here), Err(NotIn::UnderWay)));
        names.does_not_arrive(&PeerName::parse("n0").unwrap());
        assert!(expect(&mut names, "n0", here).is_ok(), "who did not come in makes room");
    }

    #[test]
    fn there_is_room_left_for_those_who_come_back() {
        let record = Record {
            spelled: "old".to_owned(),
            dialect: Dialect::S3,
            contact: Contact { ip: [127, 0, 0, 1].into(), udp: None, tcp: None },
            is_here: false,
            is_bound: true,
            last_here: NOW,
            extra: serde_json::Value::Null,
        };
        let mut names = Names::new([(PeerName::parse("old").unwrap(), record)]);
        let come = |names: &mut Names, number: usize| {
            let source = [127, 0, 1, u8::try_from(number / LEGACY_NAMES_PER_SOURCE_MAX).unwrap()];
            expect(names, &format!("n{number}"), source).is_ok()
        };
        let new = (0..2 * LEGACY_NAMES_MAX).filter(|number| come(&mut names, *number)).count();
        assert_eq!(new, LEGACY_NEW_NAMES_MAX);
        assert!(expect(&mut names, "old", [127, 0, 0, 1]).is_ok());
    }

    #[test]
    fn a_name_is_bound_to_its_address_until_it_is_given_up_or_long_gone() {
        let record = |is_bound, days: u64| Record {
            spelled: "b".to_owned(),
            dialect: Dialect::S3,
            contact: Contact { ip: [127, 0, 0, 1].into(), udp: None, tcp: None },
            is_here: false,
            is_bound,
            last_here: UnixMillis(NOW.0 - days * DAY_MILLIS),
            extra: serde_json::Value::Null,
        };
        let is_free = |record: Record, dialect, source: [u8; 4], claim| {
            let b = LegacyName::parse("b").unwrap();
            let mut names = Names::new([(b.name.clone(), record)]);
            names.expect(&b, dialect, source.into(), claim, NOW).is_ok()
        };
        let (here, there) = ([127, 0, 0, 1], [127, 0, 0, 2]);
        assert!(is_free(record(true, 0), Dialect::S3, here, Claim::Address));
        assert!(!is_free(record(true, 0), Dialect::S3, there, Claim::Address));
        assert!(!is_free(record(true, 29), Dialect::S2, here, Claim::Address), "another program is somebody else");
        assert!(is_free(record(true, 0), Dialect::S2, there, Claim::Password));
        assert!(is_free(record(false, 0), Dialect::S2, there, Claim::Address));
        assert!(is_free(record(true, 31), Dialect::S3, there, Claim::Address));
    }
}
