//! What the 200-byte chunk costs on a QUIC stream, memory to memory.

mod wire;

use qchat::wire::chunk::{BATCH_BYTES, CHUNK_BYTES};
use serde::Serialize;

use wire::{Framing, Plan, Run, Runs, ratios};

use crate::bounds::Bound;
use crate::figures::{Row, Spread};
use crate::plot::Plot;
use crate::report::Report;

/// Every figure is the median of so many rounds; in a round each variant runs once, one after the other.
const ROUNDS: usize = 5;

const MIB: u64 = 1 << 20;

/// How much is moved in each run.
#[derive(Debug, Clone, Copy, Serialize)]
struct Settings {
    rounds: usize,
    chunk_bytes: usize,
    batch_bytes: usize,
    stream_mib: u64,
    /// Writing each chunk alone is so slow that fewer bytes are enough.
    write_per_chunk_mib: u64,
}

impl Settings {
    fn new(is_quick: bool) -> Self {
        let (stream_mib, write_per_chunk_mib) = if is_quick { (64, 4) } else { (512, 32) };
        Self { rounds: ROUNDS, chunk_bytes: CHUNK_BYTES, batch_bytes: BATCH_BYTES, stream_mib, write_per_chunk_mib }
    }
}

/// A size of packets, and how many times the throughput of the unframed stream chunks are to have: at least, and better.
struct Packets {
    name: &'static str,
    bytes_max: u16,
    throughput: (f64, f64),
    /// And of its processor time: at most, and better. Larger packets cost less, and copying costs the same: there is no
    /// bound then.
    cpu: Option<(f64, f64)>,
}

const SIZES: [Packets; 2] = [
    Packets { name: "1452", bytes_max: 1_452, throughput: (0.90, 0.95), cpu: Some((1.10, 1.06)) },
    Packets { name: "6500", bytes_max: 6_500, throughput: (0.78, 0.88), cpu: None },
];

pub(crate) fn measure(is_quick: bool) -> anyhow::Result<Report> {
    let settings = Settings::new(is_quick);
    let Settings { rounds, stream_mib, write_per_chunk_mib, .. } = settings;
    let mut report = Report::new(settings);
    report.note(format!(
        "{rounds} rounds, chunks of {CHUNK_BYTES} bytes, batches of {BATCH_BYTES} bytes; medians, in brackets the least \
         and the most"
    ));
    let (bytes, bytes_write_per_chunk) = (stream_mib * MIB, write_per_chunk_mib * MIB);
    let plans = [
        Plan { framing: Framing::Unframed, bytes },
        Plan { framing: Framing::Copied, bytes },
        Plan { framing: Framing::Chunks, bytes },
        Plan { framing: Framing::WritePerChunk, bytes: bytes_write_per_chunk },
    ];
    for Packets { name, bytes_max, throughput, cpu } in SIZES {
        let [unframed, copied, chunks, write_per_chunk] = wire::measure(rounds, bytes_max, plans)?;
        let row = |variant: &str, runs: &Runs| Row { variant: variant.to_owned(), figures: figures(runs, &unframed) };
        let rows = vec![
            row("unframed", &unframed),
            row("unframed, but copied", &copied),
            row("chunks, 640 to a write", &chunks),
            row("chunks, a write for each", &write_per_chunk),
        ];
        let rate = ratios(&chunks, &unframed, |run| run.mib_per_second).median;
        let (gate, goal) = throughput;
        let what = format!("throughput of chunks, of unframed, packets of {name} bytes");
        report.bounds.push(Bound::at_least(what, rate).gate(gate).goal(goal));
        if let Some((gate, goal)) = cpu {
            let cost = ratios(&chunks, &unframed, |run| run.cpu_seconds_per_gib).median;
            let what = format!("CPU of chunks, of unframed, packets of {name} bytes");
            report.bounds.push(Bound::at_most(what, cost).gate(gate).goal(goal));
        }
        let title = format!("One stream over loopback, packets of {name} bytes");
        report.plots.push(Plot::bars(&format!("framing-{name}"), title, &rows, "MiB/s"));
        report.table(
            format!(
                "One stream between two peers over loopback, packets of {name} bytes, {stream_mib} MiB in each run \
                 ({write_per_chunk_mib} MiB where every chunk is a write)"
            ),
            rows,
        );
    }
    Ok(report)
}

fn figures(runs: &[Run], unframed: &[Run]) -> Vec<(&'static str, Spread)> {
    vec![
        ("MiB/s", Spread::of(runs.iter().map(|run| run.mib_per_second))),
        ("x of unframed", ratios(runs, unframed, |run| run.mib_per_second)),
        ("CPU s per GiB", Spread::of(runs.iter().map(|run| run.cpu_seconds_per_gib))),
        ("CPU, x of unframed", ratios(runs, unframed, |run| run.cpu_seconds_per_gib)),
    ]
}
