//! Lets sides have their turns, and says what was measured of each.

use std::path::Path;

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

use super::room::{self, Room};
use super::side::{Run, Side};
use crate::figures::{Row, Spread};

/// What was measured of one side.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Measured {
    pub(crate) name: String,
    pub(crate) is_peer: bool,
    /// Empty folders that it did not bring.
    pub(crate) folders_missing: usize,
    /// What else has to be known of what it has fetched.
    pub(crate) remark: Option<String>,
    runs: Vec<Run>,
}

impl Measured {
    fn nothing_of(side: &dyn Side) -> Self {
        Self {
            name: side.name().to_owned(),
            is_peer: side.is_peer(),
            folders_missing: 0,
            remark: None,
            runs: Vec::new(),
        }
    }

    /// How many times as much another side takes, round by round: what slows the machine down for a while slows both.
    pub(crate) fn ratio(&self, to: &Self, of: impl Fn(&Run) -> f64) -> Spread {
        Spread::of(self.runs.iter().zip(&to.runs).map(|(this, other)| of(this) / of(other)))
    }

    /// In time, whole processes.
    pub(crate) fn times_slower(&self, than: &Self) -> Spread {
        self.ratio(than, |run| run.used.seconds)
    }
}

/// Lets every side fetch in turn, so many times; another one begins each round. What the first round brings is compared byte
/// by byte, and not counted.
pub(crate) fn interleave(
    room: &Room,
    rounds: usize,
    sides: &mut [Box<dyn Side + '_>],
    original: &Path,
) -> anyhow::Result<Vec<Measured>> {
    let mut measured: Vec<Measured> = sides.iter().map(|side| Measured::nothing_of(side.as_ref())).collect();
    for round in 0..=rounds {
        for turn in 0..sides.len() {
            let turn = (round + turn) % sides.len();
            let (side, measured) = (&mut sides[turn], &mut measured[turn]);
            let target = tempfile::tempdir_in(room.path())?;
            room.warm_up(original)?;
            let run = side.fetch(target.path()).with_context(|| side.name())?;
            if round == 0 {
                let name = original.file_name().context("what is fetched has a name")?;
                let compared = room::compare(original, &target.path().join(name));
                measured.folders_missing = compared.with_context(|| side.name())?;
            } else {
                measured.runs.push(run);
            }
            target.close()?;
        }
    }
    for (side, measured) in sides.iter().zip(&mut measured) {
        measured.remark = side.remark();
    }
    Ok(measured)
}

/// One row for each side; the program itself is the first.
pub(crate) fn rows(measured: &[Measured]) -> Vec<Row> {
    let row = |side: &Measured| {
        let spread = |of: fn(&Run) -> f64| Spread::of(side.runs.iter().map(of));
        let transfer: Option<Vec<f64>> = side.runs.iter().map(|run| run.transfer_seconds).collect();
        let figures = vec![
            ("s", spread(|run| run.used.seconds)),
            ("x of qchat", side.times_slower(&measured[0])),
            ("s of it transfer", Spread::of(transfer.unwrap_or_default())),
            ("CPU s, both", spread(Run::cpu_seconds)),
            ("x of qchat", side.ratio(&measured[0], Run::cpu_seconds)),
            ("receiver's MiB", spread(|run| run.used.peak_mib)),
        ];
        Row { variant: side.name.clone(), figures }
    };
    measured.iter().map(row).collect()
}
