//! Accounts over real QUIC: guessing passwords, bringing another key, and taking an account back.

use qchat::wire::account::{Login, LoginKind};
use qchat::wire::ids::Password;
use qchat::wire::refusal::Refusal;
use tokio::task::JoinSet;

use crate::world::{ERRAND, PASSWORD, RawClient, TestDirectory, TestPeer};

/// A login with a key that the account does not have, and this password.
async fn try_password(directory: &TestDirectory, name: &str, password: &str) -> Result<(), Refusal> {
    let thief = RawClient::stranger(directory).await;
    let password = Some(Password::parse(password).unwrap());
    thief.log_in(Login { password, ..thief.login(name, ERRAND) }).await.map(drop)
}

#[tokio::test]
async fn a_restart_in_the_middle_of_a_lock_out_keeps_it() {
    let directory = TestDirectory::start();
    let alice = TestPeer::join(&directory, "alice").await;
    assert_eq!(try_password(&directory, "alice", "1").await, Err(Refusal::WrongPassword { tries_left: 2 }));
    assert_eq!(try_password(&directory, "alice", "2").await, Err(Refusal::WrongPassword { tries_left: 1 }));
    let alice = alice.stop().await;

    let directory = directory.stop().await.start_again();
    assert_eq!(try_password(&directory, "alice", "3").await, Err(Refusal::LockedOut { seconds: 60 }));

    let directory = directory.stop().await.start_again();
    let locked = try_password(&directory, "alice", PASSWORD).await;
    assert!(matches!(locked, Err(Refusal::LockedOut { seconds: 40..=60 })), "{locked:?}");
    let owner = alice.resident().await;
    assert_eq!(
        RawClient::registered(&directory, "bob", LoginKind::Resident).await.identify("alice").await.key,
        owner.key()
    );
}

#[tokio::test]
async fn many_tries_at_once_gain_none() {
    let directory = TestDirectory::start();
    let _alice = RawClient::registered(&directory, "alice", ERRAND).await;
    let mut tries = JoinSet::new();
    for number in 0..20 {
        let thief = RawClient::stranger(&directory).await;
        tries.spawn(async move {
            let password = Some(Password::parse(&format!("guess {number}")).unwrap());
            thief.log_in(Login { password, ..thief.login("alice", ERRAND) }).await.unwrap_err()
        });
    }
    let mut looked_at = 0;
    while let Some(refusal) = tries.join_next().await {
        match refusal.unwrap() {
            Refusal::WrongPassword { .. } | Refusal::LockedOut { seconds: 60 } => looked_at += 1,
            Refusal::LockedOut { .. } => {}
            other => panic!("{other}"),
        }
    }
    assert!(looked_at >= 3, "three are answered one by one");
    let owner_passes = try_password(&directory, "alice", PASSWORD).await;
    assert!(matches!(owner_passes, Err(Refusal::LockedOut { .. })), "the right one came too late: {owner_passes:?}");
}
