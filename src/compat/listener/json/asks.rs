//! What somebody who is here asks, done by their resident.

use std::time::Duration;

use super::uploads::promised;
use super::{Call, Reply, Shared};
use crate::compat::dialect::json::answer::Answer;
use crate::compat::dialect::json::ask::Ask;
use crate::compat::gateway::Departure;
use crate::compat::resident::{Person, Resident, Said};
use crate::peer::event::Event;
use crate::peer::failure::Failure;
use crate::peer::handle::{Command, ProfileEdit, Term};
use crate::wire::ids::{FileName, PeerName};
use crate::wire::limits::LEGACY_PROMISED_FILES_MAX;
use crate::wire::people::FriendState;
use crate::wire::profile::{DisplayName, ProfileInfo};

/// How long a request may take: programs have given up long before.
const PATIENCE: Duration = Duration::from_secs(30);

/// How long a line may take to somebody who is here, before it is said that it waits.
const DELIVERY_PATIENCE: Duration = Duration::from_secs(3);

impl Shared {
    /// Does what is asked.
    pub(super) async fn asked(&self, call: &Call, resident: &Resident, ask: Ask) -> Result<Reply, String> {
        if let Ask::Download { owner, file } = ask {
            return self.download(call, resident, owner.as_deref(), &file).await;
        }
        let answer = tokio::time::timeout(PATIENCE, self.answer(call, resident, ask)).await;
        answer.map_err(|_| "it takes too long: try again later".to_owned())?.map(Reply::Answer)
    }

    async fn answer(&self, call: &Call, resident: &Resident, ask: Ask) -> Result<Answer, String> {
        match ask {
            Ask::Deregister => self.deregister(resident).await,
            Ask::Logout => {
                let departure = self.departure(resident.name());
                self.gateway.leave(resident.name(), departure).await.map_err(sentence)?;
                Ok(done())
            }
            Ask::UpdateContact => Ok(Answer::new("UPDATE-CONFIRMED")
                .with("name", resident.spelled())
                .with("ip", call.from.ip().to_string())
                .with("udp", call.from.port())),
            Ask::Heartbeat => Ok(done()),
            Ask::Publish { files, text } => self.publish(resident, &files, text).await,
            Ask::Remove { files } => self.remove(resident, &files).await,
            Ask::RetrieveAll { .. }
            | Ask::RetrieveInfo { .. }
            | Ask::SearchFile { .. }
            | Ask::Query { .. }
            | Ask::ClientInfo { .. }
            | Ask::Online { .. }
            | Ask::ClientList { .. } => self.listed(call, resident, ask).await,
            Ask::Chat { to, text } => say(resident, &to, &text, "DELIVERED").await,
            Ask::Send { to, text } => say(resident, &to, &text, "ACK").await,
            Ask::Broadcast { text } => {
                let to_everyone = resident.announce(&text).await.map_err(sentence)?;
                Ok(done().with("everyone", to_everyone))
            }
            Ask::Profile { name, via, after } => {
                let (name, via) = (name.as_deref().map(person).transpose()?, via.as_deref().map(person).transpose()?);
                let command = Command::Profile { name, via, picture_to: None };
                self.profile(call, resident, command, after).await.map_err(sentence)
            }
            Ask::EditProfile { display_name, info } => self.edit_profile(call, resident, display_name, info).await,
            Ask::Friend { to } => befriend(resident, &to).await,
            Ask::Address { to } => {
                resident.ask(Command::Connect { to: person(&to)?, wait: false }).await.map_err(sentence)?;
                Ok(done().with("state", "asked"))
            }
            Ask::Busy { .. }
            | Ask::Block { .. }
            | Ask::Allow { .. }
            | Ask::OpenSession { .. }
            | Ask::CloseSession { .. } => {
                resident.ask(command(ask)?).await.map_err(sentence)?;
                Ok(done())
            }
            Ask::Register { .. }
            | Ask::LogIn { .. }
            | Ask::Download { .. }
            | Ask::Acknowledge { .. }
            | Ask::Chunk { .. }
            | Ask::NotBrought { .. } => Err("this is no request of somebody who is here".to_owned()),
        }
    }

    /// Looks something up.
    async fn listed(&self, call: &Call, resident: &Resident, ask: Ask) -> Result<Answer, String> {
        let listed = match ask {
            Ask::RetrieveAll { after } => self.everybody(call, resident, after).await,
            Ask::RetrieveInfo { name, after } => self.one_person(call, resident, &person(&name)?, after).await,
            Ask::Query { name } => self.location(call, resident, "LOCATION", &person(&name)?).await,
            Ask::ClientInfo { name } => self.location(call, resident, "CLIENT_INFO", &person(&name)?).await,
            Ask::Online { after } => self.names(call, resident, "ONLINE", after).await,
            Ask::ClientList { after } => self.names(call, resident, "CLIENT_LIST", after).await,
            Ask::SearchFile { file, after } => return self.owners(call, resident, &file, after).await,
            _ => return Err("this is nothing to look up".to_owned()),
        };
        listed.map_err(sentence)
    }

    /// Takes a name out for anybody to have, without the files that its owner published.
    async fn deregister(&self, resident: &Resident) -> Result<Answer, String> {
        for file in resident.published().await.map_err(sentence)? {
            resident.unpublish(file.as_str()).await.map_err(sentence)?;
        }
        let clear = resident.change(|record| record.extra = serde_json::Value::Null);
        clear.await.map_err(sentence)?;
        self.gateway.leave(resident.name(), Departure::Freed).await.map_err(sentence)?;
        Ok(Answer::new("DE-REGISTERED"))
    }

    /// Publishes a file whose text came with the request, or files that are fetched after it.
    async fn publish(&self, resident: &Resident, files: &[String], text: Option<String>) -> Result<Answer, String> {
        for file in files {
            FileName::parse(file).map_err(|error| error.to_string())?;
        }
        match (text, files) {
            (Some(text), [file]) => {
                resident.publish(file, text.into_bytes()).await.map_err(sentence)?;
                self.forget_promises(resident, &[file]).await.map_err(sentence)?;
            }
            _ => {
                if promised(resident).len() + files.len() > LEGACY_PROMISED_FILES_MAX {
                    return Err("too many files are waiting to be fetched from here: try again later".to_owned());
                }
                self.promise(resident, files).await.map_err(sentence)?;
            }
        }
        Ok(Answer::new("PUBLISHED"))
    }

    /// Takes files back: all, or none when one was never published.
    async fn remove(&self, resident: &Resident, files: &[String]) -> Result<Answer, String> {
        let promised = promised(resident);
        let published = resident.published().await.map_err(sentence)?;
        let is_shared = |file: &str| published.iter().any(|published| published.as_str() == file);
        if let Some(unknown) = files.iter().find(|file| !promised.contains(file) && !is_shared(file)) {
            return Err(format!("{} publishes no file named {unknown}", resident.spelled()));
        }
        let names: Vec<&str> = files.iter().map(String::as_str).collect();
        self.forget_promises(resident, &names).await.map_err(sentence)?;
        for file in names.into_iter().filter(|file| is_shared(file)) {
            resident.unpublish(file).await.map_err(sentence)?;
        }
        Ok(Answer::new("REMOVED"))
    }

    async fn edit_profile(
        &self,
        call: &Call,
        resident: &Resident,
        display_name: Option<String>,
        info: Option<String>,
    ) -> Result<Answer, String> {
        let mut edits = Vec::new();
        if let Some(name) = display_name {
            let name = DisplayName::parse(&name).map_err(|error| error.to_string())?;
            edits.push(ProfileEdit::DisplayName { name: Some(name) });
        }
        if let Some(info) = info {
            let text = ProfileInfo::parse(&info).map_err(|error| error.to_string())?;
            edits.push(ProfileEdit::Info { text: Some(text) });
        }
        for edit in edits {
            resident.ask(Command::EditProfile { edit }).await.map_err(sentence)?;
        }
        let own = Command::Profile { name: None, via: None, picture_to: None };
        self.profile(call, resident, own, 0).await.map_err(sentence)
    }
}

fn done() -> Answer {
    Answer::new("ACK")
}

/// What a peer is asked for those requests that are one command.
fn command(ask: Ask) -> Result<Command, String> {
    Ok(match ask {
        Ask::Busy { to } => Command::PutOff { name: person(&to)? },
        Ask::Block { to, block: true } => Command::Block { name: person(&to)? },
        Ask::Block { to, block: false } => Command::Unblock { name: person(&to)? },
        Ask::Allow { to, allow: true } => Command::Allow { to: person(&to)?, term: Term::Once },
        Ask::Allow { to, allow: false } => Command::Deny { to: person(&to)? },
        Ask::OpenSession { to } => Command::OpenExclusive { to: person(&to)? },
        Ask::CloseSession { to } => Command::CloseExclusive { with: person(&to)? },
        _ => return Err("this is no command".to_owned()),
    })
}

/// Says a line, and whether it has arrived or waits.
async fn say(resident: &Resident, to: &str, text: &str, arrived: &'static str) -> Result<Answer, String> {
    let to = person(to)?;
    let is_here = |people: Vec<Person>| people.iter().any(|person| person.name == to && person.presence.is_online());
    // Whoever is away is not waited for.
    let is_here = is_here(resident.people().await.map_err(sentence)?);
    let patience = if is_here { DELIVERY_PATIENCE } else { Duration::ZERO };
    match resident.say(&to, text, patience).await.map_err(sentence)? {
        Said::Delivered => Ok(Answer::new(arrived).with("state", "delivered")),
        Said::Waits => Ok(done().with("state", "waits")),
    }
}

/// Asks somebody to be friends, or accepts when they have asked.
async fn befriend(resident: &Resident, to: &str) -> Result<Answer, String> {
    let name = person(to)?;
    let rows = resident.ask(Command::Befriend { name }).await.map_err(sentence)?;
    let are_friends = rows.iter().any(|row| matches!(row, Event::Friend { state: FriendState::Friends, .. }));
    Ok(if are_friends { Answer::new("CONFIRM").with("name", to) } else { done().with("state", "asked") })
}

fn person(name: &str) -> Result<PeerName, String> {
    PeerName::parse(name).map_err(|error| error.to_string())
}

fn sentence(failure: Failure) -> String {
    failure.message
}
