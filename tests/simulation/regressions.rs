//! What seeds have found, told as short stories in calm weather.

use std::time::Duration;

use crate::weather::Weather;
use crate::world::{Run, World};

/// Everybody is logged in, and nothing goes wrong.
fn calm() -> World {
    let mut world = World::with_weather(Run::transparent(1, 0), Weather::calm(), true);
    world.start();
    world.pass(Duration::from_secs(5));
    world
}

fn seen(world: &World, what: &str) -> usize {
    world.scene.seen.get(what).copied().unwrap_or_default()
}

/// Seeds 138 and 167: two prekeys were on their way to the directory, and the older one, whose private half was deleted,
/// came last. Each message came back, was sealed to it again, and kept the mailbox from being drained; so its owner never
/// heard which prekey was handed out.
#[test]
fn a_prekey_without_its_private_half_is_replaced_though_the_mailbox_is_never_drained() {
    let mut world = calm();
    let expires = world.scene.wall(0).plus_millis(1_000_000_000);
    let bob = &world.peers[1];
    let (lost, _) = world.scene.seal.new_prekey(&bob.identity, &bob.name, expires, &mut world.scene.chance);
    world.directory.tables.put_prekey(&bob.name, lost);
    for by in [0, 2, 3, 4] {
        for _ in 0..10 {
            world.write(by, 1);
        }
    }
    world.pass(Duration::from_secs(60));
    world.verdict().unwrap();
    assert_eq!(seen(&world, "shown"), 40);
    assert!(seen(&world, "cannot open") < 40, "{:?}", world.scene.seen);
}

/// Seed 0: a recipient's lane had rested, nothing could be sent, and its driver was woken for ever without time passing.
#[test]
fn a_peer_without_a_way_to_send_is_not_kept_awake() {
    let mut world = calm();
    world.write(0, 1);
    world.pass(Duration::from_millis(8)); // on its way
    world.crash_directory();
    let (link, _) = world.peers[0].memory.session.expect("it was logged in");
    world.peers[0].notices(&mut world.scene, link);
    let mut steps = 0;
    let until = world.scene.now + Duration::from_secs(10);
    while world.scene.now < until && steps < 1_000 {
        world.step();
        steps += 1;
    }
    assert!(steps < 1_000, "{steps} steps in 10 seconds in which nothing can happen");
}
