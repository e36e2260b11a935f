//! Offers that wait for an answer: which there are, what is accepted by fetching it or declined, and what is taken without
//! asking. `sending_files.rs` makes them.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;

use super::commands::Rows;
use super::context::Context;
use super::download::{Destination, Others, Provider, Wanted};
use super::event::Event;
use super::failure::{Failure, FailureKind};
use super::transfer_steps::{Begin, Keep};
use super::{contacts, messages, transfers};
use crate::seal::random::{self, OsRandom};
use crate::storage::contacts::legacy_names;
use crate::storage::offers::{OpenOffer, close_offer, open_offers};
use crate::storage::partial_file::Collision;
use crate::storage::people;
use crate::storage::receive_tree::Executable;
use crate::storage::shares::{self, OwnOffer};
use crate::storage::welcome::{self, Welcome};
use crate::wire::account::LoginKind;
use crate::wire::ids::{MessageId, PeerKey, PeerName};
use crate::wire::message::{Body, Offer};
use crate::wire::refusal::Refusal;

/// How many of several offers an error names.
const SEVERAL_NAMED_MAX: usize = 8;

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
    let accepted = accepted(context).await?;
    let waits = |offer: &OpenOffer| !but.contains(&offer.id) && !accepted.contains(&offer.id);
    for OpenOffer { id, from, offer } in open.into_iter().filter(waits) {
        let (Offer { name, size, digest, kind }, legacy) = (offer, names.contains(&from));
        rows.row(Event::Offer { from, id, name, size: size.bytes(), digest, files: kind.files(), legacy }).await;
    }
    Ok(())
}

/// The offers that were accepted and have not come yet.
async fn accepted(context: &Context) -> Result<HashSet<MessageId>, Failure> {
    Ok(context.traffic.incoming().await?.into_iter().filter_map(|transfer| transfer.offer).collect())
}

/// Fetches an offered file, now or when whoever offers it is back. The offer stays open until the file is here.
pub(super) async fn accept(context: &Arc<Context>, which: &str, into: Destination, rows: &Rows) -> Result<(), Failure> {
    let OpenOffer { id, from, offer } = choose(context, which).await?;
    let key = contacts::pinned_key(context, &from).await?;
    let wanted = wanted(Provider { name: from, key }, id, offer, into);
    transfers::run(context, wanted, Keep::by(context), rows).await
}

/// An offered file as it is asked for.
fn wanted(source: Provider, id: MessageId, offer: Offer, into: Destination) -> Wanted {
    let Offer { name, size, digest, kind } = offer;
    let (sources, others, size, may_be_whole) = (vec![source], Others::Unasked, size.bytes(), false);
    Wanted { sources, others, name, size, digest, kind, into, offer: Some(id), may_be_whole }
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
    let wanted = wanted(Provider { name: from.clone(), key }, id, offer, into);
    context.traffic.begin(Begin { wanted, keep: Keep::GoesOn }).await?;
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
pub(super) async fn decline(context: &Arc<Context>, which: &str, rows: &Rows) -> Result<(), Failure> {
    let offer = choose(context, which).await?;
    let accepted = context.traffic.incoming().await?.into_iter().find(|transfer| transfer.offer == Some(offer.id));
    if let Some(transfer) = accepted {
        context.traffic.cancel(transfer.id).await?;
    }
    let mut events = context.events.subscribe();
    let id = MessageId::from_bytes(random::array(&mut OsRandom));
    let body = Body::OfferDeclined { offer: offer.id, name: offer.offer.name.clone() };
    messages::send(context, &offer.from, id, body, &mut events).await?;
    close_offer(context.database(), offer.id).await?;
    rows.row(Event::Declined { from: offer.from, offer: offer.id, name: offer.offer.name }).await;
    Ok(())
}

/// Several offers are meant by the same word.
pub(super) fn several_fit<'a>(fit: impl Iterator<Item = (MessageId, &'a str)>) -> Failure {
    let fit: Vec<_> = fit.take(SEVERAL_NAMED_MAX).map(|(id, name)| format!("{id:.8} {name}")).collect();
    Failure::new(FailureKind::Usage, format!("more than one offer fits: {}", fit.join(", ")))
        .hint("name one by the beginning of its id; `offers` lists all")
}

/// The open offer that a person means: by the beginning of its id, by who makes it, or the only one. One that was accepted
/// and has not come yet is meant only when it is named, and no other one fits.
async fn choose(context: &Context, which: &str) -> Result<OpenOffer, Failure> {
    let mut offers = open_offers(context.database()).await?;
    offers.retain(|offer| {
        let names = [offer.from.as_str(), offer.offer.name.as_str()];
        names.contains(&which) || offer.id.to_string().starts_with(which)
    });
    let accepted = accepted(context).await?;
    if which.is_empty() || offers.iter().any(|offer| !accepted.contains(&offer.id)) {
        offers.retain(|offer| !accepted.contains(&offer.id));
    }
    match (offers.len(), offers.pop()) {
        (1, Some(offer)) => Ok(offer),
        (0, _) if which.is_empty() => Err(Failure::new(FailureKind::Usage, "no offer waits for an answer")),
        (0, _) => Err(Failure::new(
            FailureKind::Usage,
            format!("no open offer is {which:?}, nor comes from somebody of that name"),
        )),
        (_, last) => {
            let fit = offers.iter().chain(&last).map(|offer| (offer.id, offer.offer.name.as_str()));
            Err(several_fit(fit))
        }
    }
}
