//! What a client asks who is logged in. Most of it is answered by a push, and done by its resident: so who sees whom, who is
//! blocked and what waits for whom is decided where it is for everybody.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use super::Office;
use super::client::Client;
use super::connection::Connection;
use super::login::Session;
use crate::compat::dialect::s4::{self, Request, Wish};
use crate::compat::gateway::Departure;
use crate::peer::event::Event;
use crate::peer::failure::Failure;
use crate::peer::handle::{Command, Term};
use crate::wire::ids::PeerName;

/// How long somebody who was allowed may ask for an address again: as with `/allow` without a term.
const ALLOWED_FOR: Duration = Duration::from_secs(3_600);

/// Does what is asked, if the token shows who asks. Else nothing happens, as in the older system.
pub(super) async fn serve(office: &Arc<Office>, request: Request, connection: &mut Connection) -> io::Result<()> {
    let Some(client) = known(office, &request, connection) else {
        tracing::debug!(source = %connection.source(), "a request whose token is not real");
        return Ok(());
    };
    client.is_heard();
    let _turn = client.turn(connection).await;
    match request.wish {
        Wish::Message { to, text } => say(office, &client, &to, text).await,
        Wish::Broadcast { text } => broadcast(&client, text).await,
        Wish::Online => online(office, &client).await,
        Wish::Block { name } => block(office, &client, &name).await,
        Wish::Unblock { name } => unblock(office, &client, &name).await,
        Wish::Leave => leave(office, &client).await,
        Wish::Address { of } => {
            let answer = if ask_for_address(&client, &of).await { s4::ASKED } else { s4::NOT_ASKED };
            connection.answer(answer).await?;
        }
        Wish::Allow { to } => allow(office, &client, &to).await,
        Wish::Hey => {}
    }
    Ok(())
}

/// Who asks: the token must be that of the name's session, and come from where that was begun.
fn known(office: &Arc<Office>, request: &Request, connection: &Connection) -> Option<Arc<Client>> {
    let name = PeerName::parse(&request.name).ok()?;
    let client = office.client(&name)?;
    let is_at_home = client.resident().source() == connection.source().ip();
    let is_shown = Session::of(client.resident()).is_some_and(|session| session.is_shown_by(&name, &request.token));
    (is_at_home && is_shown).then_some(client)
}

/// The person whom a client means; tells the client when there can be nobody of that name.
fn person(client: &Client, name: &str) -> Option<PeerName> {
    match PeerName::parse(name) {
        Ok(name) => Some(name),
        Err(error) => {
            client.tell(s4::notice(&error.to_string()));
            None
        }
    }
}

/// Sends a message from a client to somebody.
pub(super) async fn say(office: &Arc<Office>, client: &Client, to: &str, text: String) {
    let Some(to) = person(client, to) else { return };
    let resident = client.resident();
    if to == *resident.name() {
        // The older system has nothing against it.
        client.tell(s4::message(resident.spelled(), &text));
        return;
    }
    let mut is_kept = false;
    let mut is_told = false;
    let mut rows = match resident.run(Command::Message { to: to.clone(), text }).await {
        Ok(rows) => rows,
        Err(failure) => return tell_failure(client, &failure),
    };
    while let Some(row) = rows.recv().await {
        match row {
            Event::Stored { .. } | Event::Queued { .. } => is_kept = true,
            // It comes as an event of its own, too, of which the client's attendant tells it.
            Event::NotSent { .. } => is_told = true,
            Event::Failed { failure } if !is_told => client.tell(s4::notice(&failure.message)),
            _ => {}
        }
    }
    // Whoever is here gets it in a moment.
    if is_kept && !office.is_seen(client, &to).await {
        client.tell(s4::RECIPIENT_OFFLINE.to_owned());
    }
}

async fn broadcast(client: &Client, text: String) {
    match client.resident().announce(&text).await {
        Ok(to_everyone) => {
            client.tell(s4::message(client.resident().spelled(), &text));
            if !to_everyone {
                client.tell(s4::NOT_EVERYONE.to_owned());
            }
        }
        Err(failure) => tell_failure(client, &failure),
    }
}

async fn online(office: &Arc<Office>, client: &Client) {
    match client.resident().people().await {
        Ok(people) => {
            let names: Vec<String> = people.iter().map(|person| office.gateway.spelled(&person.name)).collect();
            client.tell(s4::online(names.iter().map(String::as_str)));
        }
        Err(failure) => tell_failure(client, &failure),
    }
}

async fn block(office: &Arc<Office>, client: &Client, name: &str) {
    let Some(name) = person(client, name) else { return };
    match client.resident().ask(Command::Block { name: name.clone() }).await {
        Ok(_) => client.tell(s4::blocked(&office.gateway.spelled(&name))),
        Err(failure) => tell_failure(client, &failure),
    }
}

async fn unblock(office: &Arc<Office>, client: &Client, name: &str) {
    let Some(name) = person(client, name) else { return };
    match client.resident().ask(Command::Unblock { name: name.clone() }).await {
        Ok(_) => client.tell(s4::unblocked(&office.gateway.spelled(&name))),
        Err(failure) => tell_failure(client, &failure),
    }
}

/// The others hear of it from the directory, as far as they may see it. Who leaves is not told: its program is ending.
async fn leave(office: &Arc<Office>, client: &Client) {
    if let Err(failure) = office.gateway.leave(client.resident().name(), Departure::Kept).await {
        tell_failure(client, &failure);
    }
}

/// Asks somebody whether the client may learn their address. Whether they can be asked.
async fn ask_for_address(client: &Client, of: &str) -> bool {
    let Ok(to) = PeerName::parse(of) else { return false };
    match client.resident().ask(Command::Connect { to, wait: false }).await {
        Ok(_) => true,
        Err(failure) => {
            tracing::debug!(name = %client.resident().name(), %failure, "nobody can be asked");
            false
        }
    }
}

async fn allow(office: &Arc<Office>, client: &Client, to: &str) {
    let Some(to) = person(client, to) else { return };
    if !client.is_asked_by(&to) && !office.is_seen(client, &to).await {
        client.tell(s4::gone_offline(&office.gateway.spelled(&to)));
        return;
    }
    let millis = u64::try_from(ALLOWED_FOR.as_millis()).unwrap_or(u64::MAX);
    if let Err(failure) = client.resident().ask(Command::Allow { to, term: Term::For { millis } }).await {
        tell_failure(client, &failure);
    }
}

fn tell_failure(client: &Client, failure: &Failure) {
    client.tell(s4::notice(&failure.message));
}

impl Office {
    /// Whether somebody is here, as far as a client may see.
    async fn is_seen(&self, client: &Client, name: &PeerName) -> bool {
        match client.resident().people().await {
            Ok(people) => people.iter().any(|person| person.name == *name),
            Err(failure) => {
                tracing::debug!(%failure, "not known who is here");
                false
            }
        }
    }
}
