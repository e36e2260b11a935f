//! Sending a file: an offer that the other side accepts by fetching, or declines; or takes without asking.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;

use super::catalogue::file_name;
use super::commands::Rows;
use super::contacts::tell_if_legacy;
use super::context::{Context, not_oneself};
use super::download::{Destination, Others, Provider, Wanted};
use super::event::Event;
use super::failure::{Failure, FailureKind};
use super::rows::{Activity, TransferState};
use super::transfer_keeper::{Begin, Keep};
use super::{blocks, contacts, folders, messages, transfers};
use crate::seal::random::{self, OsRandom};
use crate::storage::contacts::legacy_names;
use crate::storage::offers::{OpenOffer, close_offer, open_offers};
use crate::storage::partial_file::Collision;
use crate::storage::people;
use crate::storage::receive_tree::Executable;
use crate::storage::shares::{self, Audience, OwnOffer, SharedFile};
use crate::storage::walk::Filter;
use crate::storage::welcome::{self, Welcome};
use crate::wire::account::LoginKind;
use crate::wire::ids::{MessageId, PeerKey, PeerName};
use crate::wire::message::{Body, Offer};
use crate::wire::refusal::Refusal;

/// Offers a file to a person, and waits for the outcome when asked to.
pub(super) async fn send(
    context: &Arc<Context>,
    to: PeerName,
    path: PathBuf,
    wait: bool,
    filter: Filter,
    rows: &Rows,
) -> Result<(), Failure> {
    let name = file_name(&path)?;
    not_oneself(context, &to)?;
    blocks::check(context, &to, None)?;
    let identity = contacts::identify(context, &to).await?;
    if !identity.accepts {
        return Err(Failure::of_message(&to, Refusal::NotAccepted));
    }
    let is_errand = matches!(context.account.kind, LoginKind::Errand { .. });
    if is_errand && !identity.online {
        return Err(Failure::new(FailureKind::Offline, format!("{to} is not online"))
            .hint("an offer waits for them while your peer runs: start `qchat peer`, then send it again"));
    }
    tell_if_legacy(&to, identity.legacy, rows).await;
    let (file, folder) = folders::read(context, path, filter, rows).await?;
    let id = MessageId::from_bytes(random::array(&mut OsRandom));
    let audience = Audience::One { recipient: identity.key, offer: id };
    let share = SharedFile { name: name.clone(), audience, file, folder };
    let (kind, size) = (share.kind(), share.place().1);
    let offer = Offer { name: name.clone(), size, digest: share.file.digest, kind };
    let (size, files) = (size.bytes(), kind.files());
    shares::put(context.database(), share).await?;
    let mut events = context.events.subscribe();
    // Of its own, because somebody quick has the file before we hear that the offer was stored.
    let outcomes = context.events.subscribe();
    messages::send(context, &to, id, Body::Offer(offer), &mut events).await?;
    rows.row(Event::Offered { to: to.clone(), id, name, size, files, online: identity.online }).await;
    if wait && identity.online { outcome(context, &to, id, outcomes, rows).await } else { Ok(()) }
}

/// Waits until the recipient of an offer has the file, declines it, or is gone.
async fn outcome(
    context: &Context,
    to: &PeerName,
    id: MessageId,
    mut events: broadcast::Receiver<Event>,
    rows: &Rows,
) -> Result<(), Failure> {
    // Asking also tells the directory that this errand is not idle.
    let mut still_online = tokio::time::interval(STILL_ONLINE_INTERVAL);
    loop {
        let event = tokio::select! {
            event = events.recv() => event,
            _ = still_online.tick() => {
                if !context.identify(to).await?.online {
                    return Err(Failure::new(FailureKind::Offline, format!("{to} went offline before taking the file")));
                }
                continue;
            }
        };
        match event {
            Ok(event @ Event::Sent { offer, .. }) if offer == Some(id) => {
                rows.row(event).await;
                return Ok(());
            }
            Ok(Event::NotSent { to, id: returned, what, failure }) if returned == id => {
                rows.row(Event::NotSent { to, id, what, failure: failure.clone() }).await;
                return Err(failure);
            }
            Ok(Event::OfferDeclined { offer, .. }) if offer == id => {
                return Err(Failure::new(FailureKind::Declined, format!("{to} declined the file")));
            }
            Ok(Event::Transfer(row)) if row.offer == Some(id) && row.state == TransferState::Cancelled => {
                return Err(Failure::new(FailureKind::Interrupted, format!("{} was cancelled", row.name)));
            }
            Ok(event @ Event::Progress { activity: Activity::Sending, .. }) if matches!(&event, Event::Progress { peer: Some(peer), .. } if peer == to) =>
            {
                rows.hint(event);
            }
            Ok(_) | Err(RecvError::Lagged(_)) => {}
            Err(RecvError::Closed) => return Err(Failure::new(FailureKind::Other, "the peer has stopped")),
        }
    }
}

/// How often a sender looks whether the other side is still there: twice within an errand's idle time.
const STILL_ONLINE_INTERVAL: Duration = Duration::from_secs(25);

/// Lists the offers that wait for an answer: of others, then of this account.
pub(super) async fn list(context: &Context, rows: &Rows) -> Result<(), Failure> {
    list_others(context, &HashSet::new(), rows).await?;
    for OwnOffer { offer: id, to, since, share, .. } in shares::offered(context.database()).await? {
        let (size, files) = (share.place().1.bytes(), share.kind().files());
        rows.row(Event::OpenOffer { to, id, name: share.name, size, files, since }).await;
    }
    Ok(())
}

/// Lists the offers of others that wait for an answer but these. Those that were accepted are listed as transfers.
pub(super) async fn list_others(context: &Context, but: &HashSet<MessageId>, rows: &Rows) -> Result<(), Failure> {
    let open = open_offers(context.database()).await?;
    let names = legacy_names(context.database()).await?;
    let accepted: HashSet<MessageId> =
        context.traffic.incoming().await?.into_iter().filter_map(|transfer| transfer.offer).collect();
    let waits = |offer: &OpenOffer| !but.contains(&offer.id) && !accepted.contains(&offer.id);
    for OpenOffer { id, from, offer } in open.into_iter().filter(waits) {
        let (Offer { name, size, digest, kind }, legacy) = (offer, names.contains(&from));
        rows.row(Event::Offer { from, id, name, size: size.bytes(), digest, files: kind.files(), legacy }).await;
    }
    Ok(())
}

/// Fetches an offered file, now or when whoever offers it is back. The offer stays open until the file is here.
pub(super) async fn accept(context: &Arc<Context>, which: &str, into: Destination, rows: &Rows) -> Result<(), Failure> {
    let OpenOffer { id, from, offer } = choose(context, which).await?;
    let key = contacts::pinned_key(context, &from).await?;
    let wanted = wanted(Provider { name: from, key }, offer, into);
    transfers::run(context, wanted, Some(id), Keep::by(context), rows).await
}

/// An offered file as it is asked for.
fn wanted(source: Provider, offer: Offer, into: Destination) -> Wanted {
    let Offer { name, size, digest, kind } = offer;
    Wanted { sources: vec![source], others: Others::Unasked, name, size: size.bytes(), digest, kind, into }
}

/// Takes an offer that has just come without asking, if its person said so in advance: of whoever is a friend, with this
/// very key, and no more bytes than was said.
pub(super) async fn take_if_welcome(
    context: &Context,
    from: &PeerName,
    key: PeerKey,
    id: MessageId,
    offer: Offer,
) -> Result<(), Failure> {
    let Some(Welcome { bytes_max, folder, .. }) = welcome::of(context.database(), from).await? else { return Ok(()) };
    let is_resident = context.account.kind == LoginKind::Resident;
    let is_friend = people::is_friend_with_key(context.database(), from, key).await?;
    if !is_resident || !is_friend || offer.size.bytes() > bytes_max {
        return Ok(());
    }
    let text = format!("* taking {} from {from} without asking: `/accept never {from}` ends that", offer.name);
    let into = Destination { folder, collision: Collision::Rename, executable: Executable::Never };
    let wanted = wanted(Provider { name: from.clone(), key }, offer, into);
    context.traffic.begin(Begin { wanted, offer: Some(id), keep: Keep::GoesOn }).await?;
    context.tell(Event::Note { text });
    Ok(())
}

/// Takes a friend's offers from now on without asking.
pub(super) async fn welcome(
    context: &Context,
    name: PeerName,
    bytes_max: u64,
    folder: PathBuf,
    rows: &Rows,
) -> Result<(), Failure> {
    if !people::is_friend(context.database(), &name).await? {
        return Err(Failure::new(FailureKind::Usage, format!("{name} is no friend of yours"))
            .hint(format!("only friends' files are taken without asking: `friend {name}` asks them")));
    }
    let welcome = Welcome { name, bytes_max, folder };
    if !welcome::put(context.database(), welcome.clone()).await? {
        return Err(Failure::from(Refusal::TooManyFriends));
    }
    tell_welcome(welcome, rows).await;
    Ok(())
}

async fn tell_welcome(Welcome { name, bytes_max, folder }: Welcome, rows: &Rows) {
    rows.row(Event::Welcome { name, bytes_max, folder }).await;
}

/// Asks about a friend's offers again.
pub(super) async fn unwelcome(context: &Context, name: PeerName, rows: &Rows) -> Result<(), Failure> {
    if !welcome::remove(context.database(), &name).await? {
        return Err(Failure::new(FailureKind::Usage, format!("you are asked about offers of {name} already")));
    }
    rows.row(Event::Unwelcome { name }).await;
    Ok(())
}

/// Lists whose offers are taken without asking.
pub(super) async fn welcomes(context: &Context, rows: &Rows) -> Result<(), Failure> {
    for welcome in welcome::all(context.database()).await? {
        tell_welcome(welcome, rows).await;
    }
    Ok(())
}

/// Turns an offer down, and tells who made it. What has come of it is removed.
pub(super) async fn decline(context: &Arc<Context>, which: &str) -> Result<(), Failure> {
    let offer = choose(context, which).await?;
    let accepted = context.traffic.incoming().await?.into_iter().find(|transfer| transfer.offer == Some(offer.id));
    if let Some(transfer) = accepted {
        context.traffic.cancel(transfer.id).await?;
    }
    let mut events = context.events.subscribe();
    let id = MessageId::from_bytes(random::array(&mut OsRandom));
    let body = Body::OfferDeclined { offer: offer.id, name: offer.offer.name.clone() };
    messages::send(context, &offer.from, id, body, &mut events).await?;
    Ok(close_offer(context.database(), offer.id).await?)
}

/// The open offer that a person means: by the beginning of its id, by who makes it, or the only one.
async fn choose(context: &Context, which: &str) -> Result<OpenOffer, Failure> {
    let mut offers = open_offers(context.database()).await?;
    offers.retain(|offer| {
        let names = [offer.from.as_str(), offer.offer.name.as_str()];
        names.contains(&which) || offer.id.to_string().starts_with(which)
    });
    match (offers.len(), offers.pop()) {
        (1, Some(offer)) => Ok(offer),
        (0, _) if which.is_empty() => Err(Failure::new(FailureKind::Usage, "no offer waits for an answer")),
        (0, _) => Err(Failure::new(
            FailureKind::Usage,
            format!("no open offer is {which:?}, nor comes from somebody of that name"),
        )),
        _ => Err(Failure::new(FailureKind::Usage, "more than one offer fits")
            .hint("name one by the beginning of its id: `/offers` lists them")),
    }
}
