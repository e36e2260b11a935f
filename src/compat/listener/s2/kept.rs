//! What the gateway keeps of each name of this dialect, across a crash too: which kind of program it uses, and its list of
//! files.

use serde::{Deserialize, Serialize};

use crate::compat::dialect::s2::Variant;
use crate::compat::resident::Resident;
use crate::peer::failure::Failure;

/// Files on one list: more would not fit an answer, and each costs a connection.
pub(super) const LISTED_MAX: usize = 64;

/// What is kept of a name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Kept {
    /// Which kind of program registered it.
    pub(super) variant: Variant,
    /// Its list, in the order in which it grew.
    pub(super) listed: Vec<Listed>,
}

/// A file on a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Listed {
    /// Its name.
    pub(super) name: String,
    /// Whether the gateway has it, and serves it to everybody else.
    pub(super) is_here: bool,
}

impl Kept {
    /// Of a name that has just registered.
    pub(super) fn new(variant: Variant) -> Self {
        Self { variant, listed: Vec::new() }
    }

    /// Of a resident of this dialect.
    pub(super) fn of(resident: &Resident) -> Option<Self> {
        serde_json::from_value(resident.extra()).ok()
    }

    /// As the gateway's records take it.
    pub(super) fn record(&self) -> serde_json::Value {
        // Texts, truth values and lists: there is nothing in it that JSON has no words for.
        serde_json::to_value(self).unwrap_or_default()
    }

    /// The names on its list.
    pub(super) fn names(&self) -> Vec<String> {
        self.listed.iter().map(|file| file.name.clone()).collect()
    }

    /// Whether a file is on its list.
    pub(super) fn lists(&self, name: &str) -> bool {
        self.listed.iter().any(|file| file.name == name)
    }

    /// The files that the gateway has yet to fetch.
    pub(super) fn missing(&self) -> Vec<String> {
        self.listed.iter().filter(|file| !file.is_here).map(|file| file.name.clone()).collect()
    }

    /// Puts a file on the list; one that is there already is fetched again.
    pub(super) fn add(&mut self, name: &str) {
        match self.listed.iter_mut().find(|file| file.name == name) {
            Some(file) => file.is_here = false,
            None => self.listed.push(Listed { name: name.to_owned(), is_here: false }),
        }
    }

    /// Takes a file off the list.
    pub(super) fn remove(&mut self, name: &str) {
        self.listed.retain(|file| file.name != name);
    }

    /// Notes that the gateway has a file that is on the list.
    pub(super) fn arrived(&mut self, name: &str) {
        if let Some(file) = self.listed.iter_mut().find(|file| file.name == name) {
            file.is_here = true;
        }
    }
}

/// Changes what is kept of a resident, on disk too.
pub(super) async fn change(resident: &Resident, change: impl FnOnce(&mut Kept)) -> Result<(), Failure> {
    resident
        .change(|record| {
            if let Ok(mut kept) = serde_json::from_value::<Kept>(record.extra.clone()) {
                change(&mut kept);
                record.extra = kept.record();
            }
        })
        .await
}
