//! The command line as clap reads it: words and flags, nothing decided yet.

use std::path::PathBuf;

use clap::{ArgAction, Args as ClapArgs, Parser, Subcommand, ValueEnum};

use super::exit;
use super::operator_args::{Admin, Serve};
use super::settings::ServerAddress;
use super::transfers::{Accept, WhichOffer, WhichTransfer};
use super::words::{DEFAULT_TERM, audience_of, shared_name, term_of};
use super::{sizes, times};
use crate::peer::handle::Term;
use crate::storage::history::{Before, id_beginning};
use crate::storage::partial_file::Collision;
use crate::storage::receive_tree::Executable;
use crate::storage::walk::Filter;
use crate::wire::ids::{FileName, PeerName};
use crate::wire::people::Audience;

/// Chat and file sharing between people, directly and end to end encrypted, over QUIC.
///
/// Start with `qchat demo`. To talk to somebody, one of you runs a directory (`qchat serve --cert certs/`),
/// then each of you runs `qchat peer --user NAME --server HOST`.
#[derive(Debug, Parser)]
#[command(name = "qchat", version, max_term_width = 100, after_help = exit::TABLE, arg_required_else_help = true)]
pub(super) struct Args {
    #[command(flatten)]
    pub(super) look: Look,
    #[command(subcommand)]
    pub(super) verb: Verb,
}

/// How output looks.
#[derive(Debug, Clone, ClapArgs)]
pub(super) struct Look {
    /// Print one JSON object per line on standard output.
    #[arg(long, global = true)]
    pub(super) json: bool,
    /// No progress and no talk, only data and errors.
    #[arg(long, short, global = true)]
    pub(super) quiet: bool,
    /// Log to standard error: -v what happens, -vv all steps (or QCHAT_DEBUG=debug).
    #[arg(long, short, global = true, action = ArgAction::Count)]
    pub(super) verbose: u8,
    /// Colour: on a terminal, always or never.
    #[arg(long, global = true, value_enum, default_value_t = Color::Auto)]
    pub(super) color: Color,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Color {
    Auto,
    Always,
    Never,
}

#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// Run a directory: it knows who is who and who is online, and keeps what waits.
    Serve(Serve),
    /// Run your peer: chat, share and receive until you quit.
    Peer(Peer),
    /// See it work: a directory and two people on this machine, who chat and send a file.
    Demo(Demo),
    /// Find out why something does not work: what is in the way to your directory, and what to do.
    Doctor(Doctor),
    /// List who is online.
    Who(Who),
    /// Say how others shall see you while your peer runs.
    Presence(PresenceArgs),
    /// Say something to everyone who is online; the directory can read it.
    Broadcast(Broadcast),
    /// Search for shared files.
    Find(Find),
    /// Publish files and folders; they are served while your peer runs.
    Share(Share),
    /// Take published files back.
    Unshare(Unshare),
    /// List what you publish.
    Shared(Shared),
    /// Send a message; it waits when the recipient is offline.
    Msg(Msg),
    /// Show what waits for you and what no screen has shown yet.
    Inbox(Inbox),
    /// Show what was said, with what became of it; search in it. Needs no directory.
    History(History),
    /// Check what a directory lost, replayed or reordered between you and somebody. Needs no directory.
    Audit(Audit),
    /// Offer files and folders to somebody and send them once accepted.
    Send(Send),
    /// Fetch a shared file.
    Get(Get),
    /// List files that others offer you, and yours that were not taken yet.
    Offers(Myself),
    /// Fetch an offered file; or say whose files you take without asking.
    Accept(Accept),
    /// Turn an offered file down.
    Decline(WhichOffer),
    /// List files that are on their way to you and from you.
    Transfers(Myself),
    /// End a transfer, or take your offer back; what has come of the file is removed.
    Cancel(WhichTransfer),
    /// Let a file that comes to you wait until you resume it.
    Pause(WhichTransfer),
    /// Go on with a file that was paused, has stopped or waits.
    Resume(WhichTransfer),
    /// Show how you are connected: to the directory, and to whom directly or through its relay.
    Status(Status),
    /// Show the safety number that you and somebody compare, to know that nobody is in between.
    Verify(Verify),
    /// Accept the other key of somebody you had verified.
    Trust(Trust),
    /// Connect directly to somebody, who is asked first: you see each other's IP address then.
    Connect(Connect),
    /// Let somebody connect directly and see your IP address.
    Allow(Allow),
    /// Take that back, or turn down what somebody asks; direct connections to them end.
    Deny(Deny),
    /// List who may connect directly and see your IP address.
    Allowed(Allowed),
    /// Ask somebody to be friends, or accept when they have asked: friends see each other and may connect directly.
    Friend(Friend),
    /// End a friendship, decline a request, or take yours back.
    Unfriend(Whom),
    /// List your friends, and who may become one.
    Friends(Myself),
    /// Keep somebody out: nothing of theirs comes to you, and they see nothing of you. They are not told.
    Block(Whom),
    /// Let somebody in again whom you have blocked.
    Unblock(Whom),
    /// List whom you have blocked.
    Blocked(Myself),
    /// Show or say who may see you, find your files and write to you.
    Privacy(Privacy),
    /// Show what somebody says about themselves, or say it yourself.
    Profile(Profile),
    /// Print a link that admits one new account to your directory.
    Invite(Invite),
    /// Write your key, contacts, history and outbox to a file that a passphrase opens, to move to another machine.
    ExportIdentity(ExportIdentity),
    /// Become the person of such a file on this machine.
    ImportIdentity(ImportIdentity),
    /// Your account: its password, its sessions, its end.
    Account(Account),
    /// Administer the directory that runs on this machine.
    Admin(Admin),
}

/// Who you are and where your directory is.
#[derive(Debug, Clone, Default, ClapArgs)]
pub(super) struct Whose {
    /// Your account's name.
    #[arg(long, env = "QCHAT_USER")]
    pub(super) user: Option<PeerName>,
    /// Your directory: HOST, HOST:PORT, or the qchat:// link that `qchat serve` prints.
    #[arg(long, env = "QCHAT_SERVER", value_name = "HOST[:PORT]|LINK")]
    pub(super) server: Option<ServerAddress>,
    /// Where your key, history and shares live [default: qchat in your data folder].
    #[arg(long, env = "QCHAT_HOME", value_name = "DIR")]
    pub(super) home: Option<PathBuf>,
}

/// Who you are, where your directory is, and how to get in.
#[derive(Debug, Clone, Default, ClapArgs)]
pub(super) struct Login {
    #[command(flatten)]
    pub(super) whose: Whose,
    /// Read the password from the first line of a file; `-` is standard input.
    #[arg(long, env = "QCHAT_PASSWORD_FILE", value_name = "FILE")]
    pub(super) password_file: Option<PathBuf>,
    /// Make the account without asking, if there is none of that name.
    #[arg(long)]
    pub(super) register: bool,
    /// Take the account back when another key has replaced this machine's in the last seven days.
    #[arg(long)]
    pub(super) take_back: bool,
    /// Trust a directory on first use without asking.
    #[arg(long)]
    pub(super) accept_new: bool,
    /// Send UDP packets one by one, for network cards that mishandle batches.
    #[arg(long)]
    pub(super) no_gso: bool,
    /// Connect to people directly or not at all.
    #[arg(long, conflicts_with = "relay_only")]
    pub(super) direct_only: bool,
    /// Connect to people through the directory's relay only, so that nobody learns your address.
    #[arg(long)]
    pub(super) relay_only: bool,
}

impl From<Whose> for Login {
    fn from(whose: Whose) -> Self {
        Self { whose, ..Self::default() }
    }
}

#[derive(Debug, ClapArgs)]
pub(super) struct Peer {
    #[command(flatten)]
    pub(super) login: Login,
    /// Read plain lines even on a terminal: no editing, no history.
    #[arg(long)]
    pub(super) plain: bool,
    /// Append a line to this file for each message and its kind, whom it is from or for and what became of it, but
    /// nothing that it says.
    #[arg(long, env = "QCHAT_LOG", value_name = "FILE")]
    pub(super) log: Option<PathBuf>,
    #[command(flatten)]
    pub(super) speed: Speed,
    #[command(flatten)]
    pub(super) reading: Reading,
}

/// Where what is received goes, and how.
#[derive(Debug, ClapArgs)]
pub(super) struct Place {
    /// The folder to put it into.
    #[arg(long, value_name = "DIR", default_value = ".")]
    pub(super) out: PathBuf,
    /// Replace a file of that name; in a folder of that name, the files that come.
    #[arg(long, conflicts_with = "rename")]
    pub(super) overwrite: bool,
    /// Take another name, `file (1)`, when there is a file of that name.
    #[arg(long)]
    pub(super) rename: bool,
    /// Let files of a folder be executable that are so at their owner's.
    #[arg(long)]
    pub(super) executable: bool,
}

impl Place {
    /// What to do when there is a file of that name.
    pub(super) fn collision(&self) -> Collision {
        match (self.overwrite, self.rename) {
            (true, _) => Collision::Overwrite,
            (false, true) => Collision::Rename,
            (false, false) => Collision::Refuse,
        }
    }

    /// Whether files of a folder may be executed.
    pub(super) fn executable(&self) -> Executable {
        if self.executable { Executable::Kept } else { Executable::Never }
    }
}

/// How fast files may go and come.
#[derive(Debug, Clone, Copy, ClapArgs)]
pub(super) struct Speed {
    /// Move no more bytes of files in a second than this, each way: 500K, 5M. While your peer runs it decides:
    /// `/limit` there, or its own --limit.
    #[arg(long, value_name = "RATE", value_parser = sizes::rate)]
    pub(super) limit: Option<u64>,
}

/// What others are told of your reading.
#[derive(Debug, Clone, Copy, ClapArgs)]
pub(super) struct Reading {
    /// Do not tell senders that their messages were on your screen; that they arrived is told.
    #[arg(long)]
    pub(super) no_read_receipts: bool,
}

#[derive(Debug, ClapArgs)]
#[command(
    after_help = "While your peer runs, its screen shows messages as they come: what is left are the offers that \
                        wait for your answer. Without a peer this takes what waits at the directory. What was shown \
                        here is not shown again; `history` has it."
)]
pub(super) struct Inbox {
    #[command(flatten)]
    pub(super) reading: Reading,
    #[command(flatten)]
    pub(super) login: Login,
}

#[derive(Debug, ClapArgs)]
#[command(after_help = "Examples:\n  qchat history bob                        the newest 50, oldest first\n  \
                        qchat history bob --before 2026-11-20    what came before that\n  \
                        qchat history --search \"dinner sev\"      with anybody: dinner, and seven or several\n\n\
                        Yours are marked: in the outbox, stored (the directory has it), delivered (it is on their \
                        disk), read (it was on their screen), refused.")]
pub(super) struct History {
    /// With whom; with everybody when it is left out.
    pub(super) name: Option<PeerName>,
    /// At most so many messages, the newest.
    #[arg(long, value_name = "N", default_value_t = HISTORY_MESSAGES)]
    pub(super) limit: u64,
    /// Only older ones: before a message (the beginning of its id) or a time (2026-11-20 or 2026-11-20T16:55).
    #[arg(long, value_name = "ID|TIME", value_parser = parse_before)]
    pub(super) before: Option<Before>,
    /// Only those with all of these words, in any order; the last may be the beginning of one.
    #[arg(long, value_name = "WORDS")]
    pub(super) search: Option<String>,
    #[command(flatten)]
    pub(super) whose: Whose,
}

/// Messages of the history that are shown when nothing else is asked for: more than a screen, less than a morning.
pub(super) const HISTORY_MESSAGES: u64 = 50;

/// Reads where older messages begin.
fn parse_before(text: &str) -> Result<Before, String> {
    // A time has a dash, an id has none.
    if let Some(id) = id_beginning(text) {
        return Ok(Before::Message(id.to_owned()));
    }
    times::parse(text).map(Before::Time).ok_or_else(|| {
        "neither the beginning of a message's id (`--json` shows them) nor a time such as 2026-11-20T16:55".to_owned()
    })
}

#[derive(Debug, ClapArgs)]
#[command(
    after_help = "Everybody numbers and signs their messages, and signs receipts for yours. From those on this disk \
                        this tells what is proved and what is only likely; a line with ! speaks against the directory. \
                        Exit code 0 when there is none, 6 when there is."
)]
pub(super) struct Audit {
    /// With whom.
    pub(super) name: PeerName,
    #[command(flatten)]
    pub(super) whose: Whose,
}

#[derive(Debug, ClapArgs)]
pub(super) struct Demo {
    /// The file that crosses from one to the other.
    #[arg(default_value = "README.md")]
    pub(super) file: PathBuf,
}

#[derive(Debug, ClapArgs)]
#[command(
    after_help = "Needs no account; with one it also looks at the relay, the kind of NAT and the clock. Exit code 0 when \
                        everything works, even if with a restriction; 10 when the directory cannot be reached, 7 when \
                        its key is not the one you trust, or others can use \
                        yours."
)]
pub(super) struct Doctor {
    #[command(flatten)]
    pub(super) whose: Whose,
    /// Send UDP packets one by one, for network cards that mishandle batches.
    #[arg(long)]
    pub(super) no_gso: bool,
}

#[derive(Debug, ClapArgs)]
pub(super) struct Who {
    /// Those too who were here in the last hour.
    #[arg(long)]
    pub(super) hour: bool,
    /// A part of the name; without it all are listed.
    #[arg(default_value = "")]
    pub(super) text: String,
    #[command(flatten)]
    pub(super) login: Login,
}

#[derive(Debug, ClapArgs)]
pub(super) struct PresenceArgs {
    /// How.
    pub(super) shown: Shown,
    #[command(flatten)]
    pub(super) login: Login,
}

/// How a person can be seen whose peer runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Shown {
    Online,
    Away,
    Busy,
}

#[derive(Debug, ClapArgs)]
pub(super) struct Broadcast {
    /// What; several words need no quotes. `-` reads standard input.
    #[arg(required = true)]
    pub(super) text: Vec<String>,
    #[command(flatten)]
    pub(super) login: Login,
}

#[derive(Debug, ClapArgs)]
pub(super) struct Status {
    #[command(flatten)]
    pub(super) login: Login,
}

#[derive(Debug, ClapArgs)]
pub(super) struct Find {
    /// A part of the file's name; without it all are listed.
    #[arg(default_value = "")]
    pub(super) pattern: String,
    #[command(flatten)]
    pub(super) login: Login,
}

/// What of a folder is not shared.
#[derive(Debug, ClapArgs)]
pub(super) struct LeftOut {
    /// Leave out what matches in a folder, such as `*.o` or `/target`; can be given more than once.
    #[arg(long, value_name = "GLOB")]
    pub(super) exclude: Vec<String>,
    /// Leave out what `.gitignore` files name, and `.git`.
    #[arg(long)]
    pub(super) gitignore: bool,
}

impl From<LeftOut> for Filter {
    fn from(LeftOut { exclude, gitignore }: LeftOut) -> Self {
        Self { exclude, gitignore }
    }
}

#[derive(Debug, ClapArgs)]
pub(super) struct Share {
    /// The files and folders.
    #[arg(required = true)]
    pub(super) paths: Vec<PathBuf>,
    #[command(flatten)]
    pub(super) how: Sharing,
    #[command(flatten)]
    pub(super) login: Login,
}

/// How something is shared.
#[derive(Debug, ClapArgs)]
pub(super) struct Sharing {
    #[command(flatten)]
    pub(super) left_out: LeftOut,
    /// Serve them through the directory's relay only: who fetches them does not see your IP address.
    #[arg(long)]
    pub(super) hide_address: bool,
}

#[derive(Debug, ClapArgs)]
#[command(
    after_help = "They answer on their screen; this waits for a minute. Exit code 0 when connected, 8 when they do \
                        not want it, 12 when nobody answered, 4 when they are offline."
)]
pub(super) struct Connect {
    /// To whom.
    pub(super) name: PeerName,
    #[command(flatten)]
    pub(super) login: Login,
}

#[derive(Debug, ClapArgs)]
pub(super) struct Allow {
    /// Whom.
    pub(super) name: PeerName,
    /// For how long: once, a time such as 30m, 1h or 2d, or always.
    #[arg(value_name = "once|1h|30m|2d|always", default_value = DEFAULT_TERM, value_parser = term_of)]
    pub(super) term: Term,
    #[command(flatten)]
    pub(super) login: Login,
}

#[derive(Debug, ClapArgs)]
pub(super) struct Deny {
    /// Whom.
    pub(super) name: PeerName,
    #[command(flatten)]
    pub(super) login: Login,
}

#[derive(Debug, ClapArgs)]
pub(super) struct Allowed {
    #[command(flatten)]
    pub(super) login: Login,
}

/// A verb that is about one person.
#[derive(Debug, ClapArgs)]
pub(super) struct Whom {
    /// Whom.
    pub(super) name: PeerName,
    #[command(flatten)]
    pub(super) login: Login,
}

/// A verb that takes nothing more.
#[derive(Debug, ClapArgs)]
pub(super) struct Myself {
    #[command(flatten)]
    pub(super) login: Login,
}

#[derive(Debug, ClapArgs)]
pub(super) struct Friend {
    /// Whom.
    pub(super) name: PeerName,
    /// Only tell them that you are busy and their request waits.
    #[arg(long)]
    pub(super) later: bool,
    #[command(flatten)]
    pub(super) login: Login,
}

#[derive(Debug, ClapArgs)]
#[command(
    after_help = "To anybody else you then look like somebody who never comes: they do not see you online, find none of \
                        your files, and what they write to you is refused."
)]
pub(super) struct Privacy {
    /// Everyone at your directory, or only your friends; without it the present choice is shown.
    #[arg(value_name = "everyone|friends", value_parser = audience_of)]
    pub(super) audience: Option<Audience>,
    #[command(flatten)]
    pub(super) login: Login,
}

#[derive(Debug, ClapArgs)]
pub(super) struct Unshare {
    /// The names under which they are shared.
    #[arg(required = true, value_parser = shared_name)]
    pub(super) names: Vec<FileName>,
    #[command(flatten)]
    pub(super) login: Login,
}

#[derive(Debug, ClapArgs)]
pub(super) struct Shared {
    #[command(flatten)]
    pub(super) login: Login,
}

#[derive(Debug, ClapArgs)]
pub(super) struct Msg {
    /// To whom.
    pub(super) name: PeerName,
    /// What; several words need no quotes. `-` reads standard input.
    #[arg(required = true)]
    pub(super) text: Vec<String>,
    #[command(flatten)]
    pub(super) login: Login,
}

#[derive(Debug, ClapArgs)]
pub(super) struct Send {
    /// To whom.
    pub(super) name: PeerName,
    /// The files and folders.
    #[arg(required = true)]
    pub(super) paths: Vec<PathBuf>,
    #[command(flatten)]
    pub(super) speed: Speed,
    #[command(flatten)]
    pub(super) left_out: LeftOut,
    #[command(flatten)]
    pub(super) login: Login,
}

#[derive(Debug, ClapArgs)]
#[command(
    override_usage = "qchat profile [OPTIONS] [NAME]\n       qchat profile [OPTIONS] edit FIELD [VALUE]...",
    after_help = "Examples:\n  qchat profile edit name Bob the Builder   what you want to be called\n  \
                  qchat profile edit info I build things    a paragraph about yourself\n  \
                  qchat profile edit picture me.png         a PNG or JPEG of 32 KiB at most\n  \
                  qchat profile edit town Berlin            any other word is a field of your own\n  \
                  qchat profile edit town                   without a value it is removed\n  \
                  qchat profile bob                         asks bob; when he is away you see the copy kept here\n  \
                  qchat profile bob --via carol             asks carol, who is a friend of both of you\n\n\
                  Your key signs every version, so nobody who hands it on can change it."
)]
pub(super) struct Profile {
    /// Whose; your own when it is left out. Or `edit`, a part of your own and what it says.
    #[arg(value_name = "NAME|edit FIELD [VALUE]")]
    pub(super) words: Vec<String>,
    /// Ask this friend of yours, who may have seen it, instead of its owner.
    #[arg(long, value_name = "FRIEND")]
    pub(super) via: Option<PeerName>,
    /// Save the picture there; a file that is there stays.
    #[arg(long, value_name = "FILE")]
    pub(super) picture_to: Option<PathBuf>,
    #[command(flatten)]
    pub(super) login: Login,
}

#[derive(Debug, ClapArgs)]
pub(super) struct Invite {
    /// The name that the link proposes.
    pub(super) name: Option<PeerName>,
    #[command(flatten)]
    pub(super) login: Login,
}

#[derive(Debug, ClapArgs)]
pub(super) struct Account {
    #[command(subcommand)]
    pub(super) action: AccountAction,
}

#[derive(Debug, Subcommand)]
pub(super) enum AccountAction {
    /// Change the password, which lets you in on another machine.
    Password {
        /// Read the new password from the first line of a file; `-` is standard input.
        #[arg(long, value_name = "FILE")]
        new_password_file: Option<PathBuf>,
        #[command(flatten)]
        login: Login,
    },
    /// Remove the account, what waits for it and what it shares; its name is kept back for 90 days.
    Delete {
        /// Do not ask.
        #[arg(long)]
        yes: bool,
        #[command(flatten)]
        login: Login,
    },
    /// List where the account is logged in.
    Sessions {
        #[command(flatten)]
        login: Login,
    },
    /// Log the account out everywhere else.
    EndSessions {
        #[command(flatten)]
        login: Login,
    },
}

#[derive(Debug, ClapArgs)]
#[command(
    after_help = "While your peer runs it is your peer that fetches, and this only follows: Ctrl-C leaves the transfer \
                  to it, and so does a source that is away for longer (exit code 5). `qchat transfers` shows it, \
                  `qchat cancel` ends it. Without a peer the same command goes on from what has arrived."
)]
pub(super) struct Get {
    /// NAME:FILE, NAME:FOLDER, or the digest of 64 hexadecimal digits.
    #[arg(value_name = "NAME:FILE|DIGEST")]
    pub(super) source: String,
    #[command(flatten)]
    pub(super) place: Place,
    #[command(flatten)]
    pub(super) speed: Speed,
    #[command(flatten)]
    pub(super) login: Login,
}

#[derive(Debug, ClapArgs)]
pub(super) struct Verify {
    /// Whose key.
    pub(super) name: PeerName,
    /// Note that you have compared the number: from then on no other key is used without your word.
    #[arg(long)]
    pub(super) mark: bool,
    #[command(flatten)]
    pub(super) login: Login,
}

#[derive(Debug, ClapArgs)]
pub(super) struct Trust {
    /// Whose key.
    pub(super) name: PeerName,
    #[command(flatten)]
    pub(super) login: Login,
}

#[derive(Debug, ClapArgs)]
pub(super) struct ExportIdentity {
    /// The file to write; whoever has it and the passphrase is you.
    pub(super) file: PathBuf,
    /// Replace a file that is there.
    #[arg(long)]
    pub(super) overwrite: bool,
    /// Read the passphrase from the first line of a file; `-` is standard input.
    #[arg(long, value_name = "FILE")]
    pub(super) passphrase_file: Option<PathBuf>,
    #[command(flatten)]
    pub(super) whose: Whose,
}

#[derive(Debug, ClapArgs)]
pub(super) struct ImportIdentity {
    /// The file that `export-identity` wrote.
    pub(super) file: PathBuf,
    /// Replace the key and history that this account has on this machine.
    #[arg(long)]
    pub(super) overwrite: bool,
    /// Read the passphrase from the first line of a file; `-` is standard input.
    #[arg(long, value_name = "FILE")]
    pub(super) passphrase_file: Option<PathBuf>,
    #[command(flatten)]
    pub(super) whose: Whose,
}
