//! A way to move a file or folder from one process to another, and what it took.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::process::measured::Used;

/// One of the ways that are measured side by side: whoever sends waits already, whoever receives is a new process.
pub(crate) trait Side {
    /// What it is called in the table.
    fn name(&self) -> &'static str;

    /// Whether it is what people would pick instead: one program for two machines that nobody in between can read along with.
    fn is_peer(&self) -> bool {
        true
    }

    /// What else has to be known of what it has fetched so far.
    fn remark(&self) -> Option<String> {
        None
    }

    /// Fetches it into an empty folder.
    fn fetch(&mut self, into: &Path) -> anyhow::Result<Run>;
}

/// What one transfer took.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Run {
    /// By the receiver.
    pub(crate) used: Used,
    /// As the receiver says, from opening the connection to the final name.
    pub(crate) transfer_seconds: Option<f64>,
    /// By the sender, and who else has to do with it.
    pub(crate) others_cpu_seconds: f64,
}

impl Run {
    pub(crate) fn cpu_seconds(&self) -> f64 {
        self.used.cpu_seconds + self.others_cpu_seconds
    }
}
