//! How long one message takes from the writer's call to the reader's event, between real peers: through the directory,
//! and over a link between the two.

use std::fs;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow, bail, ensure};
use qchat::peer::context::Account;
use qchat::peer::directory_link::{Admission, DirectoryAddress};
use qchat::peer::driver::Peer;
use qchat::peer::event::Event;
use qchat::peer::failure::Failure;
use qchat::peer::handle::{Command, PeerHandle, Source};
use qchat::seal::random::OsRandom;
use qchat::storage::partial_file::Collision;
use qchat::storage::profile::{Home, Profile};
use qchat::storage::receive_tree::Executable;
use qchat::transport::tuning::Network;
use qchat::wire::account::LoginKind;
use qchat::wire::ids::{FileName, Password, PeerName};
use tempfile::TempDir;
use tokio::sync::{broadcast, oneshot};
use tokio::task::JoinSet;

use super::Settings;
use crate::all_cores;
use crate::figures::{Row, Spread};
use crate::people::PASSWORD;
use crate::process::directory::{DirectoryProcess, Place};

/// Between two messages, so that the receipt of one does not travel with the next.
const PAUSE: Duration = Duration::from_millis(5);

/// A message that takes longer is lost.
const PATIENCE: Duration = Duration::from_secs(20);

/// What one round of messages came to.
struct Round {
    /// Milliseconds, the shortest first.
    waits: Vec<f64>,
    /// Messages that the directory had.
    stored: usize,
}

/// Two pairs of people take turns: one has a link, the other has not. Says what could not be measured, too.
pub(crate) fn measure(settings: Settings) -> anyhow::Result<(Vec<Row>, Option<String>)> {
    let directory = DirectoryProcess::start()?;
    all_cores()?.block_on(async {
        let mut far = Pair::meet(directory.place, "carol", "dave").await?;
        let mut near = Pair::meet(directory.place, "alice", "bob").await?;
        near.fetch_a_file().await?;
        let (mut through_directory, mut over_link) = (Vec::new(), Vec::new());
        for _ in 0..settings.rounds {
            through_directory.push(far.talk(settings.messages).await?);
            over_link.push(near.talk(settings.messages).await?);
        }
        far.part().await?;
        near.part().await?;
        tell(&through_directory, &over_link)
    })
}

fn tell(through_directory: &[Round], over_link: &[Round]) -> anyhow::Result<(Vec<Row>, Option<String>)> {
    let count = |rounds: &[Round]| rounds.iter().map(|round| round.waits.len()).sum::<usize>();
    let stored = |rounds: &[Round]| rounds.iter().map(|round| round.stored).sum::<usize>();
    // Not every one: a receipt that overtakes the directory's answer makes a message "delivered" at once.
    ensure!(stored(through_directory) > 0, "without a link, no message went through the directory");
    let mut rows = vec![row("through the directory", through_directory, count(through_directory))?];
    let (all, astray) = (count(over_link), stored(over_link));
    if astray == 0 {
        rows.push(row("over a link", over_link, all)?);
        return Ok((rows, None));
    }
    let why = format!("over a link: not measured, {astray} of {all} messages were NOT DIRECT, the directory had them");
    Ok((rows, Some(why)))
}

fn row(variant: &str, rounds: &[Round], messages: usize) -> anyhow::Result<Row> {
    let spread = |share: f64| Spread::of(rounds.iter().map(|round| quantile(&round.waits, share)));
    Ok(Row {
        variant: variant.to_owned(),
        figures: vec![
            ("ms p50", spread(0.5)),
            ("ms p99", spread(0.99)),
            ("ms at most", spread(1.0)),
            ("messages", Spread::of([f64::from(u32::try_from(messages)?)])),
        ],
    })
}

/// The least value that is not exceeded by this share of the values, which are sorted.
fn quantile(sorted: &[f64], share: f64) -> f64 {
    let below = share * u32::try_from(sorted.len()).map_or(f64::NAN, f64::from);
    let found = sorted.iter().zip(0_u32..).take_while(|(_, place)| f64::from(*place) < below).last();
    found.map_or(f64::NAN, |(value, _)| *value)
}

/// Two people, the first of whom writes.
struct Pair {
    writer: Running,
    reader: Running,
    said: usize,
}

impl Pair {
    /// Makes their accounts and starts their peers. One message goes ahead, which brings keys and prekeys.
    async fn meet(place: Place, writer: &str, reader: &str) -> anyhow::Result<Self> {
        let reader = Running::start(place, reader).await?;
        let writer = Running::start(place, writer).await?;
        Ok(Self { writer, reader, said: 0 })
    }

    /// Opens a link: the reader shares a file, the writer fetches it.
    async fn fetch_a_file(&mut self) -> anyhow::Result<()> {
        let path = self.reader.home.path().join("notes.txt");
        fs::write(&path, [b'x'; 1_000])?;
        self.reader.ask(Command::Share { path, hides_address: false, filter: Default::default() }).await?;
        let source = Source::Named { owner: self.reader.name.clone(), name: FileName::parse("notes.txt")? };
        let folder = self.writer.home.path().join("downloads");
        fs::create_dir(&folder)?;
        let executable = Executable::Never;
        self.writer.ask(Command::Get { source, folder, collision: Collision::Refuse, executable, once: false }).await?;
        Ok(())
    }

    /// Says so many lines, one after another, and looks which way they went. A few go ahead, uncounted.
    async fn talk(&mut self, lines: usize) -> anyhow::Result<Round> {
        for _ in 0..5 {
            self.say().await?;
        }
        let mut round = Round { waits: Vec::with_capacity(lines), stored: 0 };
        for _ in 0..lines {
            let (wait, was_stored) = self.say().await?;
            round.waits.push(wait);
            round.stored += usize::from(was_stored);
        }
        round.waits.sort_by(f64::total_cmp);
        Ok(round)
    }

    /// Says one line. Tells the milliseconds to the reader's event, and whether the directory ever had it.
    async fn say(&mut self) -> anyhow::Result<(f64, bool)> {
        self.said += 1;
        let line = format!("line {}: shall we meet at the station at half past six?", self.said);
        self.writer.forget_the_past();
        let command = Command::Message { to: self.reader.name.clone(), text: line.clone() };
        let started = Instant::now();
        let mut rows = self.writer.handle.run(command).await;
        self.reader.hears(|event| matches!(event, Event::Message { text, .. } if *text == line)).await?;
        let wait = started.elapsed().as_secs_f64() * 1e3;
        while let Some(row) = rows.recv().await {
            match row {
                Event::Failed { failure } => bail!("a message failed: {failure}"),
                Event::Queued { .. } => bail!("a message is still queued after it has arrived"),
                _ => {}
            }
        }
        tokio::time::sleep(PAUSE).await;
        Ok((wait, self.writer.was_told_of_storing()))
    }

    async fn part(self) -> anyhow::Result<()> {
        self.writer.stop().await?;
        self.reader.stop().await
    }
}

/// A resident peer of this process, in a folder of its own.
struct Running {
    name: PeerName,
    handle: PeerHandle,
    heard: broadcast::Receiver<Event>,
    tasks: JoinSet<Result<(), Failure>>,
    stop: oneshot::Sender<()>,
    home: TempDir,
}

impl Running {
    async fn start(place: Place, name: &str) -> anyhow::Result<Self> {
        let (name, home) = (PeerName::parse(name)?, tempfile::tempdir()?);
        let profile = Profile::open(&Home::at(home.path().join("home")), place.fingerprint, &name, &mut OsRandom)?;
        let account = Account {
            name: name.clone(),
            directory: DirectoryAddress::from(place.address),
            fingerprint: place.fingerprint,
            kind: LoginKind::Resident,
            collects_mail: true,
            sends_read_receipts: true,
            paths: qchat::peer::context::PathChoice::Any,
        };
        let password = Some(Password::parse(PASSWORD)?);
        let admission = Admission { password, register: true, ..Admission::default() };
        let peer = Peer::start(account, Arc::new(profile), &admission, Network::default()).await?;
        let handle = peer.handle();
        let heard = handle.events();
        let (stop, stopped) = oneshot::channel();
        let mut tasks = JoinSet::new();
        tasks.spawn(peer.run(async { drop(stopped.await) }));
        Ok(Self { name, handle, heard, tasks, stop, home })
    }

    async fn ask(&self, command: Command) -> anyhow::Result<Vec<Event>> {
        Ok(tokio::time::timeout(PATIENCE, self.handle.ask(command)).await??)
    }

    /// Waits for an event and passes those before it over.
    async fn hears(&mut self, wanted: impl Fn(&Event) -> bool) -> anyhow::Result<()> {
        let heard = async {
            while !wanted(&self.heard.recv().await?) {}
            anyhow::Ok(())
        };
        tokio::time::timeout(PATIENCE, heard).await.context("an event did not come")?
    }

    fn forget_the_past(&mut self) {
        self.heard = self.handle.events();
    }

    /// Whether it has heard lately that the directory has a message of its own.
    fn was_told_of_storing(&mut self) -> bool {
        std::iter::from_fn(|| self.heard.try_recv().ok()).any(|event| matches!(event, Event::Stored { .. }))
    }

    async fn stop(mut self) -> anyhow::Result<()> {
        self.stop.send(()).map_err(|()| anyhow!("{} has stopped already", self.name))?;
        while let Some(ended) = self.tasks.join_next().await {
            ended??;
        }
        Ok(())
    }
}
