//! Runs a test in namespaces of its own: the test binary starts itself again below `unshare`, as the first process there,
//! so that its end is the end of everything it started, and nothing is left behind on this machine.

use std::ffi::OsString;
use std::io::Write as _;
use std::os::fd::AsFd as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use rustix::process::geteuid;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// Set in the inner process.
const INSIDE: &str = "NAT_LAB_INSIDE";

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

/// Tests whose bodies run in namespaces of their own.
macro_rules! lab_tests {
    ($($(#[$attribute:meta])* $name:ident => $body:expr;)*) => {
        $(
            #[test]
            $(#[$attribute])*
            fn $name() {
                $crate::namespaces::inside(concat!(module_path!(), "::", stringify!($name)), || $body);
            }
        )*
    };
}

/// Runs the body of the test with this path in namespaces of its own.
pub(crate) fn inside(test: &str, body: impl FnOnce()) {
    if std::env::var_os(INSIDE).is_some() {
        return body();
    }
    require_the_tools();
    require_namespaces();
    let (_crate, test) = test.split_once("::").expect("a test is in a module");
    let itself = std::env::current_exe().expect("the test binary has a path");
    let mut inner = unshare();
    inner.args(["sh", "-c", OWN_RUN]).arg(itself);
    inner.args([test, "--exact", "--nocapture", "--include-ignored"]).env(INSIDE, "1");
    let status = inner.status().expect("unshare starts, as it just did");
    assert!(status.success(), "the test failed in its namespaces: see above");
}

/// Starts a command as the first process of namespaces of its own.
fn unshare() -> Command {
    let mut command = Command::new("unshare");
    // Where user namespaces are not allowed, root needs none.
    command.arg(if geteuid().is_root() { "-nmpf" } else { "-Urnmpf" });
    command.args(["--kill-child", "--mount-proc"]).env("PATH", path_of_tools());
    command
}

fn require_the_tools() {
    let folders: Vec<PathBuf> = std::env::split_paths(&path_of_tools()).collect();
    let has = |tool: &str| folders.iter().any(|folder| folder.join(tool).is_file());
    for (tool, package) in TOOLS {
        assert!(has(tool), "{tool} is missing, with which the NAT lab is made: apt-get install {package}");
    }
}

fn require_namespaces() {
    let rehearsal = unshare().args(["sh", "-c", REHEARSAL]).output().expect("unshare is there");
    assert!(
        rehearsal.status.success(),
        "this machine does not let the NAT lab make network namespaces with nftables:\n{}\
         run as root, or allow user namespaces (sysctl kernel.unprivileged_userns_clone=1, \
         kernel.apparmor_restrict_unprivileged_userns=0); in a container: --privileged",
        String::from_utf8_lossy(&rehearsal.stderr)
    );
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
