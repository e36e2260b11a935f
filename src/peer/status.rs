//! What `status` shows: this peer, its directory, and how each open connection to somebody goes.

use super::commands::Rows;
use super::context::Context;
use super::event::Event;
use super::path::StatusRow;

/// Shows it.
pub(super) async fn status(context: &Context, rows: &Rows) {
    let session = context.session.borrow().clone();
    let towards = session.as_ref().map(|session| session.remote_address());
    let local = towards.and_then(|towards| context.endpoint.local_address_towards(towards).ok());
    let row = StatusRow {
        name: context.account.name.clone(),
        directory: context.account.directory.to_string(),
        online: session.is_some(),
        rtt_us: session.map(|session| u64::try_from(session.round_trip().as_micros()).unwrap_or(u64::MAX)),
        seen_at: context.observations.by_directory(),
        nat: local.and_then(|local| context.observations.nat(local)),
        strays: context.meetings.strays() + context.endpoint.datagrams_lost().malformed,
    };
    rows.row(Event::Status(Box::new(row))).await;
    for link in context.links.all() {
        let event = Event::Link { name: link.name.clone(), key: link.key, via: link.path_info() };
        rows.row(event).await;
    }
}
