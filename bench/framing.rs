//! `cargo bench`: what the 200-byte chunk costs, alone and on a QUIC stream. bench/README.md says how to read it.
//! Arguments come after `--`: `--quick` moves less, `--json` prints one JSON object instead of tables.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "printing figures is what this program is for")]

mod codec;
mod cpu_time;
mod figures;
mod wire;

use std::process::ExitCode;

use qchat::wire::chunk::{BATCH_BYTES, CHUNK_BYTES};
use serde::Serialize;

use figures::{Machine, Row, report, table};

/// Every figure is the median of so many rounds; in a round each variant runs once, one after the other.
const ROUNDS: usize = 5;

const MIB: u64 = 1 << 20;

/// How much is moved in each run.
#[derive(Debug, Clone, Copy, Serialize)]
struct Settings {
    rounds: usize,
    chunk_bytes: usize,
    batch_bytes: usize,
    codec_mib: u64,
    stream_mib: u64,
    /// Writing each chunk alone is so slow that fewer bytes are enough.
    write_per_chunk_mib: u64,
}

impl Settings {
    fn new(is_quick: bool) -> Self {
        let (stream_mib, write_per_chunk_mib) = if is_quick { (64, 4) } else { (512, 32) };
        let (chunk_bytes, batch_bytes) = (CHUNK_BYTES, BATCH_BYTES);
        Self { rounds: ROUNDS, chunk_bytes, batch_bytes, codec_mib: 64, stream_mib, write_per_chunk_mib }
    }
}

#[derive(Debug, Serialize)]
struct Report {
    machine: Machine,
    settings: Settings,
    codec: Vec<Row>,
    stream: Vec<Row>,
}

fn main() -> ExitCode {
    let report = report(|is_quick| measure(Settings::new(is_quick)), print);
    if report.is_some() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn measure(settings: Settings) -> anyhow::Result<Report> {
    let codec = codec::measure(settings.rounds, settings.codec_mib * MIB);
    let stream = wire::measure(settings.rounds, settings.stream_mib * MIB, settings.write_per_chunk_mib * MIB)?;
    Ok(Report { machine: Machine::here(), settings, codec, stream })
}

fn print(report: &Report) {
    let Report { machine, settings, codec, stream } = report;
    println!("{machine}");
    println!(
        "{} rounds, chunks of {} bytes, batches of {} bytes; medians, in brackets the least and the most\n",
        settings.rounds, settings.chunk_bytes, settings.batch_bytes
    );
    println!("1. The codec alone, {} MiB in each run\n", settings.codec_mib);
    println!("{}", table(codec));
    println!(
        "2. One stream between two peers over loopback, memory to memory, {} MiB in each run ({} MiB where every \
         chunk is a write)\n",
        settings.stream_mib, settings.write_per_chunk_mib
    );
    print!("{}", table(stream));
}
