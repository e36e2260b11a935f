//! One directory and five peers in one thread, with a virtual clock and seeded faults, made of the machines that the
//! program is made of: `protocol::{conversation, lanes, mailbox, prekeys}` on tables in memory. The auditor judges.
//!
//! And, in `nat*.rs`, two peers with `protocol::rendezvous` behind NATs, with a relay; in `presence.rs`, thousands of
//! people who come and go at `protocol::presence`.
//!
//! A failure prints its seed and the last events. By hand:
//!
//! ```text
//! SIMULATION_SEED=17 cargo nextest run --test simulation runs::by_hand --run-ignored all
//! SIMULATION_SEEDS=200 SIMULATION_MESSAGES=10000 cargo nextest run --release --test simulation runs::by_hand --run-ignored all
//! SIMULATION_SEEDS=200 cargo nextest run --release --test simulation nat_runs::by_hand --run-ignored all
//! ```

#[path = "../auditor/mod.rs"]
mod auditor;

mod directory;
mod disk;
mod nat;
mod nat_world;
mod network;
mod peer;
mod receiving;
mod scene;
mod seal;
mod sending;
mod shelf;
mod weather;
mod world;

mod nat_runs;
mod presence;
mod regressions;
mod runs;
