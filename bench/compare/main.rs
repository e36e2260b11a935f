//! `cargo bench --bench compare -- SUITE...`: where qchat stands, beside what people would pick instead and beside what the
//! network allows, on this machine. bench/README.md says how to read it.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "printing figures is what this program is for")]

mod attack;
mod bounds;
mod chat_under_load;
mod control;
mod far;
mod figures;
mod files;
mod framing;
mod growth;
mod links;
mod messages;
mod people;
mod plot;
mod process;
mod readme;
mod report;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, bail, ensure};
use clap::Parser;
use tokio::runtime::Runtime;

use figures::Machine;
use files::packets;
use files::unframed::{self, Threads};
use process::measured;
use report::{CannotRun, Report};

/// As in the product.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// A group of measurements that share their sides.
struct Suite {
    name: &'static str,
    about: &'static str,
    /// Told whether to take less time.
    measure: fn(bool) -> anyhow::Result<Report>,
}

impl Suite {
    /// Whether it is a part of another one.
    fn is_part(&self) -> bool {
        self.name.contains(':')
    }
}

const SUITES: &[Suite] = &[
    Suite {
        name: "files",
        about: "files and folders, from process to process, beside scp, rsync, magic-wormhole, sendme, socat, cp; its parts:",
        measure: |is_quick| files::measure(is_quick, files::Part::ALL),
    },
    Suite {
        name: "files:large",
        about: "one of 1 GiB",
        measure: |is_quick| files::measure(is_quick, &[files::Part::Large]),
    },
    Suite {
        name: "files:packets",
        about: "the same in packets of 1,500 bytes",
        measure: |is_quick| files::measure(is_quick, &[files::Part::Packets]),
    },
    Suite {
        name: "files:medium",
        about: "one of 64 MiB",
        measure: |is_quick| files::measure(is_quick, &[files::Part::Medium]),
    },
    Suite {
        name: "files:small",
        about: "2,000 of 10 KiB",
        measure: |is_quick| files::measure(is_quick, &[files::Part::Small]),
    },
    Suite {
        name: "files:tiny",
        about: "10,000 of 4 KiB",
        measure: |is_quick| files::measure(is_quick, &[files::Part::Tiny]),
    },
    Suite {
        name: "files:tree",
        about: "a deep tree",
        measure: |is_quick| files::measure(is_quick, &[files::Part::Tree]),
    },
    Suite {
        name: "files:memory",
        about: "what they take",
        measure: |is_quick| files::measure(is_quick, &[files::Part::Memory]),
    },
    Suite { name: "framing", about: "what the 200-byte chunk costs on a stream", measure: framing::measure },
    Suite {
        name: "control",
        about: "requests, logins and idle sessions at a directory, beside a bare quinn loop",
        measure: control::measure,
    },
    Suite {
        name: "messages",
        about: "messages stored, delivered, and how long that takes",
        measure: messages::measure,
    },
    Suite {
        name: "links",
        about: "ways that take time and lose packets, beside TCP; its parts:",
        measure: |is_quick| links::measure(is_quick, links::Part::ALL),
    },
    Suite {
        name: "links:goodput",
        about: "how much comes in a second",
        measure: |is_quick| links::measure(is_quick, &[links::Part::Goodput]),
    },
    Suite {
        name: "links:fairness",
        about: "who gets how much of a way that two use",
        measure: |is_quick| links::measure(is_quick, &[links::Part::Fairness]),
    },
    Suite {
        name: "links:errors",
        about: "whether a connection fails",
        measure: |is_quick| links::measure(is_quick, &[links::Part::Errors]),
    },
    Suite {
        name: "chat-under-load",
        about: "messages beside a transfer that fills the way",
        measure: chat_under_load::measure,
    },
    Suite { name: "growth", about: "requests, searches and logins while a directory grows", measure: growth::measure },
    Suite { name: "attack", about: "what strangers can do to a directory", measure: attack::measure },
];

/// Measures, and prints tables. Ends with 1 when a gate does not hold.
#[derive(Debug, Parser)]
#[command(name = "compare", after_help = suites())]
struct Arguments {
    /// Suites to run, or `all`; without any they are listed
    suites: Vec<String>,
    /// Fewer bytes, fewer rounds: to see that it works, not what comes out
    #[arg(long)]
    quick: bool,
    /// One JSON object for each suite instead of tables
    #[arg(long)]
    json: bool,
    /// Draws the plots of the suites into a folder, as SVG
    #[arg(long, value_name = "DIR")]
    plot: Option<PathBuf>,
    /// Puts what comes out into bench/README.md, and its plots into bench/plots
    #[arg(long, conflicts_with = "quick")]
    update: bool,
    /// Given by cargo
    #[arg(long, hide = true)]
    bench: bool,
}

fn suites() -> String {
    let lines = SUITES.iter().map(|suite| format!("  {:16} {}", suite.name, suite.about));
    format!("Suites:\n{}", lines.collect::<Vec<_>>().join("\n"))
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match arguments.as_slice() {
        [measured::MEASURE, program @ ..] => measured::stand_between(program),
        [unframed::SEND, threads, file] => {
            Threads::parse(threads).and_then(|threads| unframed::send(threads, Path::new(file))).map(|()| true)
        }
        [unframed::RECEIVE, threads, address, target] => Threads::parse(threads)
            .and_then(|threads| unframed::receive(threads, address, Path::new(target)))
            .map(|()| true),
        [packets::INSIDE, settings] => far::tell(settings, packets::find).map(|()| true),
        [links::INSIDE, settings] => far::tell(settings, links::find).map(|()| true),
        [chat_under_load::INSIDE, settings] => far::tell(settings, chat_under_load::find).map(|()| true),
        [control::bare::SERVE, answer_bytes] => control::bare::serve(answer_bytes).map(|()| true),
        _ => run(&Arguments::parse()),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Runs what was asked for. Says whether every gate holds.
fn run(arguments: &Arguments) -> anyhow::Result<bool> {
    let is_named =
        |suite: &Suite| arguments.suites.iter().any(|name| name == suite.name || (name == "all" && !suite.is_part()));
    for name in &arguments.suites {
        ensure!(
            name == "all" || SUITES.iter().any(|suite| suite.name == name),
            "there is no suite {name}\n{}",
            suites()
        );
    }
    if let Some(part) = SUITES.iter().find(|suite| arguments.update && is_named(suite) && suite.is_part()) {
        bail!("{} is a part, and bench/README.md has tables of whole suites: leave --update out", part.name);
    }
    if arguments.suites.is_empty() {
        println!("{}", suites());
    }
    let mut all_hold = true;
    for suite in SUITES.iter().filter(|suite| is_named(suite)) {
        let is_named = arguments.suites.iter().any(|name| name == suite.name);
        let report = match (suite.measure)(arguments.quick) {
            Err(error) if error.is::<CannotRun>() && !is_named => {
                eprintln!("{} is left out: {error}", suite.name);
                continue;
            }
            report => report.with_context(|| suite.name)?,
        };
        if arguments.json {
            println!("{}", report.to_json(suite.name, &Machine::here()));
        } else {
            println!("== {}\n\n{}", suite.name, report.to_text(&Machine::here()));
        }
        if let Some(folder) = &arguments.plot {
            plot::draw(&report.plots, folder)?;
        }
        if arguments.update {
            readme::update(suite.name, &report)?;
        }
        all_hold &= report.all_hold();
    }
    Ok(all_hold)
}

/// Prints a line for the process that started this one.
fn say(line: &str) {
    println!("{line}");
}

/// A runtime with one thread, so that the sides do not wait for each other.
fn one_thread() -> std::io::Result<Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()
}

/// A runtime with a thread for each core: a crowd has the same machine as the directory.
fn all_cores() -> std::io::Result<Runtime> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build()
}
