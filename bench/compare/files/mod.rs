//! Files and folders from one process to another, side by side with a plain QUIC stream and what people would use instead.

mod cp;
mod everybody;
mod over_ssh;
pub(crate) mod packets;
mod room;
mod sendme;
mod side;
mod socat;
mod turns;
mod two_people;
pub(crate) mod unframed;
mod wormhole;

use std::path::PathBuf;

use anyhow::{bail, ensure};
use serde::Serialize;

use crate::bounds::Bound;
use crate::figures::{Row, Spread};
use crate::plot::Plot;
use crate::report::{CannotRun, Report};
use everybody::Everybody;
use room::Room;
use side::{Run, Side};
use turns::Measured;
use two_people::TwoPeople;
use unframed::Threads;

const MIB: u64 = 1 << 20;

/// Here a tenth is asked about, not a multiple: in fewer rounds it depends on when the machine takes free memory back.
const PACKETS_ROUNDS: usize = 15;

/// How much more memory 4 GiB may take than 64 MiB: its hashes are 512 KiB, twice while they come.
const MIB_MORE_MAX: f64 = 4.0;

/// What is moved. Each can be measured alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    Large,
    Packets,
    Medium,
    Small,
    Tiny,
    Tree,
    Memory,
}

impl Part {
    pub(crate) const ALL: &[Self] =
        &[Self::Large, Self::Packets, Self::Medium, Self::Small, Self::Tiny, Self::Tree, Self::Memory];
}

/// So many files of one size, all different.
#[derive(Debug, Clone, Copy, Serialize)]
struct Files {
    number: usize,
    bytes: u64,
}

/// How much is moved, and how often.
#[derive(Debug, Clone, Copy, Serialize)]
struct Settings {
    rounds: usize,
    packets_rounds: usize,
    large_mib: u64,
    medium_mib: u64,
    small: Files,
    tiny: Files,
    tree_depth: usize,
    /// Of the two files whose transfers must take the same memory.
    memory_mib: [u64; 2],
}

impl Settings {
    fn new(is_quick: bool) -> Self {
        let files = |number, kib: u64| Files { number, bytes: kib * 1024 };
        let (rounds, large_mib, medium_mib) = if is_quick { (2, 128, 16) } else { (5, 1_024, 64) };
        let packets_rounds = if is_quick { rounds } else { PACKETS_ROUNDS };
        let (small, tiny) = if is_quick { (500, 1_000) } else { (2_000, 10_000) };
        let memory_mib = if is_quick { [64, 512] } else { [64, 4_096] };
        Self {
            rounds,
            packets_rounds,
            large_mib,
            medium_mib,
            small: files(small, 10),
            tiny: files(tiny, 4),
            tree_depth: 40,
            memory_mib,
        }
    }
}

/// What all parts have in common.
struct Bench {
    settings: Settings,
    room: Room,
    report: Report,
}

/// Measures these parts, one after the other.
pub(crate) fn measure(is_quick: bool, parts: &[Part]) -> anyhow::Result<Report> {
    let settings = Settings::new(is_quick);
    let mut bench = Bench { settings, room: Room::make()?, report: Report::new(settings) };
    let (room, rounds) = (&bench.room, settings.rounds);
    bench.report.note(format!("{room}; {rounds} rounds; medians, in brackets the least and the most"));
    let everybody = Everybody::find(room.path())?;
    bench.report.notes.extend(everybody.absent.iter().cloned());
    for part in parts {
        bench.part(*part, &everybody)?;
    }
    Ok(bench.report)
}

impl Bench {
    fn part(&mut self, part: Part, everybody: &Everybody) -> anyhow::Result<()> {
        let Settings { large_mib, medium_mib, small, tiny, tree_depth, .. } = self.settings;
        match part {
            Part::Large => {
                let file = self.room.file("large", large_mib * MIB)?;
                let measured = self.compare(everybody, file, format!("One file of {large_mib} MiB"))?;
                self.expect_large(&format!("{large_mib} MiB"), &measured);
            }
            Part::Packets => self.packets(large_mib)?,
            Part::Medium => {
                let file = self.room.file("medium", medium_mib * MIB)?;
                let measured = self.compare(everybody, file, format!("One file of {medium_mib} MiB"))?;
                self.expect(&format!("{medium_mib} MiB"), &measured, "scp", Some(3.0), 5.0);
            }
            Part::Small => {
                let what = format!("{} different files of {} bytes", small.number, small.bytes);
                let folder = self.room.folder_of_files("small", small.number, small.bytes)?;
                let measured = self.compare(everybody, folder, what)?;
                self.expect_small(&format!("{} files", small.number), &measured);
            }
            Part::Tiny => {
                let what = format!("{} different files of {} bytes", tiny.number, tiny.bytes);
                let folder = self.room.folder_of_files("tiny", tiny.number, tiny.bytes)?;
                self.compare(everybody, folder, what)?;
            }
            Part::Tree => {
                let what = format!("Folders in each other, {tree_depth} deep, with dotfiles and names of many scripts");
                let folder = self.room.tree("tree", tree_depth)?;
                self.compare(everybody, folder, what)?;
            }
            Part::Memory => self.memory()?,
        }
        Ok(())
    }

    /// Lets everybody move it, and removes it.
    fn compare(&mut self, everybody: &Everybody, path: PathBuf, title: String) -> anyhow::Result<Vec<Measured>> {
        let mut sides = everybody.sides(self.room.path(), &path)?;
        let measured = turns::interleave(&self.room, self.settings.rounds, &mut sides, &path)?;
        let file = path.file_name().unwrap_or_default().display();
        drop(sides);
        self.note_remarks(&file.to_string(), &measured);
        ensure!(measured[0].folders_missing == 0, "{} did not bring all folders", measured[0].name);
        self.room.remove(&path)?;
        for Measured { name, folders_missing, .. } in measured.iter().filter(|side| side.folders_missing > 0) {
            self.report.note(format!("{file}: {name}: it did not bring {folders_missing} empty folders"));
        }
        let rows = turns::rows(&measured);
        self.report.plots.push(Plot::bars(&format!("files-{file}"), title.clone(), &rows, "s"));
        self.report.table(title, rows);
        Ok(measured)
    }

    fn note_remarks(&mut self, what: &str, measured: &[Measured]) {
        for (side, remark) in measured.iter().filter_map(|side| Some((&side.name, side.remark.as_ref()?))) {
            self.report.note(format!("{what}: {side}: {remark}"));
        }
    }

    /// The program beside the plain stream where packets are as large as on most networks.
    fn packets(&mut self, mib: u64) -> anyhow::Result<()> {
        let settings = packets::Settings { bytes: mib * MIB, rounds: self.settings.packets_rounds };
        let measured = match packets::measure(settings) {
            Err(error) if error.is::<CannotRun>() => {
                self.report.note(format!("packets of {} bytes are left out: {error}", packets::PACKET_BYTES));
                return Ok(());
            }
            measured => measured?,
        };
        let what = format!("{mib} MiB, packets of {} bytes", packets::PACKET_BYTES);
        self.note_remarks(&what, &measured);
        self.report.table(format!("One file of {what}; {} rounds", settings.rounds), turns::rows(&measured));
        self.expect(&what, &measured, Threads::One.side(), Some(0.90), 0.95);
        Ok(())
    }

    fn expect_large(&mut self, what: &str, measured: &[Measured]) {
        self.expect(what, measured, Threads::One.side(), None, 0.95);
        self.expect(what, measured, "scp", Some(1.5), 1.8);
        self.expect(what, measured, "scp aes128-gcm", Some(1.3), 1.5);
        self.expect(what, measured, "sendme", Some(2.8), 3.3);
        self.expect(what, measured, "magic-wormhole", Some(2.0), 2.2);
        self.expect(what, measured, "socat TLS", None, 1.0);
        if let Some(scp) = measured.iter().find(|side| side.name == "scp") {
            let of_scp = measured[0].ratio(scp, Run::cpu_seconds).median;
            let bound = Bound::at_most(format!("{what}: CPU seconds of both sides, of those with scp"), of_scp);
            self.report.bounds.push(bound.gate(0.75).goal(0.60));
        }
    }

    fn expect_small(&mut self, what: &str, measured: &[Measured]) {
        self.expect(what, measured, "scp", Some(5.0), 8.0);
        self.expect(what, measured, "rsync", Some(2.0), 3.0);
        let peers = measured.iter().filter(|side| side.is_peer);
        let ratios = peers.map(|side| (side.name.as_str(), side.times_slower(&measured[0]).median));
        if let Some((best, ratio)) = ratios.min_by(|(_, one), (_, other)| one.total_cmp(other)) {
            let bound = Bound::at_least(format!("{what}: times as fast as the best of the others, {best}"), ratio);
            self.report.bounds.push(bound.gate(1.0).goal(1.2));
        }
    }

    /// How many times as fast as another side the program must be, and shall be, if that one is here.
    fn expect(&mut self, what: &str, measured: &[Measured], other: &str, gate: Option<f64>, goal: f64) {
        let Some(side) = measured.iter().find(|side| side.name == other) else { return };
        let ratio = side.times_slower(&measured[0]).median;
        let bound = Bound::at_least(format!("{what}: times as fast as {other}"), ratio).goal(goal);
        self.report.bounds.push(match gate {
            Some(gate) => bound.gate(gate),
            None => bound,
        });
    }

    /// What both sides hold at most, each time with a sender that has served nothing else.
    fn memory(&mut self) -> anyhow::Result<()> {
        let mut table = Vec::new();
        let mut peaks = Vec::new();
        for mib in self.settings.memory_mib {
            let file = self.room.file("memory", mib * MIB)?;
            let mut held = [const { Vec::new() }; 2];
            for _ in 0..self.settings.rounds.min(3) {
                let mut people = TwoPeople::start(self.room.path(), &file)?;
                let target = tempfile::tempdir_in(self.room.path())?;
                let run = people.fetch(target.path())?;
                target.close()?;
                held[0].push(people.sender_peak_mib()?);
                held[1].push(run.used.peak_mib);
            }
            self.room.remove(&file)?;
            let [sender, receiver] = held.map(Spread::of);
            peaks.push(sender.median.max(receiver.median));
            let figures = vec![("MiB, sender", sender), ("MiB, receiver", receiver)];
            table.push(Row { variant: format!("{mib} MiB"), figures });
        }
        let [small, large] = peaks.as_slice() else { bail!("two files were measured") };
        let most = small.max(*large);
        let bounds = &mut self.report.bounds;
        bounds.push(Bound::at_most("MiB at most, the larger side", most).gate(48.0).goal(24.0));
        bounds.push(Bound::at_most("MiB more with the larger file", large - small).gate(MIB_MORE_MAX));
        self.report.table("Physical memory at most", table);
        Ok(())
    }
}
