//! A network that has nothing but loopback: whoever is started in it reaches nobody outside this machine, whatever it tries.

use std::ffi::OsStr;
use std::process::Command;

use super::installed;
use super::kept::{Kept, after};

/// A network namespace. It ends with the last program in it.
pub(crate) struct Loopback(Kept);

impl Loopback {
    /// Makes one, or says why there cannot be any here.
    pub(crate) fn make() -> Result<Self, String> {
        let [ip, ..] = installed::find_all(["ip", "unshare", "nsenter", "setpriv"])?;
        // In a user namespace, so that everybody may.
        let through = ["unshare", "--user", "--map-root-user", "--net"].map(str::to_owned);
        let mut holder = Command::new("sh");
        holder.args(["-c", r#""$0" link set lo up && echo ready && exec sleep infinity"#]).arg(ip);
        let made = Kept::start(&through, &holder).and_then(|kept| {
            kept.wait_for(|line| (line == "ready").then_some(()))?;
            Ok(kept)
        });
        made.map(Self).map_err(|error| format!("there is no network namespace for it: {error:#}"))
    }

    /// What starts a program in it.
    pub(crate) fn enter(&self) -> Vec<String> {
        let holder = self.0.id().to_string();
        ["nsenter", "--preserve-credentials", "--user", "--net", "--target", &holder].map(str::to_owned).to_vec()
    }

    /// A program as it is started in it.
    pub(crate) fn with(&self, program: &Command) -> Command {
        let words = self.enter();
        after(&words.iter().map(OsStr::new).collect::<Vec<_>>(), program)
    }
}
