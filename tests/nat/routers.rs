//! What each kind of home router does with packets, as nftables rules for a router with the interfaces `lan` and `wan`.

use std::fmt;

/// What is between a peer and the Internet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A router without NAT, which lets everything through: the peer has a public address.
    Open,
    /// One port for everybody, open to everybody (RFC 3489: full cone).
    FullCone,
    /// One port for everybody, open to the addresses that were written to (restricted cone).
    Address,
    /// One port for everybody, open to the addresses and ports that were written to (port-restricted cone).
    Port,
    /// Another port for each destination, open to it only (symmetric).
    Symmetric,
    /// As `Port`, but takes what nobody asked for to itself and answers "port unreachable": such a packet leaves an entry
    /// behind that takes the port away from the peer when it writes to the same destination later.
    Remembering,
    /// As `Port`, with the LAN that everybody has at home: the address in it is the same on both sides.
    Home,
    /// A home router behind the NAT of a carrier, both as `Port`.
    Double,
    /// As `Port`, but no UDP from the LAN.
    UdpBlocked,
    /// IPv6 only, without NAT, but only what was asked for comes in.
    Ipv6,
}

/// The four kinds of RFC 3489, which make the table of pairs.
pub(crate) const CLASSIC: [Kind; 4] = [Kind::FullCone, Kind::Address, Kind::Port, Kind::Symmetric];

const ALL: [(Kind, &str); 10] = [
    (Kind::Open, "open"),
    (Kind::FullCone, "full"),
    (Kind::Address, "addr"),
    (Kind::Port, "port"),
    (Kind::Symmetric, "sym"),
    (Kind::Remembering, "early"),
    (Kind::Home, "home"),
    (Kind::Double, "double"),
    (Kind::UdpBlocked, "no-udp"),
    (Kind::Ipv6, "ipv6"),
];

impl Kind {
    /// The kind with a name as the table prints it.
    pub(crate) fn named(name: &str) -> Option<Self> {
        ALL.iter().find(|(_, its)| *its == name).map(|(kind, _)| *kind)
    }

    /// Whether a pair of peers behind routers of these kinds can talk to each other directly.
    pub(crate) fn meets(self, other: Self) -> bool {
        let kinds = [self, other];
        let (has, all) =
            (|kind| kinds.contains(&kind), |wanted: &[Self]| kinds.iter().all(|kind| wanted.contains(kind)));
        if has(Self::UdpBlocked) || (has(Self::Ipv6) && !all(&[Self::Ipv6])) {
            return false;
        }
        // A port that is another one for each destination cannot be told beforehand, so the other side must be open to
        // all ports of an address.
        !has(Self::Symmetric) || kinds.iter().any(|kind| matches!(kind, Self::Open | Self::FullCone | Self::Address))
    }

    /// The rules of a router with this address towards the Internet, for the peer with that address.
    pub(crate) fn rules(self, wan: &str, peer: &str) -> String {
        let masquerade = "oifname wan masquerade";
        match self {
            Self::Open => String::new(),
            Self::FullCone => Rules {
                prerouting: format!("iifname wan meta l4proto udp dnat to {peer}"),
                forward: "accept".to_owned(),
                postrouting: format!("oifname wan snat to {wan}"),
                ..Rules::default()
            }
            .to_string(),
            Self::Address => Rules {
                sets: "set written_to { type ipv4_addr; flags dynamic,timeout; timeout 60s; size 1024; }".to_owned(),
                prerouting: format!("iifname wan meta l4proto udp ip saddr @written_to dnat to {peer}"),
                forward: "oifname wan meta l4proto udp update @written_to { ip daddr timeout 60s }\naccept".to_owned(),
                postrouting: format!("oifname wan snat to {wan}"),
                ..Rules::default()
            }
            .to_string(),
            Self::Port | Self::Home | Self::Double => {
                Rules { postrouting: masquerade.to_owned(), ..Rules::default() }.to_string()
            }
            Self::Symmetric => {
                Rules { postrouting: format!("{masquerade} fully-random"), ..Rules::default() }.to_string()
            }
            Self::Remembering => {
                Rules { postrouting: masquerade.to_owned(), input: "accept", ..Rules::default() }.to_string()
            }
            Self::UdpBlocked => Rules {
                forward: format!("iifname lan meta l4proto udp drop\n{ASKED_FOR}"),
                postrouting: masquerade.to_owned(),
                ..Rules::default()
            }
            .to_string(),
            Self::Ipv6 => format!(
                "table ip6 firewall {{\n chain passing {{ type filter hook forward priority 0; {ASKED_FOR}\n}}\n}}\n"
            ),
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = ALL.iter().find(|(kind, _)| kind == self).map_or("?", |(_, name)| name);
        f.pad(name)
    }
}

/// Lets in what belongs to something that went out.
const ASKED_FOR: &str = "iifname wan ct state established,related accept\niifname wan drop";

/// The rules of a router with NAT.
struct Rules {
    sets: String,
    prerouting: String,
    forward: String,
    postrouting: String,
    input: &'static str,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            sets: String::new(),
            prerouting: String::new(),
            forward: ASKED_FOR.to_owned(),
            postrouting: String::new(),
            // What is dropped here leaves no entry behind; `Kind::Remembering` is about routers that do not.
            input: "iifname wan ct state established,related accept\niifname wan drop",
        }
    }
}

impl fmt::Display for Rules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { sets, prerouting, forward, postrouting, input } = self;
        writeln!(f, "table ip nat {{\n{sets}")?;
        // Answers are translated back only where there is a chain of this kind, be it empty.
        writeln!(f, "chain arriving {{ type nat hook prerouting priority -100; {prerouting}\n}}")?;
        writeln!(f, "chain passing {{ type filter hook forward priority 0; {forward}\n}}")?;
        writeln!(f, "chain leaving {{ type nat hook postrouting priority 100; {postrouting}\n}}")?;
        writeln!(f, "chain for_itself {{ type filter hook input priority 0; {input}\n}}\n}}")
    }
}
