//! Connections per second: with a login by a key that the directory knows, and the bare handshake.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use qchat::seal::identity::IdentityKey;
use qchat::seal::random::OsRandom;
use qchat::transport::endpoint::Endpoint;
use qchat::wire::account::LoginKind;
use qchat::wire::refusal::CloseCode;
use tokio::task::JoinSet;

use super::Settings;
use super::bare::BareProcess;
use crate::all_cores;
use crate::figures::{Row, Spread};
use crate::people::crowd::{Person, directory_of, people};
use crate::people::{connect, endpoint};
use crate::process::directory::Place;
use crate::report::Report;

/// Newcomers at a time: so few that the directory asks none of them to prove their address first.
const AT_ONCE: usize = 8;

/// Accounts of each newcomer, who take turns: a session that is leaving still counts.
const ACCOUNTS_EACH: usize = 8;

pub(super) fn measure(settings: Settings, report: &mut Report) -> anyhow::Result<()> {
    let (mut logins, mut handshakes) = (Vec::new(), Vec::new());
    for _ in 0..settings.rounds {
        logins.push(all_cores()?.block_on(log_in(settings.run))?);
        handshakes.push(all_cores()?.block_on(shake_hands(settings.run))?);
    }
    let ratio = Spread::of(logins.iter().zip(&handshakes).map(|(login, bare)| login / bare));
    let one = Spread::of([1.0]);
    let row = |variant: &str, rates: Vec<f64>, ratio| Row {
        variant: variant.to_owned(),
        figures: vec![("connections/s", Spread::of(rates)), ("x of bare", ratio)],
    };
    let rows = vec![row("qchat serve, with login", logins, ratio), row("bare quinn handshake", handshakes, one)];
    report.table(format!("New connections, {AT_ONCE} at a time"), rows);
    Ok(())
}

async fn log_in(run: Duration) -> anyhow::Result<f64> {
    let crowd = people("comer", AT_ONCE * ACCOUNTS_EACH)?;
    let directory = directory_of(&[&crowd]).await?;
    count(crowd.chunks(ACCOUNTS_EACH).map(<[_]>::to_vec), directory.place, run).await
}

async fn shake_hands(run: Duration) -> anyhow::Result<f64> {
    let server = BareProcess::start(1)?;
    count(vec![Vec::new(); AT_ONCE].into_iter(), server.place, run).await
}

/// Connects again and again from one socket, and says how often in a second. Who has accounts logs in with them in turn.
async fn count(comers: impl Iterator<Item = Vec<Arc<Person>>>, place: Place, run: Duration) -> anyhow::Result<f64> {
    let socket = endpoint(Ipv4Addr::LOCALHOST, &IdentityKey::generate(&mut OsRandom))?;
    let started = Instant::now();
    let mut coming = JoinSet::new();
    for accounts in comers {
        coming.spawn(come_and_go(socket.clone(), accounts, place, started + run));
    }
    let mut count = 0;
    while let Some(came) = coming.join_next().await {
        count += came??;
    }
    Ok(f64::from(count) / started.elapsed().as_secs_f64())
}

async fn come_and_go(
    socket: Endpoint,
    accounts: Vec<Arc<Person>>,
    place: Place,
    until: Instant,
) -> anyhow::Result<u32> {
    let mut accounts = accounts.iter().cycle();
    let mut count = 0;
    while Instant::now() < until {
        let connection = match accounts.next() {
            Some(person) => person.log_in(&socket, place, LoginKind::Errand { collects: false }).await?,
            None => connect(&socket, place).await?,
        };
        connection.close(CloseCode::Done);
        count += 1;
    }
    Ok(count)
}
