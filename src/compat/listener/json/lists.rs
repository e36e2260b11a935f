//! Who is here and what they publish, as one name may see it. Everybody is reached through this door, so nobody's own
//! address is in a list.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use serde_json::{Value, json};

use super::entrance::address_of;
use super::{Call, Shared, uploads};
use crate::compat::dialect::json::answer::Answer;
use crate::compat::dialect::json::chunks::cut;
use crate::compat::python_json::dumps;
use crate::compat::resident::Resident;
use crate::compat::settings::Dialect;
use crate::peer::event::Event;
use crate::peer::failure::{Failure, FailureKind};
use crate::peer::handle::Command;
use crate::peer::rows::ProfileRow;
use crate::wire::ids::PeerName;

/// Files in one row, as JSON: who has more has several rows.
const ROW_BYTES_MAX: usize = 500;

impl Shared {
    /// Everybody with their files.
    pub(super) async fn everybody(&self, call: &Call, resident: &Resident, after: u32) -> Result<Answer, Failure> {
        let files = self.files_by_owner(resident).await?;
        let mut rows = Vec::new();
        for name in self.people(resident).await? {
            let none = BTreeSet::new();
            rows.extend(self.rows_of(call, &name, files.get(&name).unwrap_or(&none)));
        }
        Ok(self.page(Answer::new("RETRIEVE"), &rows, after, call))
    }

    /// One person with their files.
    pub(super) async fn one_person(
        &self,
        call: &Call,
        resident: &Resident,
        name: &PeerName,
        after: u32,
    ) -> Result<Answer, Failure> {
        let answer = self.location(call, resident, "RETRIEVE-INFOT", name).await?;
        let files = self.files_by_owner(resident).await?.remove(name).unwrap_or_default();
        let rows: Vec<Value> = files.into_iter().map(Value::from).collect();
        Ok(self.page(answer, &rows, after, call))
    }

    /// Who has a file.
    pub(super) async fn owners(
        &self,
        call: &Call,
        resident: &Resident,
        file: &str,
        after: u32,
    ) -> Result<Answer, String> {
        let files = self.files_by_owner(resident).await.map_err(|failure| failure.message)?;
        let owners = files.iter().filter(|(_, files)| files.contains(file));
        let rows: Vec<Value> = owners.flat_map(|(owner, _)| self.rows_of(call, owner, &BTreeSet::new())).collect();
        if rows.is_empty() {
            return Err(format!("nobody who is here has a file named {file}"));
        }
        Ok(self.page(Answer::new("SEARCH-FILE").with("filename", file), &rows, after, call))
    }

    /// The names of those who are here.
    pub(super) async fn names(
        &self,
        call: &Call,
        resident: &Resident,
        kind: &'static str,
        after: u32,
    ) -> Result<Answer, Failure> {
        let people = self.people(resident).await?;
        let rows: Vec<Value> = people.iter().map(|name| self.gateway.spelled(name).into()).collect();
        Ok(self.page(Answer::new(kind), &rows, after, call))
    }

    /// Where somebody is reached, if they are here: at this door.
    pub(super) async fn location(
        &self,
        call: &Call,
        resident: &Resident,
        kind: &'static str,
        name: &PeerName,
    ) -> Result<Answer, Failure> {
        if !self.people(resident).await?.contains(name) {
            return Err(Failure::new(FailureKind::Offline, format!("{name} is not here")));
        }
        let answer = Answer::new(kind).with("name", self.gateway.spelled(name));
        Ok(answer.with("ip", self.own_ip(call).to_string()).with("udp", self.address.port()))
    }

    /// What somebody says about themselves, in rows of label and text; a long text has several rows.
    pub(super) async fn profile(
        &self,
        call: &Call,
        resident: &Resident,
        command: Command,
        after: u32,
    ) -> Result<Answer, Failure> {
        let rows = resident.ask(command).await?;
        let profile = |row| if let Event::Profile(profile) = row { Some(profile) } else { None };
        let Some(profile) = rows.into_iter().find_map(profile) else {
            return Err(Failure::new(FailureKind::Other, "there is no such profile"));
        };
        let answer = Answer::new("PROFILE").with("name", self.gateway.spelled(&profile.name));
        Ok(self.page(answer.with("version", profile.version), &profile_rows(*profile), after, call))
    }

    /// The address that somebody is told who was allowed to know it.
    pub(super) fn address_told_of(&self, name: &PeerName) -> (IpAddr, u16) {
        let resident = self.gateway.resident(name).filter(|resident| resident.dialect() == Dialect::Json);
        let own = resident.as_ref().and_then(address_of);
        // Who uses no program of this kind is spoken to through here.
        own.map_or((self.address.ip(), self.address.port()), |address| (address.ip(), address.port()))
    }

    /// Who is here, in the order of their names.
    async fn people(&self, resident: &Resident) -> Result<BTreeSet<PeerName>, Failure> {
        let people = resident.people().await?.into_iter();
        let mut here: BTreeSet<_> =
            people.filter(|person| person.presence.is_online()).map(|person| person.name).collect();
        here.insert(resident.name().clone());
        Ok(here)
    }

    /// The files of everybody whom a name sees, those that were promised and have not come yet included.
    async fn files_by_owner(&self, resident: &Resident) -> Result<BTreeMap<PeerName, BTreeSet<String>>, Failure> {
        let mut files = BTreeMap::<_, BTreeSet<String>>::new();
        for file in resident.files("").await?.into_iter().filter(|file| file.is_online) {
            files.entry(file.owner).or_default().insert(file.name.as_str().to_owned());
        }
        let own = resident.published().await?.into_iter().map(|name| name.as_str().to_owned());
        files.entry(resident.name().clone()).or_default().extend(own);
        for name in self.people(resident).await? {
            if let Some(other) = self.gateway.resident(&name).filter(|other| other.dialect() == Dialect::Json) {
                files.entry(name).or_default().extend(uploads::promised(&other));
            }
        }
        Ok(files)
    }

    fn rows_of(&self, call: &Call, name: &PeerName, files: &BTreeSet<String>) -> Vec<Value> {
        let (ip, udp) = (self.own_ip(call).to_string(), self.address.port());
        let mut groups: Vec<Vec<&String>> = vec![Vec::new()];
        let mut bytes = 0;
        for file in files {
            let more = dumps(file).len() + 2;
            if bytes > 0 && bytes + more > ROW_BYTES_MAX {
                groups.push(Vec::new());
                bytes = 0;
            }
            bytes += more;
            if let Some(group) = groups.last_mut() {
                group.push(file);
            }
        }
        let name = self.gateway.spelled(name);
        groups.into_iter().map(|files| json!({ "name": name, "ip": ip, "udp": udp, "files": files })).collect()
    }

    fn page(&self, answer: Answer, rows: &[Value], after: u32, call: &Call) -> Answer {
        answer.with_page("list", rows, after, call.keys, call.number.as_ref())
    }

    /// This machine's address as whoever asks sees it.
    fn own_ip(&self, call: &Call) -> IpAddr {
        call.to.map_or(self.address.ip(), |ip| ip.to_canonical())
    }
}

fn profile_rows(profile: ProfileRow) -> Vec<Value> {
    let parts = [("name".to_owned(), profile.display_name), ("info".to_owned(), profile.info)];
    let parts = parts.into_iter().filter_map(|(label, text)| Some((label, text?)));
    let rows = parts.chain(profile.fields).flat_map(|(label, text)| {
        let pieces = cut(&text, ROW_BYTES_MAX);
        pieces.into_iter().map(move |piece| json!([label, piece]))
    });
    rows.collect()
}
