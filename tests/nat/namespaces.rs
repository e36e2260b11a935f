//! Namespaces: those that a program is the first process of, so that its end is the end of everything it started and
//! nothing is left behind on this machine; and in those, networks with a name each.

use std::ffi::OsString;
use std::io::Write as _;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::process::geteuid;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// The programs that the lab is made with, and the Debian packages that have them.
const TOOLS: &[(&str, &str)] = &[
    ("unshare", "util-linux"),
    ("nsenter", "util-linux"),
    ("mount", "mount"),
    ("ip", "iproute2"),
    ("tc", "iproute2"),
    ("nft", "nftables"),
];

/// Everything that the lab does to a machine, in small.
const REHEARSAL: &str = "mount -t tmpfs tmpfs /run && ip netns add rehearsal && \
                         nsenter --net=/run/netns/rehearsal nft add table ip nat";

/// `ip netns` keeps its names in /run: ours lie in one that nobody else sees.
const OWN_RUN: &str = "mount -t tmpfs tmpfs /run && exec \"$0\" \"$@\"";

/// A program as the first process of namespaces of its own; arguments can follow.
pub(crate) fn command_inside(program: &Path) -> Command {
    let mut inner = unshare();
    inner.args(["sh", "-c", OWN_RUN]).arg(program);
    inner
}

/// Starts a command as the first process of namespaces of its own.
fn unshare() -> Command {
    let mut command = Command::new("unshare");
    // Where user namespaces are not allowed, root needs none.
    command.arg(if geteuid().is_root() { "-nmpf" } else { "-Urnmpf" });
    command.args(["--kill-child", "--mount-proc"]).env("PATH", path_of_tools());
    command
}

/// Why this machine cannot make such namespaces, and what to do about it; `None` when it can.
pub(crate) fn what_is_missing() -> Option<String> {
    let folders: Vec<PathBuf> = std::env::split_paths(&path_of_tools()).collect();
    let has = |tool: &str| folders.iter().any(|folder| folder.join(tool).is_file());
    if let Some((tool, package)) = TOOLS.iter().find(|(tool, _)| !has(tool)) {
        return Some(format!("{tool} is missing, with which networks are made: apt-get install {package}"));
    }
    let rehearsal = unshare().args(["sh", "-c", REHEARSAL]).output().expect("unshare is there");
    (!rehearsal.status.success()).then(|| {
        format!(
            "this machine does not let anybody make network namespaces with nftables ({}): run it as root, or allow user \
             namespaces (sysctl kernel.unprivileged_userns_clone=1, kernel.apparmor_restrict_unprivileged_userns=0); in a \
             container: --privileged",
            String::from_utf8_lossy(&rehearsal.stderr).trim()
        )
    })
}

/// Users other than root often do not have the folders of administration.
fn path_of_tools() -> OsString {
    let mut path = std::env::var_os("PATH").unwrap_or_default();
    path.push(":/usr/sbin:/sbin:/usr/bin:/bin");
    path
}

/// A network namespace with a name; deleted, with all that is in it, when it is dropped.
#[derive(Debug)]
pub(crate) struct Namespace {
    name: String,
}

impl Namespace {
    pub(crate) fn new(name: &str) -> Self {
        run(Command::new("ip").args(["netns", "add", name]), "");
        Self { name: name.to_owned() }
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    fn path(&self) -> PathBuf {
        PathBuf::from("/run/netns").join(&self.name)
    }

    /// A command that runs a program in here; arguments can follow.
    pub(crate) fn command(&self, program: &str) -> Command {
        let mut net = OsString::from("--net=");
        net.push(self.path());
        let mut command = Command::new("nsenter");
        command.arg(net).arg(program);
        command
    }

    /// Runs a shell script in here, which must work.
    #[track_caller]
    pub(crate) fn script(&self, script: &str) -> String {
        run(self.command("sh").arg("-eu"), script)
    }

    /// What a function makes on a thread in here: a socket belongs to the namespace it was made in.
    pub(crate) fn within<T: Send>(&self, make: impl FnOnce() -> T + Send) -> T {
        let namespace = std::fs::File::open(self.path()).expect("it is there until we are dropped");
        std::thread::scope(|threads| {
            let entered = threads.spawn(move || {
                move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))
                    .expect("root of these namespaces may enter them");
                make()
            });
            entered.join().expect("it made what it was asked for")
        })
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // At the end of the test everything goes anyway.
        drop(Command::new("ip").args(["netns", "delete", &self.name]).status());
    }
}

/// Runs a command that must work, and gives what it printed.
#[track_caller]
fn run(command: &mut Command, input: &str) -> String {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the tools were looked for");
    let mut stdin = child.stdin.take().expect("it is piped");
    stdin.write_all(input.as_bytes()).expect("it reads its input");
    drop(stdin);
    let output = child.wait_with_output().expect("it is ours");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?} failed:\n{stderr}\n{input}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}
