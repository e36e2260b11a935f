//! Shows every rule of tests/tidy.rs offences and near misses: a check that cannot fail is worthless.
//! Each test plants the lines of one file; a rule must report the lines that say `<--`, and no others.

use super::*;

#[test]
fn edges_that_point_up_are_found() {
    check(
        edges_up,
        "src/wire/a.rs",
        &["//! crate::peer", "use crate::wire::b;", "use crate::{wire::b, seal::c}; // <--"],
    );
    check(edges_up, "src/storage/a.rs", &["use crate::database::D;", "use crate::transport; // <--"]);
    check(edges_up, "src/clock.rs", &["fn now() -> crate::peer::Time { // <--"]);
    check(edges_up, "src/seal/a.rs", &["#[cfg(test)]", "mod tests {", "    use crate::cli; // <--", "}"]);
    check(edges_up, "src/main.rs", &["qchat::cli::run();", "qchat::peer::run(); // <--"]);
    check(edges_up, "src/misc/mod.rs", &["//! A module without a layer. <--"]);
}

#[test]
fn a_layer_left_by_super_is_found() {
    let lines = ["use super::peer; // <--", "#[cfg(test)]", "mod tests {", "    use super::*;", "}"];
    check(edges_up, "src/seal/mod.rs", &lines);
    check(edges_up, "src/seal/a.rs", &["use super::b;"]);
}

#[test]
fn hidden_edges_are_found() {
    check(hidden_edges, "src/peer/a.rs", &["use crate::wire::*; // <--", "use crate::{clock, wire::{ids::*}}; // <--"]);
    check(hidden_edges, "src/peer/a.rs", &["use super::super::b; // <--", "use super::b;", "let c = d::E * f;"]);
    check(hidden_edges, "src/peer/a.rs", &["pub use a::b; // <--", "pub(crate) use b::C; // <--", "pub mod d;"]);
    check(hidden_edges, "src/lib.rs", &["pub use wire::ids;"]);
}

#[test]
fn names_outside_their_boundary_are_found() {
    let check = |path, lines: &[&str]| check(names_outside_their_boundary, path, lines);
    check("src/wire/a.rs", &["use bincode; // <--", "// bincode::x", "let bincode = 1;", "bincode::x(); // <--"]);
    check("src/wire/codec.rs", &["use bincode::config;"]);
    check("src/sealing.rs", &["use blake3::Hasher; // <--"]);
    check("src/transport/a.rs", &["use rustls::crypto::aws_lc_rs;", "use ::aws_lc_rs::digest; // <--"]);
    check(
        "src/peer/a.rs",
        &["use std::{", "    net,", "    fs::{self, File}, // <--", "};", "use tokio::fs as f; // <--"],
    );
    check(
        "src/peer/a.rs",
        &["println!(); // <--", "if a != print {}", "std::io::stdout(); // <--", "io::stderr() // <--"],
    );
    check("src/peer/a.rs", &["use std::io::{self, stderr}; // <--", "#[derive(clap::Parser)] // <--"]);
}

#[test]
fn comments_literals_and_tests_name_nothing() {
    let check = |lines: &[&str]| check(names_outside_their_boundary, "src/peer/a.rs", lines);
    check(&[r#"let a = "quinn::A \" quinn::A"; // quinn::A"#, r#"b("\\"); quinn::C; // <--"#]);
    check(&[r##"let a = (r#""quinn::A"#, '"', '\'', b'"'); quinn::B; // <--"##]);
    check(&["let a: &'a str; /* quinn::A", "quinn::B */ quinn::C; // <--"]);
    check(&["#[cfg(test)]", "mod tests {", "    use quinn::A;", "}", "use quinn::B; // <--"]);
}

#[test]
fn impure_names_in_protocol_are_found() {
    let lines = ["use std::time::{Instant, SystemTime}; // <--", "Instant::now() // <--", "let rand = Instant(1);"];
    check(impure_names_in_protocol, "src/protocol/a.rs", &lines);
    check(impure_names_in_protocol, "src/protocol/b/c.rs", &["tokio::select! { // <--", "rand::random() // <--"]);
    check(impure_names_in_protocol, "src/peer/a.rs", &["use tokio::net::UdpSocket;"]);
}

#[test]
fn untidy_files_are_found() {
    check(missing_purpose, "src/a.rs", &["// A comment documents no file. <--", "//! Too late."]);
    check(missing_purpose, "tests/golden/fixtures/a.rs", &["fn main() {}"]);
    check(
        unfinished,
        "src/a.rs",
        &["// todo!()", "todo!(); // <--", "std::dbg!(x); // <--", "let todo = !unimplemented;"],
    );
    check(unfinished, "src/a.rs", &["#[cfg(test)]", "mod tests {", "    unimplemented!(); // <--", "}"]);
    check(tabs, "src/a.rs", &["    a", "\ta // <--"]);
    check(too_many_lines, "src/a.rs", &["a"; SOURCE_LINES_MAX]);
    assert_eq!(too_many_lines(&planted("src/a.rs", &["a"; SOURCE_LINES_MAX + 1])).len(), 1);
    assert!(too_large("a.bin", FILE_BYTES_MAX).is_none() && too_large("Cargo.lock", FILE_BYTES_MAX + 1).is_none());
    assert!(too_large("a.bin", FILE_BYTES_MAX + 1).is_some());
}

#[test]
fn wrong_paths_in_the_map_are_found() {
    let rule = |map: &Source| paths_missing(map, |path| path == "src/wire");
    check(
        rule,
        "A.md",
        &["`src/wire/` and `src/gone/` <--", "`gone.rs` <--", "```", "`fenced/path`", "```", "`a/b` <--"],
    );
    check(rule, "A.md", &["`qchat/1` `a::b` `--cert certs/` `/etc/hosts` `std::fs` `a/*.rs`"]);
}

#[test]
fn wrong_packages_are_found() {
    let rustls = ["name = \"rustls\"", "dependencies = [", " \"log\",", " \"ring 0.17.14\",", "]"];
    check(ring_users, "Cargo.lock", &[&["version = 4", "", "[[package]] <--"], &rustls[..]].concat());
    check(ring_users, "Cargo.lock", &["name = \"quinn-proto\"", "dependencies = [", " \"ring\",", "]"]);
    for (version, mark) in [("0.11.9", "<--"), ("0.9.20", "<--"), ("0.11.15", ""), ("0.12.0", ""), ("1.0.0", "")] {
        let version = format!("version = \"{version}\"");
        check(quinn_proto_too_old, "Cargo.lock", &[mark, "name = \"quinn-proto\"", &version]);
    }
    check(bincode_moved, "Cargo.lock", &["[[package]] <--", "name = \"bincode\"", "version = \"3.0.0\""]);
    check(bincode_moved, "Cargo.lock", &["[[package]]", "name = \"bincode\"", "version = \"2.0.1\""]);
}

#[track_caller]
fn check(rule: impl Fn(&Source) -> Vec<String>, path: &str, lines: &[&str]) {
    let offences = rule(&planted(path, lines));
    let line = |offence: &String| offence.split(':').nth(1)?.parse().ok();
    let found: BTreeSet<usize> = offences.iter().filter_map(line).collect();
    let expected = (1..=lines.len()).filter(|line| lines[line - 1].contains("<--")).collect();
    assert_eq!(found, expected, "{lines:#?}\n{offences:#?}");
}

fn planted(path: &str, lines: &[&str]) -> Source {
    Source { path: path.to_owned(), text: lines.join("\n") }
}
