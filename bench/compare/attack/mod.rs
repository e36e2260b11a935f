//! What strangers can do to a directory and to those who use it, from this machine.

mod amplification;
mod half_logins;
mod wrong_logins;

use serde::Serialize;

use crate::report::Report;

/// How long and how much.
#[derive(Debug, Clone, Copy, Serialize)]
struct Settings {
    /// Of each attack, and of the peace before it.
    seconds: u64,
    /// Accounts that are attacked together.
    accounts: usize,
}

impl Settings {
    fn new(is_quick: bool) -> Self {
        if is_quick { Self { seconds: 3, accounts: 50 } } else { Self { seconds: 10, accounts: 200 } }
    }
}

pub(crate) fn measure(is_quick: bool) -> anyhow::Result<Report> {
    let settings = Settings::new(is_quick);
    let mut report = Report::new(settings);
    report.note(format!(
        "attacks of {} s; medians, in brackets the least and the most; each attack at a directory of its own",
        settings.seconds
    ));
    let rows = wrong_logins::measure(settings, &mut report.bounds)?;
    report.table(
        "200 wrong passwords a second from one address: what honest people wait, and what the attacker is told",
        rows,
    );
    let rows = half_logins::measure(settings, &mut report.bounds)?;
    report.table("1,000 connections that never finish their login, and are opened again when they are closed", rows);
    let rows = amplification::measure(settings, &mut report.bounds)?;
    report.table("First packets from 250 addresses that never answer", rows);
    Ok(report)
}
