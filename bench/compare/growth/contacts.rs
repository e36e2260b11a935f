//! How long it takes somebody who comes to know which of their contacts are here, all of whom are: friends, who are asked
//! for in pages, and others, who are watched.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{anyhow, bail, ensure};
use qchat::seal::identity::IdentityKey;
use qchat::seal::random::OsRandom;
use qchat::transport::connection::Connection;
use qchat::wire::account::LoginKind;
use qchat::wire::directory::{DirectoryPush, DirectoryReply, DirectoryRequest};
use qchat::wire::limits::WATCHED_MAX;
use qchat::wire::refusal::CloseCode;
use tokio::task::JoinSet;

use super::{Series, Settings};
use crate::all_cores;
use crate::figures::Spread;
use crate::people::crowd::{Person, arrive, directory_with, people};
use crate::people::{ask, endpoint};
use crate::process::directory::DirectoryProcess;

/// Comings at each number of contacts.
const TIMES: usize = 10;

/// Between two, until the ones who are here have been told.
const PAUSE: Duration = Duration::from_millis(500);

pub(super) fn measure(settings: Settings) -> anyhow::Result<Vec<Series>> {
    let mut friends = Series { name: "friends", at: Vec::new() };
    let mut watched = Series { name: "watched", at: Vec::new() };
    for &contacts in settings.contacts {
        let (asked, told) = all_cores()?.block_on(come_to(contacts))?;
        friends.at.push((contacts, Spread::of(asked)));
        if contacts <= WATCHED_MAX {
            watched.at.push((contacts, Spread::of(told)));
        }
    }
    Ok(vec![friends, watched])
}

/// Milliseconds of each coming, with friends, and with others if so many can be watched.
async fn come_to(contacts: usize) -> anyhow::Result<(Vec<f64>, Vec<f64>)> {
    let (friendly, curious) = (people("friendly", 1)?, people("curious", 1)?);
    let crowd = people("known", contacts)?;
    let befriend = |file: &Path| befriend(file, &friendly[0], &crowd);
    let directory = directory_with(&[&friendly, &curious, &crowd], befriend).await?;
    let mut taking = JoinSet::new();
    let present = arrive(directory.place, &crowd, &mut taking).await?;
    let (mut asked, mut told) = (Vec::new(), Vec::new());
    for _ in 0..TIMES {
        tokio::time::sleep(PAUSE).await;
        asked.push(come(&directory, &friendly[0], async |connection| count_friends(connection, contacts).await).await?);
        if contacts <= WATCHED_MAX {
            tokio::time::sleep(PAUSE).await;
            told.push(
                come(&directory, &curious[0], async |connection| watch(&curious[0], connection, &crowd).await).await?,
            );
        }
    }
    ensure!(present.iter().all(Connection::is_open), "somebody was lost");
    Ok((asked, told))
}

/// Connects, logs in and finds out who is here; how many milliseconds that took.
async fn come(
    directory: &DirectoryProcess,
    person: &Person,
    find_out: impl AsyncFnOnce(&Connection) -> anyhow::Result<()>,
) -> anyhow::Result<f64> {
    let socket = endpoint(Ipv4Addr::LOCALHOST, &IdentityKey::generate(&mut OsRandom))?;
    let started = Instant::now();
    let connection = person.log_in(&socket, directory.place, LoginKind::Resident).await?;
    find_out(&connection).await?;
    let taken = started.elapsed().as_secs_f64() * 1e3;
    connection.close(CloseCode::Done);
    Ok(taken)
}

/// Asks for all friends, who must be here.
async fn count_friends(connection: &Connection, contacts: usize) -> anyhow::Result<()> {
    let (mut here, mut after) = (0, None);
    loop {
        let reply = ask(connection, DirectoryRequest::Friends { after }).await?;
        let DirectoryReply::Friends { friends, more } = reply.map_err(|refusal| anyhow!("refused: {refusal}"))? else {
            bail!("another answer than friends");
        };
        here += friends.iter().filter(|friend| friend.presence.is_online()).count();
        after = friends.last().map(|friend| friend.name.clone());
        if !more {
            break;
        }
    }
    ensure!(here == contacts, "{here} of {contacts} friends are here");
    Ok(())
}

/// Watches people, and takes pushes until it was told of each.
async fn watch(own: &Person, connection: &Connection, watched: &[Arc<Person>]) -> anyhow::Result<()> {
    let names = watched.iter().map(|person| person.name.clone()).collect();
    let asking = async {
        let reply = ask(connection, DirectoryRequest::Watch { names }).await?;
        reply.map(drop).map_err(|refusal| anyhow!("refused: {refusal}"))
    };
    let hearing = async {
        let mut unheard: BTreeSet<_> = watched.iter().map(|person| &person.name).collect();
        while !unheard.is_empty() {
            if let DirectoryPush::Presence { name, presence } = own.take_push(connection).await?
                && presence.is_online()
            {
                unheard.remove(&name);
            }
        }
        anyhow::Ok(())
    };
    tokio::try_join!(asking, hearing).map(drop)
}

/// Makes two sides friends, in a directory's file.
fn befriend(file: &Path, one: &Person, others: &[Arc<Person>]) -> anyhow::Result<()> {
    let mut database = rusqlite::Connection::open(file)?;
    let transaction = database.transaction()?;
    for other in others {
        for (name, of) in [(&one.name, &other.name), (&other.name, &one.name)] {
            let insert = "INSERT INTO friend (name, other, asked_at) VALUES (?1, ?2, 0)";
            transaction.execute(insert, [name.as_str(), of.as_str()])?;
        }
    }
    Ok(transaction.commit()?)
}
