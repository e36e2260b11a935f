//! The ports that stand for people who have no program of this family: what an old program says there privately goes to
//! them as a message of its owner.

use std::io;
use std::net::TcpListener as StdListener;
use std::sync::Arc;

use tokio::net::TcpListener;

use super::connection::Connection;
use super::{Office, PAUSE, REQUEST_PATIENCE, requests};
use crate::compat::dialect::s4::Private;
use crate::compat::settings::Dialect;
use crate::wire::ids::PeerName;

/// Serves again what was given away before the gateway was restarted: old programs remember it.
pub(super) async fn restore(office: Arc<Office>) {
    for name in office.gateway.ports().people(Dialect::S4).await {
        if port(&office, &name).await.is_none() {
            tracing::warn!(%name, "the port that stands for this person cannot be had");
        }
    }
}

/// The port that stands for somebody, which is served from now on. `None` when the operator gives no more.
pub(super) async fn port(office: &Arc<Office>, name: &PeerName) -> Option<u16> {
    let mut standing_in = office.standing_in.lock().await;
    if let Some(port) = standing_in.get(name) {
        return Some(*port);
    }
    let bind = |port| {
        let listener = StdListener::bind((office.address, port))?;
        listener.set_nonblocking(true)?;
        TcpListener::from_std(listener)
    };
    let (port, listener) = office.gateway.ports().port(Dialect::S4, name, bind).await?;
    office.begin(serve(office.clone(), name.clone(), listener));
    standing_in.insert(name.clone(), port);
    Some(port)
}

async fn serve(office: Arc<Office>, name: PeerName, listener: TcpListener) {
    loop {
        match listener.accept().await {
            Ok((stream, source)) => {
                let Some(connection) = Connection::take(&office.gateway, &office.line, stream, source) else {
                    continue;
                };
                office.begin(hear(office.clone(), name.clone(), connection));
            }
            Err(error) => {
                tracing::warn!(%error, %name, "a port of s4 cannot take a connection");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

async fn hear(office: Arc<Office>, name: PeerName, connection: Connection) {
    let source = connection.source();
    if let Err(error) = pass_on(&office, &name, connection).await {
        tracing::debug!(%source, %error, "a private word of s4 ended");
    }
}

/// One word, of somebody who is here and speaks from where they logged in: the frame itself proves nothing.
async fn pass_on(office: &Arc<Office>, to: &PeerName, mut connection: Connection) -> io::Result<()> {
    let Some(payload) = connection.frame(REQUEST_PATIENCE).await? else { return Ok(()) };
    connection.turn().await;
    let said = Private::parse(&payload).map_err(|malformed| io::Error::new(io::ErrorKind::InvalidData, malformed))?;
    let from = PeerName::parse(&said.from).ok().and_then(|name| office.client(&name));
    match from.filter(|client| client.resident().source() == connection.source().ip()) {
        Some(client) => {
            client.is_heard();
            let _turn = client.turn(&mut connection).await;
            requests::say(office, &client, to.as_str(), said.text).await;
        }
        None => tracing::debug!(source = %connection.source(), "a private word of nobody who is here"),
    }
    connection.finish().await
}
