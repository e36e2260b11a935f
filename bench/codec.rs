//! The codec without a network: encode and decode in the portions in which the product does it, beside a plain copy.

use std::hint::black_box;

use qchat::wire::chunk::{self, BATCH_BYTES, CHUNK_BYTES, Decoder, Step};
use rustix::time::ClockId;

use crate::cpu_time::cpu_time;
use crate::figures::{Row, Spread};

/// Most bytes that quinn hands out at a time: the stream data of one packet on a path of large packets.
const PACKET_BYTES: usize = 6_400;

/// Times copy, encode and decode of so many bytes, in turn.
pub(crate) fn measure(rounds: usize, bytes: u64) -> Vec<Row> {
    let batches = bytes / BATCH_BYTES as u64;
    let payload: Vec<u8> = (0..=u8::MAX).cycle().take(BATCH_BYTES).collect();
    let mut encoded = Vec::new();
    chunk::encode(&payload, &mut encoded);
    let mut out = Vec::with_capacity(encoded.len());
    let mut seconds = [const { Vec::new() }; 3];
    for round in 0..=rounds {
        let times = [
            time(batches, || copy(&payload, &mut out)),
            time(batches, || encode(&payload, &mut out)),
            time(batches, || decode(&encoded, &mut out)),
        ];
        assert_eq!(out, payload, "what was decoded is not what was encoded");
        // The first round warms caches and clock up.
        if round > 0 {
            seconds.iter_mut().zip(times).for_each(|(all, time)| all.push(time));
        }
    }
    let [copy, encode, decode] = seconds;
    let row =
        |variant: &str, times: &[f64]| Row { variant: variant.to_owned(), figures: figures(times, &copy, batches) };
    vec![row("copy", &copy), row("encode", &encode), row("decode", &decode)]
}

#[expect(clippy::cast_precision_loss, reason = "counts below 2^52")]
fn figures(seconds: &[f64], copy: &[f64], batches: u64) -> Vec<(&'static str, Spread)> {
    let bytes = (batches * BATCH_BYTES as u64) as f64;
    let chunks = bytes / CHUNK_BYTES as f64;
    vec![
        ("ns per chunk", Spread::of(seconds.iter().map(|seconds| seconds * 1e9 / chunks))),
        ("GiB/s", Spread::of(seconds.iter().map(|seconds| bytes / seconds / f64::from(1 << 30)))),
        ("time, x of copy", Spread::of(seconds.iter().zip(copy).map(|(seconds, copy)| seconds / copy))),
    ]
}

fn time(batches: u64, mut run: impl FnMut()) -> f64 {
    // This thread's time, so that what else runs on the machine does not count.
    let before = cpu_time(ClockId::ThreadCPUTime);
    for _ in 0..batches {
        run();
    }
    (cpu_time(ClockId::ThreadCPUTime) - before).as_secs_f64()
}

fn copy(payload: &[u8], out: &mut Vec<u8>) {
    out.clear();
    out.extend_from_slice(black_box(payload));
    black_box(out);
}

fn encode(payload: &[u8], out: &mut Vec<u8>) {
    out.clear();
    chunk::encode(black_box(payload), out);
    black_box(out);
}

fn decode(encoded: &[u8], out: &mut Vec<u8>) {
    out.clear();
    let mut decoder = Decoder::default();
    decoder.expect_group(BATCH_BYTES);
    let mut step = Ok(Step::NeedInput);
    for mut packet in black_box(encoded).chunks(PACKET_BYTES) {
        step = decoder.decode(&mut packet, out);
    }
    assert_eq!(step, Ok(Step::GroupComplete));
    black_box(out);
}
