//! Names that have attacked other programs: as a list, and put together at random.

use std::collections::BTreeSet;
use std::fs;

use qchat::storage::partial_file::Collision;
use qchat::storage::receive_folder::ReceiveFolder;
use qchat::storage::safe_name::SafeName;
use qchat::wire::ids::FileName;

use crate::arena::Arena;
use crate::chance::Chance;
use crate::trees::{Content, Entry, receive};

/// What names are made of.
const PIECES: &[&str] = &[
    "..",
    ".",
    "/",
    "\\",
    "~",
    "-",
    "-rf",
    ".ssh",
    ".bashrc",
    "authorized_keys",
    "etc",
    "passwd",
    "C:",
    "\\\\?\\",
    "//host/share",
    "\0",
    "\n",
    "\x1b[2J",
    "\u{7f}",
    "\u{9b}",
    "\u{202e}",
    "\u{2066}",
    "\u{200b}",
    "\u{feff}",
    "\u{ad}",
    "con",
    "NUL",
    "com1",
    "LPT9",
    "COM¹",
    "aux.txt",
    "CONIN$",
    ":$DATA",
    "::$INDEX_ALLOCATION",
    "%2e%2e%2f",
    "%00",
    "$HOME",
    "$(id)",
    "`id`",
    ";rm",
    "|",
    "*",
    "?",
    "\"",
    "<",
    ">",
    " ",
    "  ",
    "é",
    "e\u{301}",
    "É",
    "ß",
    "SS",
    "ſ",
    "İ",
    "ı",
    "Å",
    "A\u{30a}",
    "ﬁ",
    "file",
    "FILE",
    ".qpart",
    ".a.qpart",
    ".file.qpart",
    "(1)",
    " (1)",
    ".txt",
    ".exe",
    ".lnk",
    "日本",
    "🦀",
    "․․",
    "∕",
    "／",
    "＼",
    "a",
];

/// What stands around a piece in the list.
const FRAMES: &[(&str, &str)] =
    &[("", ""), ("../", ""), ("/", ""), ("a/", "/b"), ("", "."), ("", " "), (".", ""), ("", ".txt"), (" ", "")];

/// Every piece in every frame, and names of every length near the bound.
fn list() -> BTreeSet<String> {
    let framed = |(before, after): &(&str, &str)| {
        PIECES.iter().map(move |piece| format!("{before}{piece}{after}")).collect::<Vec<_>>()
    };
    let mut all: BTreeSet<String> = FRAMES.iter().flat_map(framed).collect();
    for bytes in 245..=257 {
        all.insert("x".repeat(bytes));
        all.insert(format!("nul.{}", "x".repeat(bytes - 4)));
        all.insert(format!("{}.txt", "ä".repeat(bytes / 2 - 2)));
        all.insert(format!(".{}.qpart", "x".repeat(bytes - 7)));
    }
    all.insert(String::new());
    all
}

/// A name at random; most are refused or changed.
pub(crate) fn hostile(chance: &mut Chance) -> String {
    let mut name: String = (0..=chance.below(3)).map(|_| *chance.one_of(PIECES)).collect();
    if chance.once_in(20) {
        name = name.repeat(60);
    }
    if chance.once_in(20) {
        name.push_str(&"x".repeat(255_usize.saturating_sub(name.len())));
    }
    name
}

/// Why a local name may not be, if it may not.
fn fault(local: &str) -> Option<&'static str> {
    let faults = [
        (matches!(local, "" | "." | ".."), "it is no file"),
        (local.contains(['/', '\\', '\0', ':']), "it names another folder"),
        (local.starts_with('-'), "it is an option"),
        (local.ends_with(['.', ' ']), "some systems cut its end"),
        (local.len() > 255, "it is too long"),
        (local.chars().any(char::is_control), "it controls the terminal"),
    ];
    faults.into_iter().find_map(|(is_so, why)| is_so.then_some(why))
}

#[test]
fn no_name_on_the_list_becomes_anything_but_a_file_in_its_folder() {
    let list = list();
    assert!(list.len() >= 500, "{}", list.len());
    let arena = Arena::new();
    let root = ReceiveFolder::open(&arena.inside()).unwrap();
    let outside = arena.look_outside(&arena.inside());
    for remote in &list {
        let Ok(name) = FileName::parse(remote) else { continue };
        let safe = SafeName::from_remote(&name);
        for local in [safe.as_str(), &safe.partial(), safe.numbered(1).as_str(), safe.numbered(9_999).as_str()] {
            assert_eq!(fault(local), None, "{remote:?} becomes {local:?}");
        }
        let again = FileName::parse(safe.as_str()).expect("what is written here can be shared again");
        assert_eq!(SafeName::from_remote(&again), safe, "{remote:?} becomes another name each time");
        let entry = Entry { parents: Vec::new(), name: safe, content: Content::File(remote.clone().into_bytes()) };
        let path = receive(&root, &entry, Collision::Rename).unwrap();
        assert_eq!(path.parent(), Some(&*arena.inside()));
        assert_eq!(fs::read(&path).unwrap(), remote.as_bytes(), "{remote:?}");
    }
    assert_eq!(arena.look_outside(&arena.inside()), outside);
}

#[test]
fn what_names_a_folder_never_is_a_name() {
    let refused = |name: &str| assert!(FileName::parse(name).is_err(), "{name:?} is a name");
    for name in list() {
        if name.contains(['/', '\\', '\0']) || matches!(&*name, "" | "." | "..") || name.len() > 255 {
            refused(&name);
        }
    }
    for hidden in ["\u{202e}cod.exe", "\u{2066}x", "a\u{200b}b", "\u{feff}a", "line\nbreak", "\x1b[31m", "\u{85}"] {
        refused(hidden);
    }
}

#[test]
fn names_that_some_take_for_one_do_not_overwrite_each_other() {
    for (one, other) in [
        ("café", "cafe\u{301}"),
        ("Å", "A\u{30a}"),
        ("README", "readme"),
        ("straße", "STRASSE"),
        ("ﬁle", "file"),
        ("a:b", "a?b"),
        ("x ", "x."),
        ("-x", "_x"),
        ("NUL", "_NUL"),
        (".a.qpart", "_a.qpart"),
    ] {
        let arena = Arena::new();
        let root = ReceiveFolder::open(&arena.inside()).unwrap();
        let come = |name: &str, content: &str, collision| {
            let name = SafeName::from_remote(&FileName::parse(name).unwrap());
            let content = Content::File(content.as_bytes().to_owned());
            receive(&root, &Entry { parents: Vec::new(), name, content }, collision)
        };
        let first = come(one, "first", Collision::Refuse).unwrap();
        // Whether the file system takes them for one: then it is refused, and else it is another file.
        if let Ok(second) = come(other, "second", Collision::Refuse) {
            assert_eq!(fs::read(second).unwrap(), b"second");
        }
        let third = come(other, "third", Collision::Rename).unwrap();
        assert_eq!((fs::read(&first).unwrap(), fs::read(third).unwrap()), (b"first".to_vec(), b"third".to_vec()));
    }
}
