//! Two places with a cable between them, for the suites that need a way that takes time: network namespaces as in the NAT
//! lab (`tests/nat`), in which this program runs once more.

pub(crate) mod people;
pub(crate) mod tcp;

#[path = "../../../tests/nat/cable.rs"]
#[expect(dead_code, reason = "the NAT lab uses the rest")]
pub(crate) mod cable;
#[path = "../../../tests/nat/namespaces.rs"]
#[expect(dead_code, reason = "the NAT lab uses the rest")]
mod namespaces;
#[path = "../../../tests/commands/program.rs"]
#[expect(dead_code, reason = "the tests of the commands use the rest")]
mod program;

use std::fs::File;
use std::io::Read as _;
use std::net::Ipv4Addr;
use std::process::Stdio;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::report::CannotRun;
use cable::Nature;
use namespaces::{Namespace, command_inside, what_is_missing};

/// Addresses that stand for the Internet (RFC 5737), so that nobody takes the other for a neighbour.
const NEAR: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 1);
const FAR: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 2);

/// Lets TCP have a gigabit for 50 ms under way, as it is set up where that is wanted, and not remember what it found out
/// about a way in the round before.
const TCP_SETTINGS: &str = "echo 4096 131072 67108864 > /proc/sys/net/ipv4/tcp_rmem\n\
                            echo 4096 131072 67108864 > /proc/sys/net/ipv4/tcp_wmem\n\
                            echo 1 > /proc/sys/net/ipv4/tcp_no_metrics_save\n";

/// As [`inside`], where there are to be [`Places`].
pub(crate) fn inside_with_places<T: DeserializeOwned>(what: &str, settings: &impl Serialize) -> anyhow::Result<T> {
    if let Err(error) = File::options().read(true).write(true).open("/dev/net/tun") {
        return Err(CannotRun(format!("/dev/net/tun, with which a slow link is made, cannot be used: {error}")).into());
    }
    inside(what, settings)
}

/// Runs this program once more, in namespaces of its own, with a word that names what it is to do and with settings. Gives
/// what it found. Everything it starts ends with it, its files too, which lie in memory.
pub(crate) fn inside<T: DeserializeOwned>(what: &str, settings: &impl Serialize) -> anyhow::Result<T> {
    if let Some(missing) = what_is_missing() {
        return Err(CannotRun(missing).into());
    }
    let mut inner = command_inside(&std::env::current_exe()?);
    inner.args([what, &serde_json::to_string(settings)?]).env("TMPDIR", "/run");
    // The other end of its input is ours alone: it ends with us.
    let mut inner = inner.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    let mut printed = String::new();
    inner.stdout.take().context("it has a standard output")?.read_to_string(&mut printed)?;
    ensure!(inner.wait()?.success(), "it failed in its namespaces: see above");
    serde_json::from_str(&printed).context("what was found in the namespaces is not told")
}

/// What the program that runs once more does: ends with the one that started it, and prints what a function finds.
pub(crate) fn tell<S: DeserializeOwned, T: Serialize>(
    settings: &str,
    find: impl FnOnce(S) -> anyhow::Result<T>,
) -> anyhow::Result<()> {
    thread::spawn(end_with_input);
    crate::say(&serde_json::to_string(&find(serde_json::from_str(settings)?)?)?);
    Ok(())
}

#[expect(clippy::exit, reason = "it is the first process of its namespaces, and ends all others in there")]
fn end_with_input() {
    drop(std::io::stdin().read_to_end(&mut Vec::new()));
    std::process::exit(1);
}

/// Two places; everything in them is gone when they are dropped.
pub(crate) struct Places {
    near: Namespace,
    far: Namespace,
}

impl Places {
    /// Connects both by a cable.
    pub(crate) fn connect(nature: Nature) -> Self {
        let places = Self { near: Namespace::new("near"), far: Namespace::new("far") };
        cable::lay([(&places.near, "wan"), (&places.far, "wan")], nature);
        for (place, address) in [(&places.near, NEAR), (&places.far, FAR)] {
            place.script(&format!(
                "{TCP_SETTINGS}ip link set lo up\nip link set wan up\nip address add {address}/24 dev wan\n"
            ));
        }
        places
    }
}

/// Megabits in a second.
pub(crate) fn megabits(bytes: u64, time: Duration) -> f64 {
    let kilobits = u32::try_from(bytes / 125).map_or(f64::NAN, f64::from);
    kilobits / 1e3 / time.as_secs_f64()
}
