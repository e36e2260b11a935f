//! cp: what it takes to make a copy without any network.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::side::{Run, Side};
use crate::process::measured;

/// `cp -r` of one file or folder.
pub(crate) struct Copy {
    pub(crate) path: PathBuf,
}

impl Side for Copy {
    fn name(&self) -> &'static str {
        "cp"
    }

    fn is_peer(&self) -> bool {
        false
    }

    fn fetch(&mut self, into: &Path) -> anyhow::Result<Run> {
        let (used, _) = measured::run(Command::new("cp").arg("-r").arg(&self.path).arg(into))?;
        Ok(Run { used, transfer_seconds: None, others_cpu_seconds: 0.0 })
    }
}
