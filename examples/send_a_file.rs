//! A file is offered, accepted, fetched straight from its owner, and compared. `cargo run --example send_a_file`
//!
//! The offer goes sealed through the directory; the bytes go from peer to peer, and each 256 KiB are verified.

#![expect(clippy::print_stdout, reason = "an example shows what happens")]

mod common;

use std::fs;

use anyhow::{Context as _, Result, ensure};
use qchat::peer::event::Event;
use qchat::peer::handle::Command;
use qchat::seal::random::{OsRandom, Random as _};
use qchat::storage::partial_file::Collision;

#[tokio::main]
async fn main() -> Result<()> {
    let directory = common::LocalDirectory::start()?;
    let ada = directory.peer("ada").await?;
    let bob = directory.peer("bob").await?;
    let mut at_bob = bob.handle.events();

    let mut photo = vec![0; 3_000_000];
    OsRandom.fill(&mut photo);
    let (pictures, downloads) = (tempfile::tempdir()?, tempfile::tempdir()?);
    let path = pictures.path().join("photo.jpg");
    fs::write(&path, &photo)?;

    // With `wait` the last rows come when Bob has the file, so Bob acts while Ada waits.
    let mut sending = ada
        .handle
        .run(Command::Send { to: "bob".parse()?, paths: vec![path], wait: true, filter: Default::default() })
        .await;
    let (offer, name, size) = common::hear(&mut at_bob, |event| match event {
        Event::Offer { id, name, size, .. } => Some((id, name, size)),
        _ => None,
    })
    .await?;
    println!("Bob is offered {name}, {size} bytes");

    let folder = downloads.path().to_owned();
    let accept = Command::Accept {
        offer: offer.to_string(),
        folder,
        collision: Collision::Refuse,
        executable: Default::default(),
    };
    let rows = bob.handle.ask(accept).await?;
    let Some(Event::Received { path, digest, millis, .. }) = rows.last() else {
        anyhow::bail!("Bob did not receive it: {rows:?}");
    };
    println!("Bob has it after {millis} ms, BLAKE3 {digest}, in {}", path.display());
    ensure!(fs::read(path)? == photo, "that is another photo");

    let mut last_words = Vec::new();
    while let Some(event) = sending.recv().await {
        last_words.push(event);
    }
    let is_sent = last_words.iter().any(|event| matches!(event, Event::Sent { offer: Some(id), .. } if *id == offer));
    let end = last_words.last().context("Ada's command ended without a word")?;
    ensure!(is_sent && *end == Event::Done, "Ada does not know that Bob has it: {last_words:?}");
    println!("Ada knows that Bob has it");

    ada.leave().await?;
    bob.leave().await?;
    directory.stop().await
}
