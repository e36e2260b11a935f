//! What each request of this dialect does. A name can only be spoken for from the address that it is registered from.

use std::net::{IpAddr, SocketAddr};

use serde_json::Value;

use super::kept::{self, Kept, LISTED_MAX};
use super::{Job, Service};
use crate::compat::dialect::s2::answers::{Answer, Denial};
use crate::compat::dialect::s2::{Request, port};
use crate::compat::gateway::{Arrival, Departure};
use crate::compat::names::NotIn;
use crate::compat::records::Contact;
use crate::compat::resident::{LegacyName, Resident};
use crate::compat::settings::Dialect;
use crate::peer::failure::Failure;
use crate::wire::ids::{FileName, PeerName};

impl Service {
    /// Does what is asked. `None` when the one who asks is not answered.
    pub(super) async fn carry_out(&self, job: &Job) -> Option<Answer> {
        let (from, gateway) = (job.from, job.gateway);
        Some(match &job.datagram.request {
            Request::Register { name, udp, tcp } => {
                let registered = self.register(job, name, udp, tcp).await;
                registered.map_or_else(Answer::RegisterDenied, |()| Answer::Registered)
            }
            Request::DeRegister { name } => {
                self.de_register(name, from).await;
                Answer::DeRegistered
            }
            Request::Publish { name, files } => {
                let published = self.publish(name, files, from).await;
                published.map_or_else(Answer::PublishDenied, |()| Answer::Published)
            }
            Request::Remove { name, files } => {
                let removed = self.remove(name, files, from).await;
                removed.map_or_else(Answer::RemoveDenied, |()| Answer::Removed)
            }
            Request::RetrieveAll { asker } => self.retrieve_all(&self.asker(asker.as_deref(), from)?, gateway).await,
            Request::RetrieveInfo { asker, name } => {
                self.retrieve_info(&self.asker(asker.as_deref(), from)?, name, gateway).await
            }
            Request::SearchFile { asker, file } => {
                self.search(&self.asker(asker.as_deref(), from)?, file.trim(), gateway).await
            }
            Request::UpdateContact { name, udp, tcp } => {
                let name = name.clone();
                match self.update_contact(&name, udp, tcp, from).await {
                    Ok(ip) => Answer::Updated { name, ip, udp: udp.clone(), tcp: tcp.clone() },
                    Err(denial) => Answer::UpdateDenied { name, denial },
                }
            }
            Request::Unknown { kind } => Answer::Unknown { kind: kind.clone() },
        })
    }

    async fn register(&self, job: &Job, name: &str, udp: &Value, tcp: &Value) -> Result<(), Denial> {
        let name = LegacyName::parse(name).map_err(because)?;
        let contact = Contact { ip: job.from.ip(), udp: Some(port(udp)?), tcp: Some(port(tcp)?) };
        let extra = Kept::new(job.datagram.variant).record();
        let arrival = Arrival { name, dialect: Dialect::S2, contact, extra };
        match self.gateway.enter(arrival).await {
            Ok(resident) => {
                self.speakers.note(resident.name(), job.from);
                // A program that starts again counts its requests anew.
                self.replies().forget(job.from);
                Ok(())
            }
            Err(NotIn::Here(_) | NotIn::Elsewhere | NotIn::Taken) => Err(Denial::NameInUse),
            Err(not_in) => Err(Denial::Because(not_in.to_string())),
        }
    }

    /// Takes a name out, with everything that it published. Programs ask no questions here, and get no answer.
    async fn de_register(&self, name: &str, from: SocketAddr) {
        let Ok(Some(resident)) = self.speaker(name, from) else { return };
        for file in Kept::of(&resident).map(|kept| kept.names()).unwrap_or_default() {
            self.take_back(&resident, &file).await;
        }
        if let Err(failure) = self.gateway.leave(resident.name(), Departure::Freed).await {
            tracing::warn!(name = %resident.name(), %failure, "a legacy name could not leave");
        }
        self.speakers.forget(resident.name());
        self.replies().forget(from);
    }

    async fn publish(&self, name: &str, files: &[String], from: SocketAddr) -> Result<(), Denial> {
        let resident = self.speaker(name, from)?.ok_or_else(|| Denial::Unregistered(name.to_owned()))?;
        for file in files {
            FileName::parse(file).map_err(|error| Denial::Because(error.to_string()))?;
        }
        let add = |kept: &mut Kept| files.iter().for_each(|file| kept.add(file));
        let mut wanted = Kept::of(&resident).ok_or_else(|| Denial::Unregistered(name.to_owned()))?;
        add(&mut wanted);
        if wanted.listed.len() > LISTED_MAX {
            return Err(Denial::Because(format!("a list has at most {LISTED_MAX} files")));
        }
        kept::change(&resident, add).await.map_err(because)?;
        self.collects(&resident);
        Ok(())
    }

    async fn remove(&self, name: &str, files: &[String], from: SocketAddr) -> Result<(), Denial> {
        let resident = self.speaker(name, from)?.ok_or_else(|| Denial::Unregistered(name.to_owned()))?;
        let lists = |file: &&String| Kept::of(&resident).is_some_and(|kept| kept.lists(file));
        if let Some(file) = files.iter().find(|file| !lists(file)) {
            return Err(Denial::NotListed(file.clone()));
        }
        let off = |kept: &mut Kept| files.iter().for_each(|file| kept.remove(file));
        kept::change(&resident, off).await.map_err(because)?;
        for file in files {
            self.take_back(&resident, file).await;
        }
        Ok(())
    }

    /// Takes a file back from everybody else. One that never came from its owner is published nowhere.
    async fn take_back(&self, resident: &Resident, file: &str) {
        if let Err(failure) = resident.unpublish(file).await {
            tracing::debug!(name = %resident.name(), %failure, "a listed file was not published");
        }
    }

    async fn retrieve_all(&self, asker: &Resident, gateway: IpAddr) -> Answer {
        match self.view(asker, "", gateway).await {
            Ok(view) => Answer::Everybody(self.everybody(&view).await),
            Err(reason) => Answer::RetrieveError(Denial::Because(reason)),
        }
    }

    async fn retrieve_info(&self, asker: &Resident, name: &str, gateway: IpAddr) -> Answer {
        let nobody = || Answer::RetrieveError(Denial::NoSuchPerson(name.to_owned()));
        let Ok(wanted) = PeerName::parse(name) else { return nobody() };
        match self.view(asker, "", gateway).await {
            Ok(view) => self.person(&view, &wanted).await.map_or_else(nobody, Answer::Person),
            Err(reason) => Answer::RetrieveError(Denial::Because(reason)),
        }
    }

    async fn search(&self, asker: &Resident, file: &str, gateway: IpAddr) -> Answer {
        // What can be no file's name is nowhere.
        if FileName::parse(file).is_err() {
            return Answer::Owners { file: file.to_owned(), rows: Vec::new() };
        }
        match self.view(asker, file, gateway).await {
            Ok(view) => Answer::Owners { file: file.to_owned(), rows: self.owners(&view, file).await },
            Err(reason) => Answer::SearchError(Denial::Because(reason)),
        }
    }

    async fn update_contact(&self, name: &str, udp: &Value, tcp: &Value, from: SocketAddr) -> Result<IpAddr, Denial> {
        let resident = self.speaker(name, from)?.ok_or_else(|| Denial::NobodyToUpdate(name.to_owned()))?;
        let (udp, tcp) = (port(udp)?, port(tcp)?);
        let changed = resident.change(|record| {
            record.contact.udp = Some(udp);
            record.contact.tcp = Some(tcp);
        });
        changed.await.map_err(because)?;
        self.collects(&resident);
        Ok(resident.source())
    }

    /// Who asks: by the name in the request where there is one, else by where it came from.
    fn asker(&self, name: Option<&str>, from: SocketAddr) -> Option<Resident> {
        let asker = match name {
            Some(name) => self.speaker(name, from).ok().flatten(),
            None => self.speakers.asker(&self.gateway.residents_at(Dialect::S2, from.ip()), from),
        }?;
        self.speakers.note(asker.name(), from);
        self.collects(&asker);
        Some(asker)
    }

    /// Who a name in a request is, when it is here, and speaks from there.
    fn speaker(&self, name: &str, from: SocketAddr) -> Result<Option<Resident>, Denial> {
        let Ok(name) = PeerName::parse(name) else { return Ok(None) };
        let Some(resident) = self.gateway.resident(&name).filter(|resident| resident.dialect() == Dialect::S2) else {
            return Ok(None);
        };
        if resident.source() != from.ip().to_canonical() {
            return Err(Denial::Because("this name is registered from another address".to_owned()));
        }
        self.speakers.note(&name, from);
        Ok(Some(resident))
    }
}

fn because(failure: Failure) -> Denial {
    Denial::Because(failure.message)
}
