//! What the cables of the lab do to plain packets: the time they take, the room before a narrow part, and losses.

use std::net::{Ipv4Addr, UdpSocket};
use std::time::{Duration, Instant};

use crate::cable::{self, Narrow, Nature};
use crate::namespaces::Namespace;

const HERE: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);
const THERE: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 2);
const PORT: u16 = 9;

/// Bytes of a packet on the cable: these, and the headers of UDP and IPv4.
const DATA: [u8; 972] = [0; 972];
const PACKET_BITS: u64 = 8_000;

/// Nothing comes any more after so long a silence.
const SILENCE: Duration = Duration::from_millis(200);

lab_tests! {
    packets_take_their_time => {
        let ends = Ends::connect(Nature::delay(Duration::from_millis(30)));
        let sent = Instant::now();
        assert_eq!(ends.send(1), 1);
        let took = sent.elapsed() - SILENCE;
        assert!((30..100).contains(&took.as_millis()), "{took:?}");
    };

    a_narrow_part_has_its_rate_and_room_for_its_queue => {
        let narrow = Narrow { bits_per_second: 100 * PACKET_BITS, queue: Duration::from_secs(1) };
        let ends = Ends::connect(Nature { narrow: Some(narrow), ..Nature::delay(Duration::ZERO) });
        let sent = Instant::now();
        // The first waits for nobody and the last full second, and a few are sent while the others are.
        let came = ends.send(300);
        let took = sent.elapsed() - SILENCE;
        assert!((101..=115).contains(&came), "{came} came of a queue of 100");
        let should = Duration::from_millis(10) * u32::try_from(came).expect("a few");
        assert!(took > should - Duration::from_millis(20) && took < should * 2, "{came} came in {took:?}");
    };

    as_many_are_lost_as_it_was_told => {
        let ends = Ends::connect(Nature { lost_of_a_million: 100_000, seed: 7, ..Nature::delay(Duration::ZERO) });
        let came: usize = (0..30).map(|_| ends.send(60)).sum();
        assert!((1_560..=1_680).contains(&came), "{came} of 1,800 came, a tenth should be lost");
    };
}

/// A socket at each end of a cable.
struct Ends {
    from: UdpSocket,
    to: UdpSocket,
    _places: [Namespace; 2],
}

impl Ends {
    fn connect(nature: Nature) -> Self {
        let places = ["here", "there"].map(Namespace::new);
        let [here, there] = &places;
        cable::lay([(here, "wan"), (there, "wan")], nature);
        for (place, address) in [(here, HERE), (there, THERE)] {
            place.script(&format!("ip link set wan up\nip address add {address}/24 dev wan\n"));
        }
        let from = here.within(|| UdpSocket::bind((HERE, 0)).expect("a socket"));
        let to = there.within(|| UdpSocket::bind((THERE, PORT)).expect("a socket"));
        to.set_read_timeout(Some(SILENCE)).expect("a timeout");
        Self { from, to, _places: places }
    }

    /// Sends so many packets at once, fewer than fill a socket's buffer unless the cable spreads them, and gives how many come.
    fn send(&self, count: usize) -> usize {
        for _ in 0..count {
            self.from.send_to(&DATA, (THERE, PORT)).expect("it is sent");
        }
        let mut data = DATA;
        std::iter::from_fn(|| self.to.recv(&mut data).ok()).count()
    }
}
