//! Who comes in, and who speaks: a name belongs to the address that it came from, or to whoever has its token.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use data_encoding::HEXLOWER;

use super::{Call, Shared};
use crate::compat::dialect::json::Keys;
use crate::compat::dialect::json::answer::Answer;
use crate::compat::gateway::{Arrival, Departure};
use crate::compat::names::NotIn;
use crate::compat::records::Contact;
use crate::compat::resident::{LegacyName, Resident};
use crate::compat::settings::Dialect;
use crate::compat::tries::Verdict;
use crate::compat::turns::Turns;
use crate::peer::failure::Failure;
use crate::seal::random::{OsRandom, array};
use crate::wire::ids::PeerName;
use crate::wire::limits::LEGACY_ARRIVALS_MAX;

/// Of the sixteen that may arrive at a time: nobody keeps others out, nor all processors busy.
const ARRIVING_PER_SOURCE_MAX: usize = 2;

/// Who is busy: no reason to give up.
const BUSY: &str = "too many names come from here at once: try again";

/// What is known of those who come.
#[derive(Debug)]
pub(super) struct Entrance {
    /// At most one for each name of the operator's file.
    tokens: Mutex<HashMap<PeerName, String>>,
    arriving: Turns,
}

impl Default for Entrance {
    fn default() -> Self {
        Self { tokens: Mutex::default(), arriving: Turns::new(LEGACY_ARRIVALS_MAX, ARRIVING_PER_SOURCE_MAX) }
    }
}

impl Entrance {
    fn tokens(&self) -> MutexGuard<'_, HashMap<PeerName, String>> {
        self.tokens.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shared {
    /// A name comes, with its password if it has one.
    pub(super) async fn register(&self, call: &Call, name: &str, password: Option<&str>) -> Result<Answer, String> {
        let parsed = LegacyName::parse(name).map_err(sentence)?;
        match (self.has_password(&parsed.name), password) {
            (true, Some(password)) => return self.log_in(call, "REGISTERED", name, password).await,
            (true, None) => return Err("this name has a password: add it".to_owned()),
            (false, Some(_)) => return Err("this name has no password here: leave it out".to_owned()),
            (false, None) => {}
        }
        let _place = self.entrance.arriving.take(call.from.ip()).ok_or(BUSY)?;
        match self.gateway.enter(self.arrival(parsed, call.from)).await {
            Ok(_) => Ok(Answer::new("REGISTERED")),
            Err(NotIn::Here(resident)) if is_at(&resident, call.from) => Ok(Answer::new("REGISTERED")),
            Err(not_in) => Err(not_in.to_string()),
        }
    }

    /// A name comes with its password, in place of whoever has come with it before.
    pub(super) async fn log_in(
        &self,
        call: &Call,
        welcome: &'static str,
        name: &str,
        password: &str,
    ) -> Result<Answer, String> {
        let name = LegacyName::parse(name).map_err(sentence)?;
        let source = call.from.ip();
        match self.gateway.judge(name.name.as_str(), source, password) {
            Verdict::Right => {}
            Verdict::Wrong { left } => return Err(format!("wrong name or password: {left} more tries")),
            Verdict::NowLocked { seconds } | Verdict::Locked { seconds } => {
                return Err(format!("too many wrong passwords: try again in {seconds} s"));
            }
        }
        let _place = self.entrance.arriving.take(source).ok_or(BUSY)?;
        let token = HEXLOWER.encode(&array::<16>(&mut OsRandom));
        self.take_over(call, name.clone()).await?;
        self.entrance.tokens().insert(name.name, token.clone());
        Ok(Answer::new(welcome).with("token", token))
    }

    /// Brings a name in, or here from where it is, where it is told so.
    async fn take_over(&self, call: &Call, name: LegacyName) -> Result<(), String> {
        match self.gateway.enter_with_password(self.arrival(name.clone(), call.from)).await {
            Ok(_) => Ok(()),
            Err(NotIn::Here(resident)) if resident.dialect() == Dialect::Json => {
                let before = address_of(&resident);
                self.move_to(&resident, call.from).await?;
                if let Some(before) = before.filter(|before| *before != call.from) {
                    let told = Answer::new("OUT").with("reason", "logged in from another address");
                    self.send_to(before, None, &told.print(Keys::default(), None));
                }
                Ok(())
            }
            Err(NotIn::Here(_)) => {
                self.gateway.leave(&name.name, Departure::Kept).await.map_err(sentence)?;
                let entered = self.gateway.enter_with_password(self.arrival(name, call.from)).await;
                entered.map(drop).map_err(|not_in| not_in.to_string())
            }
            Err(not_in) => Err(not_in.to_string()),
        }
    }

    /// Who speaks: whom the message names, or whose address it comes from.
    pub(super) async fn speaker(
        &self,
        call: &Call,
        named: Option<&str>,
        token: Option<&str>,
    ) -> Result<Resident, String> {
        let resident = match named {
            Some(name) => {
                let name = LegacyName::parse(name).map_err(sentence)?;
                let resident = self.gateway.resident(&name.name);
                resident.filter(|resident| resident.dialect() == Dialect::Json)
            }
            None => {
                let mut all = self.names_at(call.from);
                if all.len() > 1 {
                    return Err("several names are at this address: say which one speaks, with from".to_owned());
                }
                all.pop()
            }
        };
        let resident = resident.ok_or("nobody is here under this name or address: REGISTER first")?;
        if self.has_password(resident.name()) {
            let is_right = token.is_some() && self.entrance.tokens().get(resident.name()).map(String::as_str) == token;
            if !is_right {
                return Err("the token is missing or wrong: LIN gives one".to_owned());
            }
        } else if resident.source() != call.from.ip() {
            return Err("this name belongs to somebody at another address".to_owned());
        }
        self.move_to(&resident, call.from).await?;
        Ok(resident)
    }

    /// The names that are reached at exactly this address.
    pub(super) fn names_at(&self, address: SocketAddr) -> Vec<Resident> {
        let mut residents = self.gateway.residents_at(Dialect::Json, address.ip());
        residents.retain(|resident| is_at(resident, address));
        residents
    }

    /// What becomes of a name whose owner goes: one with a password is safe without being kept.
    pub(super) fn departure(&self, name: &PeerName) -> Departure {
        if self.has_password(name) { Departure::Freed } else { Departure::Kept }
    }

    /// Notes where a name is reached from now on.
    async fn move_to(&self, resident: &Resident, address: SocketAddr) -> Result<(), String> {
        if is_at(resident, address) {
            return Ok(());
        }
        let contact = contact(address);
        resident.change(|record| record.contact = contact).await.map_err(sentence)?;
        Ok(())
    }

    fn has_password(&self, name: &PeerName) -> bool {
        self.gateway.credentials().name(name).is_some()
    }

    fn arrival(&self, name: LegacyName, from: SocketAddr) -> Arrival {
        // What was promised before is promised still.
        let before = self.gateway.record(&name.name).filter(|record| record.dialect == Dialect::Json);
        let extra = before.map(|record| record.extra).unwrap_or_default();
        Arrival { name, dialect: Dialect::Json, contact: contact(from), extra }
    }
}

/// Where a name is reached.
pub(super) fn address_of(resident: &Resident) -> Option<SocketAddr> {
    let contact = resident.contact();
    contact.udp.map(|port| SocketAddr::new(contact.ip, port))
}

fn is_at(resident: &Resident, address: SocketAddr) -> bool {
    resident.dialect() == Dialect::Json
        && address_of(resident) == Some(SocketAddr::new(address.ip().to_canonical(), address.port()))
}

fn contact(from: SocketAddr) -> Contact {
    Contact { ip: from.ip().to_canonical(), udp: Some(from.port()), tcp: None }
}

fn sentence(failure: Failure) -> String {
    failure.message
}
