//! Who is in somebody's table. There is room for about thirty people, so those come first whom they most likely look for.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::people::stand_in;
use super::room::Room;
use crate::clock::now_millis;
use crate::compat::dialect::s3::{Place, Table};
use crate::compat::records::Record;
use crate::compat::resident::Resident;
use crate::compat::settings::Dialect;
use crate::peer::failure::Failure;
use crate::wire::ids::{PeerName, UnixMillis};
use crate::wire::limits::S3_OTHERS_SHOWN_MAX;

/// Somebody with a program of this kind who left within a day is likely to come back.
const LATELY_MILLIS: u64 = 24 * 3_600_000;

/// Who comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    /// A program looks for itself.
    Itself,
    /// With a program of this kind, and here.
    Here,
    /// With one, and here lately: messages to them wait.
    Lately,
    /// Of another system, here, and talked to.
    TalkedTo,
    /// Of another system, and here.
    Other,
    /// Of another system, and talked to, and away.
    TalkedToAway,
    /// With a program of this kind, and away for long.
    Away,
}

/// Everybody whom somebody may see, as far as there is room; `server` is the address of this machine that they know.
pub(super) async fn of(room: &Room, reader: &Resident, server: Option<IpAddr>) -> Result<Table, Failure> {
    let online: BTreeSet<PeerName> = reader
        .people()
        .await?
        .into_iter()
        .filter(|person| person.presence.is_online())
        .map(|person| person.name)
        .collect();
    let talked_to: BTreeSet<PeerName> = reader.contacts().await?.into_iter().collect();
    let programs: BTreeMap<PeerName, Record> = room.gateway.known(Dialect::S3).into_iter().collect();
    let mut table = Table::default();
    let mut others = 0;
    for (rank, name) in ranked(reader.name(), &online, &talked_to, &programs) {
        let place = match programs.get(&name) {
            Some(record) => place_of(room, &name, record, rank <= Rank::Here),
            None if others >= S3_OTHERS_SHOWN_MAX => None,
            None => {
                others += 1;
                let ip = server.unwrap_or(room.ip).to_canonical().to_string();
                stand_in(room, &name).await.map(|(port, _)| Place { ip, port, online: rank != Rank::TalkedToAway })
            }
        };
        if let Some(place) = place
            && !table.add(room.gateway.spelled(&name), place)
        {
            break;
        }
    }
    Ok(table)
}

/// Where a program is, or was last.
fn place_of(room: &Room, name: &PeerName, record: &Record, online: bool) -> Option<Place> {
    let contact = room.gateway.resident(name).map_or(record.contact, |resident| resident.contact());
    contact.udp.map(|port| Place { ip: contact.ip.to_string(), port, online })
}

/// Everybody in the order in which they get a row.
fn ranked(
    reader: &PeerName,
    online: &BTreeSet<PeerName>,
    talked_to: &BTreeSet<PeerName>,
    programs: &BTreeMap<PeerName, Record>,
) -> Vec<(Rank, PeerName)> {
    let now = now_millis();
    let all: BTreeSet<&PeerName> = online.iter().chain(talked_to).chain(programs.keys()).chain([reader]).collect();
    let rank = |name: &PeerName| match (programs.get(name), online.contains(name)) {
        _ if name == reader => Rank::Itself,
        (Some(record), true) if record.is_here => Rank::Here,
        (Some(record), _) if was_lately(record, now) => Rank::Lately,
        (Some(_), _) => Rank::Away,
        (None, true) if talked_to.contains(name) => Rank::TalkedTo,
        (None, true) => Rank::Other,
        (None, false) => Rank::TalkedToAway,
    };
    let mut ranked: Vec<_> = all.into_iter().map(|name| (rank(name), name.clone())).collect();
    ranked.sort();
    ranked
}

fn was_lately(record: &Record, now: UnixMillis) -> bool {
    now.0.saturating_sub(record.last_here.0) <= LATELY_MILLIS
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compat::records::Contact;

    fn names(names: &[&str]) -> BTreeSet<PeerName> {
        names.iter().map(|name| PeerName::parse(name).unwrap()).collect()
    }

    fn program(name: &str, is_here: bool, last_here: UnixMillis) -> (PeerName, Record) {
        let contact = Contact { ip: [127, 0, 0, 1].into(), udp: Some(20_000), tcp: None };
        let record = Record {
            spelled: name.to_owned(),
            dialect: Dialect::S3,
            contact,
            is_here,
            is_bound: true,
            last_here,
            extra: serde_json::Value::Null,
        };
        (PeerName::parse(name).unwrap(), record)
    }

    #[test]
    fn those_come_first_whom_somebody_looks_for() {
        let now = now_millis();
        let programs = BTreeMap::from([
            program("z-me", true, now),
            program("b-here", true, now),
            program("a-gone", false, now),
            program("a-long-gone", false, UnixMillis(0)),
            // Of whom the reader may not know that they are here.
            program("a-unseen", true, now),
        ]);
        let online = names(&["z-me", "b-here", "c-friend", "c-stranger"]);
        let ranked =
            ranked(&PeerName::parse("z-me").unwrap(), &online, &names(&["c-friend", "c-away", "a-gone"]), &programs);
        let order: Vec<_> = ranked.iter().map(|(_, name)| name.as_str()).collect();
        let expected = ["z-me", "b-here", "a-gone", "a-unseen", "c-friend", "c-stranger", "c-away", "a-long-gone"];
        assert_eq!(order, expected);
    }
}
