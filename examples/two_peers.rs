//! A directory and two peers in one program, who talk both ways. `cargo run --example two_peers`
//!
//! A face gives a peer commands and hears its events; this one is a program instead of a terminal.

#![expect(clippy::print_stdout, reason = "an example shows what happens")]

mod common;

use anyhow::{Result, ensure};
use qchat::peer::event::Event;
use qchat::peer::handle::Command;

#[tokio::main]
async fn main() -> Result<()> {
    let directory = common::LocalDirectory::start()?;
    let ada = directory.peer("ada").await?;
    let bob = directory.peer("bob").await?;
    // From before the first word on: a listener hears nothing that came earlier.
    let (mut at_ada, mut at_bob) = (ada.handle.events(), bob.handle.events());

    let question = Command::Message { to: "bob".parse()?, text: "Do you hear me?".to_owned() };
    let fate = ada.handle.ask(question).await?;
    // It lies at the directory, sealed for Bob; had he been away, it would wait there.
    ensure!(matches!(fate[..], [Event::Stored { .. }]), "the question was not stored but {fate:?}");
    let (from, text) = common::hear(&mut at_bob, chat).await?;
    println!("Bob hears from {from}: {text}");

    let answer = Command::Message { to: from, text: "Loud and clear.".to_owned() };
    bob.handle.ask(answer).await?;
    let (from, text) = common::hear(&mut at_ada, chat).await?;
    println!("Ada hears from {from}: {text}");
    ensure!(from.as_str() == "bob" && text == "Loud and clear.", "that is not what Bob said");

    ada.leave().await?;
    bob.leave().await?;
    directory.stop().await
}

/// Who says what, when an event is a line of chat.
fn chat(event: Event) -> Option<(qchat::wire::ids::PeerName, String)> {
    let Event::Message { from, text, .. } = event else { return None };
    Some((from, text))
}
