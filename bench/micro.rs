//! `cargo bench`: what small functions cost that run for every chunk, group, request or message. Nothing waits in them; what
//! they cost together, beside other programs, is for `cargo bench --bench compare`.

use divan::Bencher;
use divan::counter::{BytesCount, ItemsCount};
use qchat::clock::now_millis;
use qchat::seal::digest::{GroupHasher, digest_of};
use qchat::seal::envelope;
use qchat::seal::identity::IdentityKey;
use qchat::seal::prekey::PrekeySecret;
use qchat::seal::random::OsRandom;
use qchat::wire::account::SignedPrekey;
use qchat::wire::chunk::{self, BATCH_BYTES, Decoder};
use qchat::wire::codec;
use qchat::wire::directory::DirectoryRequest;
use qchat::wire::ids::{MessageId, PeerName};
use qchat::wire::message::{Body, InnerMessage, Skipped, Text};
use qchat::wire::transfer::GROUP_BYTES;

/// As in the product.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Most bytes that quinn hands out at a time: the stream data of one packet on a path of large packets.
const PACKET_BYTES: usize = 6_400;

/// A prekey is good for longer than any of this takes.
const HOUR_MILLIS: u64 = 3_600_000;

fn main() {
    divan::main();
}

fn bytes(count: usize) -> Vec<u8> {
    (0..=u8::MAX).cycle().take(count).collect()
}

fn group() -> Vec<u8> {
    bytes(usize::try_from(GROUP_BYTES).expect("a group fits in memory"))
}

/// Batches of chunks, as the product writes and reads them; the batch stays in the cache, as one that was just read does.
mod chunks {
    use super::*;

    /// What framing is compared with.
    #[divan::bench]
    fn copy(bencher: Bencher<'_, '_>) {
        let (payload, mut out) = (bytes(BATCH_BYTES), Vec::with_capacity(BATCH_BYTES));
        bencher.counter(BytesCount::new(BATCH_BYTES)).bench_local(|| {
            out.clear();
            out.extend_from_slice(divan::black_box(&payload));
            divan::black_box(&mut out);
        });
    }

    #[divan::bench]
    fn encode(bencher: Bencher<'_, '_>) {
        let payload = bytes(BATCH_BYTES);
        let mut out = Vec::with_capacity(chunk::encoded_bytes(BATCH_BYTES));
        bencher.counter(BytesCount::new(BATCH_BYTES)).bench_local(|| {
            out.clear();
            chunk::encode(divan::black_box(&payload), &mut out);
            divan::black_box(&mut out);
        });
    }

    #[divan::bench]
    fn decode(bencher: Bencher<'_, '_>) {
        let (mut encoded, mut out) = (Vec::new(), Vec::with_capacity(BATCH_BYTES));
        chunk::encode(&bytes(BATCH_BYTES), &mut encoded);
        bencher.counter(BytesCount::new(BATCH_BYTES)).bench_local(|| {
            out.clear();
            let mut decoder = Decoder::default();
            decoder.expect_group(BATCH_BYTES);
            for mut packet in divan::black_box(&encoded).chunks(PACKET_BYTES) {
                decoder.decode(&mut packet, &mut out).expect("what was encoded is decoded");
            }
            divan::black_box(&mut out);
        });
    }
}

/// Groups of 256 KiB: what a receiver proves before it writes, and a sender hashes once when it shares.
mod hashing {
    use super::*;

    #[divan::bench]
    fn group_of_a_file(bencher: Bencher<'_, '_>) {
        let group = group();
        bencher.counter(BytesCount::new(group.len())).bench_local(|| {
            let mut hasher = GroupHasher::new(1);
            hasher.update(divan::black_box(&group));
            divan::black_box(hasher)
        });
    }

    /// A whole file of so many bytes, as small ones of a folder are proved.
    #[divan::bench(args = [200, 10_240, 262_144])]
    fn small_file(bencher: Bencher<'_, '_>, count: usize) {
        let file = bytes(count);
        bencher.counter(BytesCount::new(count)).bench_local(|| digest_of(divan::black_box(&file)));
    }
}

/// A sender, a recipient's secret and what they publish of it, and a line between them.
struct Correspondence {
    sender: IdentityKey,
    recipient: IdentityKey,
    secret: PrekeySecret,
    prekey: SignedPrekey,
    message: InnerMessage,
}

impl Correspondence {
    fn new() -> Self {
        let (sender, recipient) = (IdentityKey::generate(&mut OsRandom), IdentityKey::generate(&mut OsRandom));
        let secret = PrekeySecret::generate(&mut OsRandom);
        let name = PeerName::parse("bob").expect("a name");
        let prekey = secret.publish(&recipient, &name, now_millis().plus_millis(HOUR_MILLIS));
        let text = Text::parse("Shall we meet at the station at half past six?").expect("a line");
        let message = InnerMessage {
            sender: sender.public(),
            recipient: recipient.public(),
            id: MessageId::from_bytes([7; 16]),
            sequence: 1,
            skipped: Skipped::default(),
            sent_at: now_millis(),
            body: Body::Text(text),
        };
        Self { sender, recipient, secret, prekey, message }
    }

    fn envelope(&self) -> qchat::wire::message::Envelope {
        envelope::seal(&self.sender, &self.message, &self.prekey, &mut OsRandom).expect("it is sealed")
    }
}

/// One line of chat: HPKE with X-Wing, and signatures.
mod seal {
    use super::*;

    #[divan::bench]
    fn seal(bencher: Bencher<'_, '_>) {
        let between = Correspondence::new();
        bencher.counter(ItemsCount::new(1_u32)).bench_local(|| between.envelope());
    }

    #[divan::bench]
    fn open(bencher: Bencher<'_, '_>) {
        let between = Correspondence::new();
        let envelope = between.envelope();
        bencher.counter(ItemsCount::new(1_u32)).bench_local(|| {
            envelope::open(&between.secret, divan::black_box(&envelope), &between.recipient.public())
                .expect("it is opened")
        });
    }
}

/// Control frames: a request that carries a sealed line, and a small one.
mod frames {
    use super::*;

    fn request() -> DirectoryRequest {
        let to = PeerName::parse("bob").expect("a name");
        DirectoryRequest::Deliver { to, envelope: Box::new(Correspondence::new().envelope()) }
    }

    #[divan::bench]
    fn encode(bencher: Bencher<'_, '_>) {
        let request = request();
        bencher
            .counter(ItemsCount::new(1_u32))
            .bench_local(|| codec::encode_frame(divan::black_box(&request)).expect("it is encoded"));
    }

    #[divan::bench]
    fn decode(bencher: Bencher<'_, '_>) {
        let body = codec::encode(&request()).expect("it is encoded");
        bencher
            .counter(ItemsCount::new(1_u32))
            .bench_local(|| codec::decode::<DirectoryRequest>(divan::black_box(&body)).expect("it is decoded"));
    }
}
