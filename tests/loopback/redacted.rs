//! No secret type shows its secret when it is printed for debugging: such text ends up in logs and bug reports.

use std::fmt::Debug;

use qchat::peer::directory_link::{Admission, DirectoryAddress};
use qchat::peer::event::{Event, InviteLink};
use qchat::seal::identity::IdentityKey;
use qchat::seal::prekey::PrekeySecret;
use qchat::seal::random::OsRandom;
use qchat::wire::account::{Login, LoginKind};
use qchat::wire::directory::{DirectoryReply, DirectoryRequest};
use qchat::wire::ids::{DirectoryFingerprint, InviteToken, Password, Signature, UnixMillis};

use crate::world::{Machine, Place, name};

/// Checks that a secret is in no form in what a value shows of itself, one line or many.
#[track_caller]
fn hides(value: &dyn Debug, secret: &[u8]) {
    let hex: String = secret.iter().map(|byte| format!("{byte:02x}")).collect();
    let list = format!("{secret:?}");
    for shown in [format!("{value:?}"), format!("{value:#?}")] {
        let plain = shown.replace(char::is_whitespace, "");
        let as_text = String::from_utf8_lossy(secret).into_owned();
        for form in
            [hex.clone(), hex.to_uppercase(), list.replace(' ', ""), list.replace([' ', ']'], "") + ",]", as_text]
        {
            assert!(!plain.contains(&form), "{form} is in {shown}");
        }
    }
}

#[test]
fn keys_and_passwords_do_not_show_themselves() {
    let identity = IdentityKey::generate(&mut OsRandom);
    hides(&identity, identity.seed());
    let prekey = PrekeySecret::generate(&mut OsRandom);
    hides(&prekey, &prekey.to_bytes()[16..]);

    let password = Some(Password::parse("hunter2hunter2").unwrap());
    let proof = Signature::from_bytes([0; 64]);
    let (name, key) = (name("alice"), identity.public());
    let login = Login {
        name,
        key,
        kind: LoginKind::Resident,
        proof,
        password: password.clone(),
        register: true,
        undo: false,
        token: None,
    };
    for shown in [&password as &dyn Debug, &login, &DirectoryRequest::Login(Box::new(login.clone()))] {
        hides(shown, b"hunter2hunter2");
    }
    hides(&Admission { password, register: true, ..Admission::default() }, b"hunter2hunter2");
}

#[test]
fn an_invitation_does_not_show_its_token() {
    let token = InviteToken::from_bytes(*b"sixteen secrets!");
    let expires = UnixMillis(1_800_000_000_000);
    let directory = DirectoryAddress { host: "example.org".to_owned(), port: 4433 };
    let link = directory.link(None, DirectoryFingerprint::from_bytes([1; 32]), Some(&token));
    let invited = Event::Invited { link: InviteLink::new(link), expires };
    for shown in [&token as &dyn Debug, &invited, &DirectoryReply::Invited { token: token.clone(), expires }] {
        hides(shown, token.expose());
        hides(shown, token.link_text().as_bytes());
    }
    assert!(serde_json::to_string(&invited).unwrap().contains(&token.link_text()), "a script gets it");
}

#[tokio::test]
async fn a_profile_does_not_show_its_key() {
    let fingerprint = DirectoryFingerprint::from_bytes([1; 32]);
    let machine = Machine::new(Place { address: "127.0.0.1:9".parse().unwrap(), fingerprint }, "alice");
    hides(machine.profile(), machine.profile().identity().seed());
}
