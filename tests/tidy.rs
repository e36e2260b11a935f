//! The repository's own rules, run as tests: layers point down, outside names stay behind their boundary, the map is true.
//! Reads text, not types: it knows comments, literals and `use` groups, but a name that a macro builds gets past it.
//! Every rule takes its text as an argument, so that `planted` can show it an offence.

#[path = "tidy/planted.rs"]
mod planted;
#[path = "tidy/rust_text.rs"]
mod rust_text;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use rust_text::{code_of, paths, says, without_tests};

/// Which top-level modules a top-level module may name. A row names only rows above it, so no two can know each other.
const LAYERS: &[(&str, &[&str])] = &[
    ("wire", &[]),
    ("database", &[]),
    ("lines", &[]),
    ("one_thread", &[]),
    ("clock", &["wire"]),
    ("seal", &["wire"]),
    ("protocol", &["wire"]),
    ("transport", &["wire", "seal"]),
    ("storage", &["wire", "seal", "protocol", "database", "clock"]),
    ("directory", &["wire", "seal", "protocol", "transport", "database", "lines", "clock"]),
    ("peer", &["wire", "seal", "protocol", "transport", "storage", "database", "clock", "one_thread"]),
    ("compat", &["wire", "seal", "protocol", "transport", "storage", "peer", "database", "clock"]),
    ("cli", &["wire", "seal", "transport", "storage", "directory", "peer", "compat", "lines", "clock", "one_thread"]),
    ("main", &["cli"]),
];

/// Names from outside, and the only files and folders that may say them. A single lower-case word is a crate and counts
/// where a path starts; anything else counts anywhere in a path.
const BOUNDARIES: &[(&[&str], &[&str])] = &[
    (&["bincode"], &["src/wire/codec.rs"]),
    (&["getrandom"], &["src/seal/random.rs"]),
    (&["age", "hpke", "aws_lc_rs", "blake3", "argon2"], &["src/seal"]),
    (&["quinn", "quinn_proto", "quinn_udp", "rustls", "rcgen", "socket2"], &["src/transport"]),
    (&["nix"], &["src/transport/socket.rs", "src/transport/socket_tests.rs"]),
    (&["rusqlite"], &["src/database.rs", "src/storage", "src/directory/store", "src/compat/records.rs"]),
    (
        &["std::fs", "tokio::fs"],
        &[
            "src/storage",
            "src/database.rs",
            "src/lines.rs",
            "src/transport/certificate.rs",
            "src/directory/server.rs",
            "src/compat/files.rs",
            "src/compat/credentials.rs",
            "src/cli",
        ],
    ),
    (&["clap", "anyhow", "rustyline", "rpassword", "indicatif", "jiff", "tracing_subscriber"], &["src/cli"]),
    (&["qrcode"], &["src/cli/qr_code.rs"]),
    (&["println!", "eprintln!", "print!", "eprint!", "io::stdout", "io::stderr"], &["src/cli/output.rs"]),
];

/// What decides takes time, chance and bytes as arguments, so that a simulation can bring its own.
const NEVER_IN_PROTOCOL: &[&str] =
    &["tokio", "std::fs", "UdpSocket", "SystemTime", "Instant::now", "rand", "getrandom", "quinn", "quinn_proto"];

const UNFINISHED: &[&str] = &["todo!", "unimplemented!", "dbg!"];

/// Packages whose entry in Cargo.lock mentions `ring` although it is not built: for WebAssembly, and by `ring?/alloc`.
const RING_MENTIONED_BY: &[&str] = &["quinn-proto", "rustls-webpki"];

/// A file longer than this holds two subjects.
const SOURCE_LINES_MAX: usize = 700;

/// Everybody who clones pays for a large file, forever.
const FILE_BYTES_MAX: u64 = 200 * 1024;

#[test]
fn layers_point_down() {
    report(scan(&["src"], edges_up));
}

#[test]
fn the_table_of_layers_has_no_cycle() {
    for (row, (layer, may_name)) in LAYERS.iter().enumerate() {
        let above: Vec<&str> = LAYERS[..row].iter().map(|(layer, _)| *layer).collect();
        assert!(may_name.iter().all(|name| above.contains(name)), "{layer} names a row that is not above it");
    }
}

#[test]
fn every_file_shows_its_edges() {
    report(scan(&["src"], hidden_edges));
}

#[test]
fn outside_names_stay_behind_their_boundary() {
    report(scan(&["src"], names_outside_their_boundary));
}

#[test]
fn protocol_touches_no_clock_chance_file_or_socket() {
    report(scan(&["src"], impure_names_in_protocol));
}

#[test]
fn every_file_opens_with_its_purpose() {
    report(scan(&["src", "tests", "examples", "bench"], missing_purpose));
}

#[test]
fn no_source_file_outgrows_a_reader() {
    report(scan(&["src"], too_many_lines));
}

#[test]
fn nothing_unfinished_is_left_in_the_source() {
    report(scan(&["src"], unfinished));
}

#[test]
fn no_line_contains_a_tab() {
    report(scan(&["src", "tests", "examples", "bench"], tabs));
}

#[test]
fn every_path_the_architecture_names_exists() {
    let files = files_below("");
    let by_name: BTreeSet<&str> = files.iter().filter_map(|path| path.rsplit('/').next()).collect();
    let exists =
        |path: &str| by_name.contains(path) || ["", "src"].iter().any(|at| root().join(at).join(path).exists());
    report(paths_missing(&source("ARCHITECTURE.md"), exists));
}

#[test]
fn no_file_is_large() {
    let bytes = |path: &String| fs::metadata(root().join(path)).map_or(0, |found| found.len());
    report(files_below("").iter().filter_map(|path| too_large(path, bytes(path))).collect());
}

#[test]
fn ring_is_never_built() {
    report(ring_users(&source("Cargo.lock")));
}

#[test]
fn quinn_proto_has_its_security_fixes() {
    report(quinn_proto_too_old(&source("Cargo.lock")));
}

#[test]
fn bincode_stays_at_its_last_real_release() {
    report(bincode_moved(&source("Cargo.lock")));
}

// --- the rules: a source in, one line per offence out

fn edges_up(source: &Source) -> Vec<String> {
    let layer = source.layer();
    if layer == "lib" {
        return Vec::new();
    }
    let Some((_, may_name)) = LAYERS.iter().find(|(name, _)| *name == layer) else {
        return vec![source.offence(1, format!("`{layer}` has no layer; give it a row in LAYERS of tests/tidy.rs"))];
    };
    let code = code_of(&source.text);
    let mut offences = Vec::new();
    for (line, path) in paths(&code) {
        let inside = path.strip_prefix("crate::").or(path.strip_prefix("qchat::"));
        let named = inside.and_then(|path| path.split("::").next()).filter(|named| *named != layer && *named != "*");
        if let Some(named) = named.filter(|named| !may_name.contains(named)) {
            offences.push(source.offence(line, format!("`{layer}` may not name `{named}`; pass it in, or move up")));
        }
    }
    if source.path == format!("src/{layer}.rs") || source.path == format!("src/{layer}/mod.rs") {
        for (line, path) in paths(&without_tests(&code)).iter().filter(|(_, path)| path.starts_with("super::")) {
            offences.push(source.offence(*line, format!("`{path}` leaves the layer; write the path from crate::")));
        }
    }
    offences
}

fn hidden_edges(source: &Source) -> Vec<String> {
    let code = code_of(&source.text);
    let mut offences = Vec::new();
    for (line, path) in paths(&code) {
        if path.starts_with("crate::") && path.ends_with("::*") {
            offences.push(source.offence(line, format!("`{path}` hides what is used; name it")));
        }
        if path.starts_with("super::super") {
            offences.push(source.offence(line, format!("`{path}` climbs; write the path from crate::")));
        }
    }
    let reexport = |line: &str| line.starts_with("pub use ") || line.starts_with("pub(") && line.contains(") use ");
    let reexports = code.lines().enumerate().filter(|(_, line)| reexport(line.trim()) && source.path != "src/lib.rs");
    let advice = "re-exports; let others import from where it is defined";
    offences.extend(reexports.map(|(row, _)| source.offence(row + 1, advice)));
    offences
}

fn names_outside_their_boundary(source: &Source) -> Vec<String> {
    let within = |place: &&str| source.path == **place || source.path.starts_with(&format!("{place}/"));
    let closed = BOUNDARIES.iter().filter(|(_, places)| !places.iter().any(within));
    let code = without_tests(&code_of(&source.text));
    let advice = |places: &[&str]| format!("may be named only in {}", places.join(", "));
    closed.flat_map(|(words, places)| source.saying(&code, words, &advice(places))).collect()
}

fn impure_names_in_protocol(source: &Source) -> Vec<String> {
    let advice = "is not for state machines; take the value as an argument, hand the action out";
    let code = without_tests(&code_of(&source.text));
    if source.layer() == "protocol" { source.saying(&code, NEVER_IN_PROTOCOL, advice) } else { Vec::new() }
}

fn unfinished(source: &Source) -> Vec<String> {
    source.saying(&code_of(&source.text), UNFINISHED, "is for the desk; finish it, or refuse with an error")
}

fn missing_purpose(source: &Source) -> Vec<String> {
    let missing = !source.text.starts_with("//! ") && !source.path.contains("/fixtures/");
    let offence = || source.offence(1, "does not open with `//! ` and what the file is for; write that line");
    missing.then(offence).into_iter().collect()
}

fn too_many_lines(source: &Source) -> Vec<String> {
    let lines = source.text.lines().count();
    let offence = || source.offence(lines, format!("{lines} lines, {SOURCE_LINES_MAX} at most; split it by subject"));
    (lines > SOURCE_LINES_MAX).then(offence).into_iter().collect()
}

fn tabs(source: &Source) -> Vec<String> {
    let lines = source.text.lines().enumerate().filter(|(_, line)| line.contains('\t'));
    lines.map(|(row, _)| source.offence(row + 1, "contains a tab; indent by spaces, write \\t in literals")).collect()
}

fn too_large(path: &str, bytes: u64) -> Option<String> {
    let allowed = bytes <= FILE_BYTES_MAX || path == "Cargo.lock";
    (!allowed)
        .then(|| format!("{path}:1: {bytes} bytes, {FILE_BYTES_MAX} at most; let a script make it when it is needed"))
}

fn paths_missing(map: &Source, exists: impl Fn(&str) -> bool) -> Vec<String> {
    let mut fenced = false;
    let mut offences = Vec::new();
    for (row, line) in map.text.lines().enumerate() {
        fenced ^= line.trim_start().starts_with("```");
        let spans = line.split('`').skip(1).step_by(2).filter(|span| !fenced && is_repository_path(span));
        for span in spans.map(|span| span.trim_end_matches('/')).filter(|span| !exists(span)) {
            offences.push(map.offence(row + 1, format!("`{span}` does not exist; correct the map")));
        }
    }
    offences
}

fn ring_users(lock: &Source) -> Vec<String> {
    let users = locked(lock).into_iter().filter(|package| package.needs.contains(&"ring"));
    let wrong = users.filter(|package| !RING_MENTIONED_BY.contains(&package.name));
    let advice = "switch its features to aws-lc-rs, the only provider";
    wrong.map(|package| lock.offence(package.line, format!("{} needs ring; {advice}", package.name))).collect()
}

fn quinn_proto_too_old(lock: &Source) -> Vec<String> {
    let number = |version: &str| -> Vec<u64> { version.split('.').map_while(|part| part.parse().ok()).collect() };
    wrong_version(lock, "quinn-proto", "update to 0.11.15 or later", |version| number(version) >= vec![0, 11, 15])
}

fn bincode_moved(lock: &Source) -> Vec<String> {
    wrong_version(lock, "bincode", "stay at 2.0.1, 3.0.0 is an empty tombstone", |version| version == "2.0.1")
}

// --- reading the repository

struct Source {
    path: String,
    text: String,
}

impl Source {
    /// The top-level module this file belongs to: `src/wire/ids.rs` and `src/wire.rs` are both `wire`.
    fn layer(&self) -> &str {
        self.path.split('/').nth(1).unwrap_or_default().trim_end_matches(".rs")
    }

    fn offence(&self, line: usize, what: impl AsRef<str>) -> String {
        format!("{}:{line}: {}", self.path, what.as_ref())
    }

    /// Every place in this file's code that says one of the words.
    fn saying(&self, code: &str, words: &[&str], advice: &str) -> Vec<String> {
        let paths = paths(code);
        let said = paths.iter().filter(|(_, path)| words.iter().any(|word| says(path, word)));
        said.map(|(line, path)| self.offence(*line, format!("`{path}` {advice}"))).collect()
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn source(path: &str) -> Source {
    let text = fs::read_to_string(root().join(path)).unwrap_or_else(|fault| panic!("{path} is needed here: {fault}"));
    Source { path: path.to_owned(), text }
}

fn scan(folders: &[&str], rule: fn(&Source) -> Vec<String>) -> Vec<String> {
    let files: Vec<String> = folders.iter().flat_map(|folder| files_below(folder)).collect();
    let sources: Vec<Source> = files.iter().filter(|path| path.ends_with(".rs")).map(|path| source(path)).collect();
    assert!(!sources.is_empty(), "no .rs file in {folders:?}: this rule would hold for nothing");
    sources.iter().flat_map(rule).collect()
}

/// Every file below a folder of the repository, without build output, git's own files and the operator's certificate.
fn files_below(folder: &str) -> Vec<String> {
    let mut files = Vec::new();
    for entry in fs::read_dir(root().join(folder)).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let path = if folder.is_empty() { name.clone() } else { format!("{folder}/{name}") };
        let kind = entry.file_type().expect("the kind of an entry just listed");
        if kind.is_dir() && !["target", ".git", "certs"].contains(&name.as_str()) {
            files.extend(files_below(&path));
        } else if kind.is_file() {
            files.push(path);
        }
    }
    files.sort();
    files
}

fn is_repository_path(span: &str) -> bool {
    let plain = span.chars().all(|c| c.is_ascii_alphanumeric() || "._-/".contains(c));
    let pathlike = span.contains('/') || [".rs", ".md", ".toml"].iter().any(|ending| span.ends_with(ending));
    // A part that starts with a digit is a version (`qchat/1`) or an address; a path from `/` is the machine's.
    let elsewhere = span.split('/').any(|part| part.starts_with(|c: char| c.is_ascii_digit())) || span.starts_with('/');
    plain && pathlike && !elsewhere
}

struct Locked<'a> {
    line: usize,
    name: &'a str,
    version: &'a str,
    needs: Vec<&'a str>,
}

fn locked(lock: &Source) -> Vec<Locked<'_>> {
    let mut packages = Vec::new();
    let mut line = 1;
    for block in lock.text.split("\n\n") {
        let value = |key| block.lines().find_map(|row| row.strip_prefix(key)).unwrap_or_default().trim_matches('"');
        let needs = block.lines().filter_map(|row| row.strip_prefix(" \"")?.split([' ', '"']).next()).collect();
        packages.push(Locked { line, name: value("name = "), version: value("version = "), needs });
        line += block.matches('\n').count() + 2;
    }
    packages
}

fn wrong_version(lock: &Source, name: &str, advice: &str, right: impl Fn(&str) -> bool) -> Vec<String> {
    let packages: Vec<Locked<'_>> = locked(lock).into_iter().filter(|package| package.name == name).collect();
    assert!(!packages.is_empty(), "{} names no {name}: this rule would hold for nothing", lock.path);
    let wrong = packages.iter().filter(|package| !right(package.version));
    wrong.map(|package| lock.offence(package.line, format!("{name} is {}; {advice}", package.version))).collect()
}

#[track_caller]
fn report(offences: Vec<String>) {
    assert!(offences.is_empty(), "{} to correct:\n{}\n", offences.len(), offences.join("\n"));
}
