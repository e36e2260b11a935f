//! What a suite found: tables, figures with bounds, plots, and what has to be said with them.

use std::fmt::{self, Write as _};

use serde::Serialize;
use serde_json::{Value, json};

use crate::bounds::Bound;
use crate::figures::{Machine, Row, table};
use crate::plot::Plot;

/// Goes before the lines of the bounds.
pub(crate) const HEADING: &str = "\nGates and goals\n\n";

/// All that one run of a suite found.
#[derive(Debug, Default)]
pub(crate) struct Report {
    /// How much, how often and how long.
    pub(crate) settings: Value,
    /// What has to be known to read it: where files lay, who is absent.
    pub(crate) notes: Vec<String>,
    pub(crate) tables: Vec<Table>,
    pub(crate) bounds: Vec<Bound>,
    pub(crate) plots: Vec<Plot>,
}

/// Why a suite cannot run on this machine: it is left out when nobody named it.
#[derive(Debug)]
pub(crate) struct CannotRun(pub(crate) String);

impl fmt::Display for CannotRun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for CannotRun {}

/// Rows under a heading.
#[derive(Debug, Serialize)]
pub(crate) struct Table {
    pub(crate) title: String,
    pub(crate) rows: Vec<Row>,
}

impl Report {
    pub(crate) fn new(settings: impl Serialize) -> Self {
        Self { settings: json!(settings), ..Self::default() }
    }

    pub(crate) fn note(&mut self, note: impl Into<String>) {
        self.notes.push(note.into());
    }

    pub(crate) fn table(&mut self, title: impl Into<String>, rows: Vec<Row>) {
        self.tables.push(Table { title: title.into(), rows });
    }

    pub(crate) fn all_hold(&self) -> bool {
        self.bounds.iter().all(Bound::holds)
    }

    /// For people.
    pub(crate) fn to_text(&self, machine: &Machine) -> String {
        let mut text = format!("{machine}\n");
        for note in &self.notes {
            text.push_str(note);
            text.push('\n');
        }
        for (number, Table { title, rows }) in self.tables.iter().enumerate() {
            writeln!(text, "\n{}. {title}\n\n{}", number + 1, table(rows).trim_end()).expect("a string takes all");
        }
        if !self.bounds.is_empty() {
            text.push_str(HEADING);
        }
        for bound in &self.bounds {
            writeln!(text, "{bound}").expect("a string takes all");
        }
        text
    }

    /// For programs.
    pub(crate) fn to_json(&self, suite: &str, machine: &Machine) -> Value {
        let Self { settings, notes, tables, bounds, .. } = self;
        json!({
            "suite": suite, "machine": machine, "settings": settings, "notes": notes, "tables": tables,
            "bounds": bounds, "all_hold": self.all_hold(),
        })
    }
}
