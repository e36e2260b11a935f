//! The words for how things go: directly or through the relay, why, and what NAT lies in between.

use std::time::Duration;

use crate::peer::path::{Family, Nat, PathInfo, PathKind, StatusRow, WhyNotDirect};

/// How a connection goes, in a few words: `direct, IPv4, 12 ms`.
pub(super) fn path(via: &PathInfo) -> String {
    let kind = match via.path {
        PathKind::Direct => "direct",
        PathKind::Relay => "relayed",
    };
    let family = match via.family {
        Family::Ipv4 => "IPv4",
        Family::Ipv6 => "IPv6",
    };
    let why = via.why_relayed.map_or_else(String::new, |why| format!(" ({})", reason(why)));
    format!("{kind}, {family}, {}{why}", round_trip(via.rtt_us))
}

/// Only whether it is direct, for a line that has no room.
pub(super) fn kind(via: &PathInfo) -> &'static str {
    match via.path {
        PathKind::Direct => "direct",
        PathKind::Relay => "relayed",
    }
}

fn reason(why: WhyNotDirect) -> &'static str {
    match why {
        WhyNotDirect::Trying => "looking for a direct path",
        WhyNotDirect::NoConsent => "a direct connection is not allowed: `connect` asks for it",
        WhyNotDirect::HiddenHere => "--relay-only is set here",
        WhyNotDirect::HiddenThere => "they want it so",
        WhyNotDirect::NoAddress => "they have no address that this machine can reach",
        WhyNotDirect::Nat => "the NATs in between let nothing through",
        WhyNotDirect::Lost => "the direct path broke",
        WhyNotDirect::StandsBy => "stands by for when the direct path breaks",
    }
}

/// This peer and its directory, in a line or two.
pub(super) fn status(row: &StatusRow) -> String {
    let StatusRow { name, directory, online, rtt_us, seen_at, nat, strays: _ } = row;
    let state = match (online, rtt_us) {
        (true, Some(rtt)) => format!("online, {}", round_trip(*rtt)),
        (true, None) => "online".to_owned(),
        (false, _) => "not reachable now".to_owned(),
    };
    let seen = seen_at.map_or_else(String::new, |address| {
        let nat = match nat {
            None => "",
            Some(Nat::None) => ", no NAT",
            Some(Nat::EndpointIndependent) => ", behind a NAT that lets direct connections through",
            Some(Nat::AddressDependent) => ", behind a NAT that lets direct connections through to some only",
        };
        format!("\nseen at {address}{nat}")
    });
    format!("{name} at {directory}: {state}{seen}")
}

/// Milliseconds, with a decimal where there are few.
fn round_trip(micros: u64) -> String {
    let time = Duration::from_micros(micros);
    if micros < 10_000 { format!("{:.1} ms", time.as_secs_f64() * 1e3) } else { format!("{} ms", time.as_millis()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_says_how_it_goes_and_why_it_is_not_direct() {
        let direct = PathInfo { path: PathKind::Direct, family: Family::Ipv6, rtt_us: 1_234, why_relayed: None };
        assert_eq!(path(&direct), "direct, IPv6, 1.2 ms");
        let why_relayed = Some(WhyNotDirect::HiddenHere);
        let relayed = PathInfo { path: PathKind::Relay, family: Family::Ipv4, rtt_us: 45_678, why_relayed };
        assert_eq!(path(&relayed), "relayed, IPv4, 45 ms (--relay-only is set here)");
    }
}
