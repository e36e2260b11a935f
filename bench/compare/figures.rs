//! Figures: medians with their spread, rows of a table, and the machine they hold for.

use std::fmt;
use std::fs;

use serde::Serialize;

/// A median of several rounds, and how far they lie apart.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) min: f64,
    pub(crate) max: f64,
}

impl Spread {
    pub(crate) fn of(values: impl IntoIterator<Item = f64>) -> Self {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        let (first, last) = (values.first().copied().unwrap_or(f64::NAN), values.last().copied().unwrap_or(f64::NAN));
        Self { median: values.get(values.len() / 2).copied().unwrap_or(f64::NAN), min: first, max: last }
    }
}

impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = if self.median < 10.0 { 2 } else { 1 };
        let Self { median, min, max } = self;
        if median.is_nan() {
            return write!(f, "-"); // there is none
        }
        if min.to_bits() == max.to_bits() {
            return write!(f, "{median:.digits$}"); // one value has no spread
        }
        write!(f, "{median:.digits$} [{min:.digits$} {max:.digits$}]")
    }
}

/// One variant and what was measured of it, in the order of the columns.
#[derive(Debug, Serialize)]
pub(crate) struct Row {
    pub(crate) variant: String,
    pub(crate) figures: Vec<(&'static str, Spread)>,
}

/// A Markdown table whose columns line up on a terminal too.
pub(crate) fn table(rows: &[Row]) -> String {
    let mut lines: Vec<Vec<String>> = Vec::new();
    if let Some(row) = rows.first() {
        lines.push(
            std::iter::once("").chain(row.figures.iter().map(|(column, _)| *column)).map(str::to_owned).collect(),
        );
        lines.push(vec!["---".to_owned(); row.figures.len() + 1]);
    }
    for row in rows {
        let figures = row.figures.iter().map(|(_, spread)| spread.to_string());
        lines.push(std::iter::once(row.variant.clone()).chain(figures).collect());
    }
    let columns = lines.first().map_or(0, Vec::len);
    let widths: Vec<usize> =
        (0..columns).map(|column| lines.iter().map(|line| line[column].len()).max().unwrap_or(0)).collect();
    let mut text = String::new();
    for line in lines {
        let cells: Vec<String> = line.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        text.push_str(&format!("| {} |\n", cells.join(" | ")));
    }
    text
}

/// What the figures were measured on. Absolute ones hold there only; ratios carry further.
#[derive(Debug, Serialize)]
pub(crate) struct Machine {
    cores: usize,
    processor: String,
    kernel: String,
    qchat: &'static str,
    quinn: &'static str,
}

impl Machine {
    pub(crate) fn here() -> Self {
        let read = |path| fs::read_to_string(path).unwrap_or_default();
        let processors = read("/proc/cpuinfo");
        let model =
            processors.lines().find(|line| line.starts_with("model name")).and_then(|line| line.split_once(": "));
        Self {
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            processor: model.map_or("an unknown processor", |(_, model)| model).to_owned(),
            kernel: format!(
                "Linux {}",
                read("/proc/sys/kernel/osrelease").split('-').next().unwrap_or_default().trim()
            ),
            qchat: env!("CARGO_PKG_VERSION"),
            quinn: locked_version("quinn"),
        }
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { cores, processor, kernel, qchat, quinn } = self;
        write!(f, "{cores} cores, {processor}, {kernel}, qchat {qchat}, quinn {quinn}")
    }
}

/// The version of a package in Cargo.lock.
fn locked_version(package: &str) -> &'static str {
    let mut lines = include_str!("../../Cargo.lock").lines();
    lines.find(|line| *line == format!("name = \"{package}\""));
    lines.next().and_then(|line| line.strip_prefix("version = ")).map_or("?", |version| version.trim_matches('"'))
}
