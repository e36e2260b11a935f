//! Wrong passwords, 200 a second, from one address: what honest people elsewhere notice of them.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::anyhow;
use qchat::seal::identity::IdentityKey;
use qchat::seal::random::OsRandom;
use qchat::transport::endpoint::Endpoint;
use qchat::wire::account::Login;
use qchat::wire::directory::DirectoryRequest;
use qchat::wire::ids::{Password, PeerName};
use qchat::wire::refusal::{CloseCode, Refusal};
use tokio::task::JoinSet;
use tokio::time::{Instant, interval};

use super::Settings;
use crate::bounds::Bound;
use crate::figures::{Row, Spread};
use crate::one_thread;
use crate::people::{HonestPeople, ask, connect, endpoint, errand, register_all};
use crate::process::directory::{DirectoryProcess, Place};

const LOGINS_PER_SECOND: u64 = 200;
const ATTACKER: Ipv4Addr = Ipv4Addr::new(127, 9, 0, 1);

/// What honest people wait may become this much longer.
const SLOWDOWN_MAX: f64 = 2.0;

/// How the directory answered the attacker.
#[derive(Debug, Default)]
struct Answers {
    tried: AtomicU64,
    wrong: AtomicU64,
    locked: AtomicU64,
    refused_otherwise: AtomicU64,
    /// Before or instead of an answer.
    hung_up: AtomicU64,
}

/// Attacks one account, and then many, each time at a directory of its own.
pub(crate) fn measure(settings: Settings, bounds: &mut Vec<Bound>) -> anyhow::Result<Vec<Row>> {
    let mut rows = attack("one account", 0, settings, bounds)?;
    rows.extend(attack("many accounts", settings.accounts, settings, bounds)?);
    Ok(rows)
}

/// Attacks the account of an honest person who logs in meanwhile, or as many others.
fn attack(whom: &'static str, others: usize, settings: Settings, bounds: &mut Vec<Bound>) -> anyhow::Result<Vec<Row>> {
    let directory = DirectoryProcess::start()?;
    let place = directory.place;
    let runtime = one_thread()?;
    let victims: Vec<PeerName> = (0..others).filter_map(|n| PeerName::parse(&format!("victim-{n}")).ok()).collect();
    runtime.block_on(register_all(place, &victims))?;
    let mut honest = runtime.block_on(HonestPeople::arrive(place))?;
    let victims = if victims.is_empty() { vec![honest.comer().clone()] } else { victims };

    let duration = Duration::from_secs(settings.seconds);
    let idle = runtime.block_on(honest.wait_for(duration))?;
    let answers = Arc::new(Answers::default());
    let attacker = thread::spawn({
        let answers = answers.clone();
        move || one_thread()?.block_on(guess(place, victims, duration, &answers))
    });
    let during = runtime.block_on(honest.wait_for(duration))?;
    attacker.join().map_err(|_| anyhow!("the attacker panicked"))??;

    let count = |of: &AtomicU64| {
        #[expect(clippy::cast_precision_loss, reason = "a count below 2^52")]
        Spread::of([of.load(Ordering::Relaxed) as f64])
    };
    let hashed = u32::try_from(directory.wrong_passwords_hashed()?)?;
    let mut rows = Vec::new();
    for (what, idle, during) in [("login", &idle.logins, &during.logins), ("message", &idle.messages, &during.messages)]
    {
        let (idle, during) = (Spread::of(idle.iter().copied()), Spread::of(during.iter().copied()));
        let slowdown = during.median / idle.median;
        bounds.push(Bound::at_most(format!("{what}, x of idle, {whom} attacked"), slowdown).gate(SLOWDOWN_MAX));
        rows.push(Row {
            variant: format!("{what}, {whom} attacked"),
            figures: vec![
                ("ms idle", idle),
                ("ms under attack", during),
                ("x of idle", Spread::of([slowdown])),
                ("tried", count(&answers.tried)),
                ("\"wrong\"", count(&answers.wrong)),
                ("\"locked\"", count(&answers.locked)),
                ("other no", count(&answers.refused_otherwise)),
                ("hung up", count(&answers.hung_up)),
                ("hashed", Spread::of([f64::from(hashed)])),
            ],
        });
    }
    Ok(rows)
}

/// Tries a wrong password every 5 ms, each on a connection of its own, and never waits for an answer.
async fn guess(place: Place, victims: Vec<PeerName>, duration: Duration, answers: &Arc<Answers>) -> anyhow::Result<()> {
    let identity = Arc::new(IdentityKey::generate(&mut OsRandom));
    let endpoint = endpoint(ATTACKER, &identity)?;
    let mut ticks = interval(Duration::from_secs(1) / u32::try_from(LOGINS_PER_SECOND)?);
    let deadline = Instant::now() + duration;
    let mut tries = JoinSet::new();
    for victim in victims.iter().cycle() {
        if ticks.tick().await >= deadline {
            break;
        }
        answers.tried.fetch_add(1, Ordering::Relaxed);
        let (endpoint, identity, answers) = (endpoint.clone(), identity.clone(), answers.clone());
        let victim = victim.clone();
        tries.spawn(async move {
            let counted = match try_once(&endpoint, &identity, place, &victim).await {
                Ok(Refusal::WrongPassword { .. }) => &answers.wrong,
                Ok(Refusal::LockedOut { .. }) => &answers.locked,
                Ok(_) => &answers.refused_otherwise,
                Err(_) => &answers.hung_up,
            };
            counted.fetch_add(1, Ordering::Relaxed);
        });
    }
    while tries.join_next().await.is_some() {}
    Ok(())
}

async fn try_once(
    endpoint: &Endpoint,
    identity: &IdentityKey,
    place: Place,
    victim: &PeerName,
) -> anyhow::Result<Refusal> {
    let connection = connect(endpoint, place).await?;
    let password = Some(Password::parse("not the password")?);
    let login = Login { password, ..errand(identity, place, &connection, victim) };
    let answer = ask(&connection, DirectoryRequest::Login(Box::new(login))).await?;
    connection.close(CloseCode::Done);
    answer.err().ok_or_else(|| anyhow!("a wrong password was let in"))
}
