//! Two homes, a server and the Internet between them; more homes where a test wants them.
//!
//! ```text
//! alice --lan-- router --wan--+           +--wan-- router --lan-- bob
//!    10.1.0.2       203.0.113.1 -- core -- 198.51.100.1       10.2.0.2
//!                                   |
//!                     server 192.0.2.1 and 192.0.2.2
//! ```
//!
//! The core is a router that counts for many: what reaches it with few hops left goes no further, as on the way through
//! the real Internet. Nothing loses packets; those that enter or leave a home can be made to take their time.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use crate::cable::{self, Nature};
use crate::namespaces::Namespace;
use crate::routers::Kind;

/// The server's addresses: one for the directory, and a second for the probes.
pub(crate) const SERVER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
pub(crate) const SERVER_TOO: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);
pub(crate) const SERVER_IPV6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);

/// A packet that has fewer hops left than this when it reaches the core gets nowhere.
const HOPS_BEHIND_THE_CORE: u8 = 8;

/// A lab; everything in it is gone when it is dropped.
pub(crate) struct Lab {
    pub(crate) core: Namespace,
    pub(crate) server: Namespace,
    pub(crate) alice: Home,
    pub(crate) bob: Home,
    /// Homes of more people, if there are any.
    pub(crate) others: Vec<Home>,
}

/// Where a peer lives.
pub(crate) struct Home {
    pub(crate) peer: Namespace,
    /// None for a guest of the other's.
    pub(crate) router: Option<Namespace>,
    _carrier: Option<Namespace>,
    /// The peer's own address.
    pub(crate) lan: IpAddr,
    /// The address that the Internet sees.
    pub(crate) wan: IpAddr,
}

/// What differs between the two homes.
struct Site {
    /// Ends the names of its namespaces and of the core's interface.
    letter: char,
    /// The first three numbers of its public network; 1 is the router and 126 the core, and behind the router
    /// follow 129 and more where there is no NAT.
    public: &'static str,
    /// The first three numbers of its LAN.
    lan: &'static str,
    /// The first half of its IPv6 networks.
    ipv6: &'static str,
}

const ALICE: Site = Site { letter: 'a', public: "203.0.113", lan: "10.1.0", ipv6: "2001:db8:a" };
const BOB: Site = Site { letter: 'b', public: "198.51.100", lan: "10.2.0", ipv6: "2001:db8:b" };

/// More homes.
const OTHERS: [Site; 3] = [
    Site { letter: 'c', public: "198.18.1", lan: "10.3.0", ipv6: "2001:db8:c" },
    Site { letter: 'd', public: "198.18.2", lan: "10.4.0", ipv6: "2001:db8:d" },
    Site { letter: 'e', public: "198.18.3", lan: "10.5.0", ipv6: "2001:db8:e" },
];

/// The LAN of `Kind::Home`, on both sides.
const USUAL_LAN: &str = "192.168.1";

impl Lab {
    /// Each peer behind a router of its own.
    pub(crate) fn new(alice: Kind, bob: Kind) -> Self {
        Self::far_apart(alice, bob, Duration::ZERO)
    }

    /// Each peer behind a router of its own, from which packets take so long to the core or back.
    pub(crate) fn far_apart(alice: Kind, bob: Kind, delay: Duration) -> Self {
        let core = core();
        let server = server(&core);
        let alice = home(&core, &ALICE, alice, delay);
        let bob = home(&core, &BOB, bob, delay);
        Self { core, server, alice, bob, others: Vec::new() }
    }

    /// Five people, each behind a router of their own that finds direct paths.
    pub(crate) fn of_five() -> Self {
        let mut lab = Self::new(Kind::Port, Kind::Port);
        lab.others = OTHERS.iter().map(|site| home(&lab.core, site, Kind::Port, Duration::ZERO)).collect();
        lab
    }

    /// Bytes that went from home to home through the core, from Alice's and from Bob's, whatever a program says.
    pub(crate) fn bytes_between_homes(&self) -> [u64; 2] {
        ["from_alice", "from_bob"].map(|counter| {
            let listed = self.core.script(&format!("nft list counter inet core {counter}"));
            let mut words = listed.split_whitespace().skip_while(|word| *word != "bytes");
            words.nth(1).and_then(|bytes| bytes.parse().ok()).unwrap_or_else(|| panic!("no bytes in:\n{listed}"))
        })
    }

    /// Both peers behind one router, as `Kind::Port`: to each other they are in one LAN.
    pub(crate) fn behind_one_router(delay: Duration) -> Self {
        let core = core();
        let server = server(&core);
        let alice = home(&core, &ALICE, Kind::Port, delay);
        let bob = neighbour(&alice);
        Self { core, server, alice, bob, others: Vec::new() }
    }

    /// Lets no packet through from one home to the other; the server can be reached.
    pub(crate) fn cut(&self) {
        self.core.script(
            "nft -f - <<'END'\n\
             table inet cut { chain passing { type filter hook forward priority -1;\n\
             iifname home-a oifname home-b drop\niifname home-b oifname home-a drop\n}\n}\nEND\n",
        );
    }

    /// Takes `cut` back.
    pub(crate) fn mend(&self) {
        self.core.script("nft delete table inet cut");
    }
}

impl Home {
    /// Lets no more than this leave the home, in the words of `tc`'s token bucket.
    pub(crate) fn shape(&self, rate: &str) {
        let router = self.router.as_ref().expect("it has a router of its own");
        router.script(&format!("tc qdisc add dev wan root tbf {rate}"));
    }
}

/// No link waits to see whether somebody else has its address already.
const AT_ONCE: &str = "echo 0 > /proc/sys/net/ipv6/conf/default/accept_dad\n\
                       echo 0 > /proc/sys/net/ipv6/conf/all/accept_dad\n\
                       ip link set lo up\n";

const FORWARDS: &str = "echo 1 > /proc/sys/net/ipv4/ip_forward\n\
                        echo 1 > /proc/sys/net/ipv6/conf/all/forwarding\n";

fn core() -> Namespace {
    let core = Namespace::new("core");
    core.script(&format!(
        "{AT_ONCE}{FORWARDS}nft -f - <<'END'\n\
         table inet core {{\ncounter from_alice {{ }}\ncounter from_bob {{ }}\n\
         chain passing {{ type filter hook forward priority 0;\n\
         meta l4proto udp ip ttl < {HOPS_BEHIND_THE_CORE} drop\n\
         meta l4proto udp ip6 hoplimit < {HOPS_BEHIND_THE_CORE} drop\n\
         iifname home-a oifname home-b counter name from_alice\n\
         iifname home-b oifname home-a counter name from_bob\n}}\n}}\nEND\n"
    ));
    core
}

fn server(core: &Namespace) -> Namespace {
    let server = Namespace::new("server");
    server.script(AT_ONCE);
    let at_the_core = "ip address add 192.0.2.254/24 dev server\nip address add 2001:db8::fe/64 dev server\n";
    connect(core, &server, "server", at_the_core, Duration::ZERO);
    server.script(&format!(
        "ip link set wan up\n\
         ip address add {SERVER}/24 dev wan\nip address add {SERVER_TOO}/24 dev wan\n\
         ip address add {SERVER_IPV6}/64 dev wan\n\
         ip route add default via 192.0.2.254\nip route add default via 2001:db8::fe\n"
    ));
    server
}

/// Links an interface of the core to `wan` of another namespace.
fn connect(core: &Namespace, other: &Namespace, interface: &str, addresses: &str, delay: Duration) {
    if delay.is_zero() {
        core.script(&format!("ip link add {interface} type veth peer name wan netns {}\n", other.name()));
    } else {
        cable::lay([(core, interface), (other, "wan")], Nature::delay(delay));
    }
    core.script(&format!("ip link set {interface} up\n{addresses}"));
}

/// A home at the core.
fn home(core: &Namespace, site: &Site, kind: Kind, delay: Duration) -> Home {
    let Site { letter, public, ipv6, .. } = *site;
    let interface = format!("home-{letter}");
    let (public_lan, ipv6_lan) = (format!("{public}.128/25"), format!("{ipv6}:1::/64"));
    let at_the_core = format!(
        "ip address add {public}.126/25 dev {interface}\nip address add {ipv6}::fe/64 dev {interface}\n\
         ip route add {public_lan} via {public}.1\nip route add {ipv6_lan} via {ipv6}::1\n"
    );
    let (wan, core_side) = (format!("{public}.1"), format!("{public}.126"));

    if kind != Kind::Double {
        let router = Namespace::new(&format!("router-{letter}"));
        router.script(AT_ONCE);
        connect(core, &router, &interface, &at_the_core, delay);
        let mut script = outside(&format!("{wan}/25"), &core_side);
        if kind == Kind::Ipv6 {
            write!(script, "ip address add {ipv6}::1/64 dev wan\nip route add default via {ipv6}::fe\n")
                .expect("a string takes all");
        }
        router.script(&script);
        return house(router, None, site, kind, &wan);
    }
    let carrier = Namespace::new(&format!("carrier-{letter}"));
    carrier.script(AT_ONCE);
    connect(core, &carrier, &interface, &at_the_core, delay);
    carrier.script(&outside(&format!("{wan}/25"), &core_side));
    carrier.script(&format!("{FORWARDS}ip link add lan type bridge\nip link set lan up\n"));
    let (inner_wan, inner_gateway) = ("100.64.1.2", "100.64.1.1");
    carrier.script(&format!(
        "ip address add {inner_gateway}/24 dev lan\nnft -f - <<'END'\n{}END\n",
        Kind::Port.rules(&wan, inner_wan)
    ));
    let router = Namespace::new(&format!("router-{letter}"));
    router.script(AT_ONCE);
    carrier.script(&format!(
        "ip link add house type veth peer name wan netns {}\nip link set house master lan up\n",
        router.name()
    ));
    router.script(&outside(&format!("{inner_wan}/24"), inner_gateway));
    let mut home = house(router, Some(carrier), site, kind, inner_wan);
    home.wan = parse(&wan);
    home
}

/// The way from a router to the Internet.
fn outside(address: &str, gateway: &str) -> String {
    format!("ip link set wan up\nip address add {address} dev wan\nip route add default via {gateway}\n")
}

/// A router's LAN with a peer in it.
fn house(router: Namespace, carrier: Option<Namespace>, site: &Site, kind: Kind, wan: &str) -> Home {
    let Site { letter, public, lan, ipv6 } = *site;
    let (peer_address, router_address, width) = match kind {
        Kind::Open => (format!("{public}.130"), format!("{public}.129"), 25),
        Kind::Home => (format!("{USUAL_LAN}.2"), format!("{USUAL_LAN}.1"), 24),
        Kind::Ipv6 => (format!("{ipv6}:1::2"), format!("{ipv6}:1::1"), 64),
        _ => (format!("{lan}.2"), format!("{lan}.1"), 24),
    };
    let rules = kind.rules(wan, &peer_address);
    router.script(&format!(
        "{FORWARDS}ip link add lan type bridge\nip link set lan up\nip address add {router_address}/{width} dev lan\n\
         nft -f - <<'END'\n{rules}END\n"
    ));
    let peer = Namespace::new(&format!("peer-{letter}"));
    peer.script(AT_ONCE);
    plug_in(&router, &peer, "first", &format!("{peer_address}/{width}"), &router_address);
    let has_nat = !matches!(kind, Kind::Open | Kind::Ipv6);
    let lan = parse(&peer_address);
    let wan = if has_nat { parse(wan) } else { lan };
    Home { peer, router: Some(router), _carrier: carrier, lan, wan }
}

/// Connects a peer to its router's LAN.
fn plug_in(router: &Namespace, peer: &Namespace, socket: &str, address: &str, gateway: &str) {
    let name = peer.name();
    router.script(&format!(
        "ip link add {socket} type veth peer name lan netns {name}\nip link set {socket} master lan up\n"
    ));
    peer.script(&format!("ip link set lan up\nip address add {address} dev lan\nip route add default via {gateway}\n"));
}

/// Another peer in a home's LAN.
fn neighbour(home: &Home) -> Home {
    let router = home.router.as_ref().expect("the home has its own");
    let lan = ALICE.lan;
    let peer = Namespace::new(&format!("peer-{}", BOB.letter));
    peer.script(AT_ONCE);
    let address = format!("{lan}.3");
    plug_in(router, &peer, "second", &format!("{address}/24"), &format!("{lan}.1"));
    Home { peer, router: None, _carrier: None, lan: parse(&address), wan: home.wan }
}

fn parse(address: &str) -> IpAddr {
    address.parse().expect("the lab's addresses are addresses")
}
