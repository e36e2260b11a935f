//! One peer watches who comes and goes while another joins and leaves. `cargo run --example watch_presence`

#![expect(clippy::print_stdout, reason = "an example shows what happens")]

mod common;

use anyhow::{Result, ensure};
use qchat::peer::event::Event;
use qchat::peer::handle::{Command, PeerHandle};

#[tokio::main]
async fn main() -> Result<()> {
    let directory = common::LocalDirectory::start()?;
    let watcher = directory.peer("watcher").await?;
    let mut events = watcher.handle.events();
    ensure!(!is_listed(&watcher.handle, "guest").await?, "a guest is here before anybody came");

    let guest = directory.peer("guest").await?;
    let came = common::hear(&mut events, presence).await?;
    println!("{came}");
    ensure!(is_listed(&watcher.handle, "guest").await?, "a guest came but is not listed");

    guest.leave().await?;
    let left = common::hear(&mut events, presence).await?;
    println!("{left}");
    ensure!(!is_listed(&watcher.handle, "guest").await?, "a guest left but is listed");

    ensure!((came.as_str(), left.as_str()) == ("guest came", "guest left"), "somebody else was there");
    watcher.leave().await?;
    directory.stop().await
}

/// What a watcher writes down, when an event is about presence.
fn presence(event: Event) -> Option<String> {
    let Event::Presence { name, online, .. } = event else { return None };
    Some(format!("{name} {}", if online { "came" } else { "left" }))
}

/// Whether `who` lists a person: presence is news, this is the state.
async fn is_listed(peer: &PeerHandle, person: &str) -> Result<bool> {
    let rows = peer.ask(Command::Who { recent: false, pattern: String::new() }).await?;
    Ok(rows.iter().any(|row| matches!(row, Event::Person { name, .. } if name.as_str() == person)))
}
