//! Puts what a suite found into bench/README.md, between the two comments that name it.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::Context as _;

use crate::SUITES;
use crate::figures::Machine;
use crate::plot;
use crate::report::{HEADING, Report};

/// Replaces the figures of a suite, and its plots beside them.
pub(crate) fn update(suite: &str, report: &Report) -> anyhow::Result<()> {
    let bench = Path::new(env!("CARGO_MANIFEST_DIR")).join("bench");
    plot::draw(&report.plots, &bench.join("plots"))?;
    let path = bench.join("README.md");
    let text = fs::read_to_string(&path)?;
    let mut found = format!("```text\n{}```\n", report.to_text(&Machine::here()));
    for plot in &report.plots {
        write!(found, "\n![{}](plots/{}.svg)\n", plot.title, plot.file)?;
    }
    let replaced =
        replace(&text, suite, &found).with_context(|| format!("{} has no place for {suite}", path.display()))?;
    let summed_up = replace(&replaced, SUMMARY, &summary(&replaced)).unwrap_or(replaced);
    Ok(fs::write(path, summed_up)?)
}

/// The comments around the gates and goals of all suites.
const SUMMARY: &str = "summary";

/// The gates and goals of all suites, as their last runs have left them in the text.
fn summary(text: &str) -> String {
    let mut table = "| suite | figure | measured | gate | goal |\n| --- | --- | --- | --- | --- |\n".to_owned();
    for suite in SUITES.iter().filter(|suite| !suite.is_part()) {
        let section = text.split_once(&begin(suite.name)).and_then(|(_, rest)| rest.split_once(&end(suite.name)));
        let bounds = section.and_then(|(section, _)| section.split_once(HEADING)).map_or("", |(_, bounds)| bounds);
        for line in bounds.lines().take_while(|line| !line.starts_with("```")).filter(|line| !line.is_empty()) {
            let mut parts = line.split("; ");
            let (what, measured) = parts.next().and_then(|first| first.rsplit_once(": ")).unwrap_or((line, ""));
            let (gate, goal): (Vec<&str>, Vec<&str>) = parts.partition(|part| part.starts_with("gate "));
            let bare = |parts: Vec<&str>, word| parts.join("; ").replacen(word, "", 1);
            let (gate, goal) = (bare(gate, "gate "), bare(goal, "goal "));
            table.push_str(&format!("| `{}` | {what} | {measured} | {gate} | {goal} |\n", suite.name));
        }
    }
    table
}

fn begin(suite: &str) -> String {
    format!("<!-- begin {suite} -->\n")
}

fn end(suite: &str) -> String {
    format!("<!-- end {suite} -->")
}

/// The text with something else between the comments of a suite.
fn replace(text: &str, suite: &str, found: &str) -> Option<String> {
    let (begin, end) = (begin(suite), end(suite));
    let (before, rest) = text.split_once(&begin)?;
    let (_, after) = rest.split_once(&end)?;
    Some(format!("{before}{begin}\n{found}\n{end}{after}"))
}
