//! Who is shown to whom, where they are reached, and with which files. What somebody may see is what their own resident
//! sees.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use tokio::time::timeout;

use super::Service;
use super::kept::Kept;
use crate::compat::dialect::s2::Variant;
use crate::compat::dialect::s2::answers::Row;
use crate::compat::resident::Resident;
use crate::compat::settings::Dialect;
use crate::wire::ids::PeerName;
use crate::wire::limits::LEGACY_FILE_BYTES_MAX;

/// How long the directory may take: A waits for 3 s.
const PATIENCE: Duration = Duration::from_millis(2_500);

/// People of other systems in one table: an answer holds fewer, and each takes a port.
const OTHERS_MAX: usize = 64;

/// Files of each of them.
const FILES_MAX: usize = 64;

/// What one resident sees at a moment.
#[derive(Debug)]
pub(super) struct View {
    variant: Variant,
    people: BTreeSet<PeerName>,
    /// Files that are served now and that programs of this kind can take.
    files: BTreeMap<PeerName, Vec<String>>,
    /// Where the programs at its machine reach the gateway.
    gateway: IpAddr,
}

impl Service {
    /// What somebody sees: everybody who is here, and what they publish with a text in its name.
    ///
    /// # Errors
    /// A sentence when the directory does not say.
    pub(super) async fn view(&self, asker: &Resident, pattern: &str, gateway: IpAddr) -> Result<View, String> {
        let variant = Kept::of(asker).map_or(Variant::K, |kept| kept.variant);
        let both = async { tokio::try_join!(asker.people(), asker.files(pattern)) };
        let (people, found) = match timeout(PATIENCE, both).await {
            Ok(Ok(both)) => both,
            Ok(Err(failure)) => return Err(failure.message),
            Err(_) => return Err("the directory does not answer: try again".to_owned()),
        };
        let here = people.into_iter().filter(|person| person.presence.is_online()).map(|person| person.name);
        let people = here.chain([asker.name().clone()]).collect();
        let bytes_max = variant.file_characters_max().map_or(LEGACY_FILE_BYTES_MAX, |characters| 4 * characters);
        let bytes_max = u64::try_from(bytes_max).unwrap_or(u64::MAX);
        let mut files: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for file in found.into_iter().filter(|file| file.is_online && file.size <= bytes_max) {
            let of_owner = files.entry(file.owner).or_default();
            if of_owner.len() < FILES_MAX {
                of_owner.push(file.name.as_str().to_owned());
            }
        }
        Ok(View { variant, people, files, gateway })
    }

    /// Everybody in a view: those of this dialect who have files, others who have files, then the rest of this dialect.
    pub(super) async fn everybody(&self, view: &View) -> Vec<Row> {
        let mut rows = Vec::new();
        for resident in self.residents(view) {
            rows.extend(self.resident_row(view, &resident).await);
        }
        let without_files = rows.extract_if(.., |row| row.files.is_empty()).collect::<Vec<_>>();
        let owners: Vec<_> = view.files.keys().filter(|owner| self.is_other(view, owner)).collect();
        for owner in owners.into_iter().take(OTHERS_MAX) {
            rows.extend(self.other_row(view, owner).await);
        }
        rows.extend(without_files);
        rows
    }

    /// One person in a view, with files or without.
    pub(super) async fn person(&self, view: &View, name: &PeerName) -> Option<Row> {
        match self.residents(view).into_iter().find(|resident| resident.name() == name) {
            Some(resident) => self.resident_row(view, &resident).await,
            None if view.people.contains(name) => self.other_row(view, name).await,
            None => None,
        }
    }

    /// Who in a view has a file of this very name.
    pub(super) async fn owners(&self, view: &View, file: &str) -> Vec<Row> {
        let mut rows = Vec::new();
        for resident in self.residents(view) {
            if Kept::of(&resident).is_some_and(|kept| kept.lists(file)) {
                rows.extend(self.resident_row(view, &resident).await);
            }
        }
        let has_it = |files: &[String]| files.iter().any(|name| name == file);
        let owners = view.files.iter().filter(|(owner, files)| has_it(files) && self.is_other(view, owner));
        let owners: Vec<_> = owners.map(|(owner, _)| owner).take(OTHERS_MAX).collect();
        for owner in owners {
            rows.extend(self.other_row(view, owner).await);
        }
        rows
    }

    /// Who in a view registered with this dialect.
    fn residents(&self, view: &View) -> Vec<Resident> {
        let residents = self.gateway.residents(Dialect::S2).into_iter();
        residents.filter(|resident| view.people.contains(resident.name())).collect()
    }

    /// Whether somebody in a view uses something else than this dialect.
    fn is_other(&self, view: &View, name: &PeerName) -> bool {
        let is_of_this_dialect = |resident: Resident| resident.dialect() == Dialect::S2;
        view.people.contains(name) && !self.gateway.resident(name).is_some_and(is_of_this_dialect)
    }

    /// Somebody of this dialect. Programs of one kind reach each other; for the others a port stands in, because they would
    /// not understand each other.
    async fn resident_row(&self, view: &View, resident: &Resident) -> Option<Row> {
        let kept = Kept::of(resident)?;
        let (name, files, contact) = (resident.spelled().to_owned(), kept.names(), resident.contact());
        if let (Some(udp), Some(tcp)) = (contact.udp, contact.tcp)
            && kept.variant == view.variant
        {
            return Some(Row { name, ip: contact.ip, udp, tcp, files });
        }
        let tcp = self.stand_in(resident.name()).await?;
        Some(Row { name, ip: view.gateway, udp: self.address.port(), tcp, files })
    }

    /// Somebody else.
    async fn other_row(&self, view: &View, name: &PeerName) -> Option<Row> {
        let tcp = self.stand_in(name).await?;
        let files = view.files.get(name).cloned().unwrap_or_default();
        Some(Row { name: self.gateway.spelled(name), ip: view.gateway, udp: self.address.port(), tcp, files })
    }
}
