//! One file for each way of running: a directory, a peer, a one-shot verb, the demo.

mod admin;
mod demo;
mod doctor;
mod identity;
mod look_back;
mod peer;
mod serve;
mod settling;
mod verb;

use std::io;
use std::process::ExitCode;
use std::sync::Arc;

use tokio::runtime::Builder;

use super::args::{Args, Color, Look, Verb};
use super::exit;
use super::output::{Output, is_log_read_by_a_person, log_writer, to_stderr};
use crate::one_thread::OneThread;
use crate::peer::failure::{Failure, FailureKind};

/// Runs what the arguments ask for.
pub(super) fn run(args: Args) -> ExitCode {
    log_to_stderr(&args.look);
    let output = Arc::new(Output::new(&args.look));
    let result = match block_on(args.verb, &output) {
        Ok(result) => result,
        Err(error) => {
            to_stderr(&format!("error: cannot start: {error}"));
            return exit::code(FailureKind::Other);
        }
    };
    match result.and_then(|()| output.check_complete()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            output.failure(&failure);
            exit::code(failure.kind)
        }
    }
}

/// A directory serves many on all cores. A peer's network is the work of one thread, which takes less of the processor for a
/// file than several that wake each other; and a terminal that does not take what is printed keeps no packet waiting.
fn block_on(verb: Verb, output: &Arc<Output>) -> io::Result<Result<(), Failure>> {
    if matches!(verb, Verb::Serve(_) | Verb::Demo(_)) {
        let runtime = Builder::new_multi_thread().enable_all().build()?;
        let result = runtime.block_on(dispatch(verb, output));
        // A thread that waits for a line of input must not keep the process alive.
        runtime.shutdown_background();
        return Ok(result);
    }
    let network = OneThread::start("network")?;
    Ok(network.handle().block_on(dispatch(verb, output)))
}

async fn dispatch(verb: Verb, output: &Arc<Output>) -> Result<(), Failure> {
    match verb {
        Verb::Serve(serve) => serve::run(serve, output).await,
        Verb::Peer(peer) => peer::run(peer, output).await,
        Verb::Admin(admin) => admin::run(admin, output).await,
        Verb::Doctor(args) => doctor::run(args, output).await,
        Verb::Demo(demo) => demo::run(demo, output).await,
        Verb::ExportIdentity(args) => identity::export(args, output),
        Verb::ImportIdentity(args) => identity::import(args, output),
        Verb::Inbox(args) => look_back::inbox(args, output).await,
        Verb::History(args) => look_back::history(args, output).await,
        Verb::Audit(args) => look_back::audit(args, output).await,
        verb => verb::run(verb, output).await,
    }
}

fn log_to_stderr(look: &Look) {
    let level = match look.verbose {
        0 => "error",
        1 => "qchat=info",
        _ => "qchat=debug",
    };
    let filter = std::env::var("QCHAT_DEBUG").unwrap_or_else(|_| level.to_owned());
    let filter = tracing_subscriber::EnvFilter::try_new(&filter).unwrap_or_else(|error| {
        to_stderr(&format!("warning: QCHAT_DEBUG is not a log filter: {error}"));
        tracing_subscriber::EnvFilter::new(level)
    });
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(look.color == Color::Always || look.color == Color::Auto && is_log_read_by_a_person())
        .with_writer(log_writer)
        .init();
}

/// Waits for SIGINT or SIGTERM.
async fn stop_signal() {
    use tokio::signal::unix::{SignalKind, signal};
    match (signal(SignalKind::interrupt()), signal(SignalKind::terminate())) {
        (Ok(mut interrupt), Ok(mut terminate)) => {
            tokio::select! { _ = interrupt.recv() => {}, _ = terminate.recv() => {} }
        }
        (Err(error), _) | (_, Err(error)) => {
            tracing::error!(%error, "signals cannot be caught");
            std::future::pending().await
        }
    }
}
