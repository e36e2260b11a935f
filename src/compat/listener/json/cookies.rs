//! Proofs that somebody receives at the address that they send from. Nothing is remembered: a cookie is good for the
//! minute in which it was given, and the next.

use std::net::SocketAddr;

use data_encoding::HEXLOWER;

use super::Call;
use crate::compat::dialect::json::answer::Answer;
use crate::seal::cookie::CookieKey;
use crate::seal::random::OsRandom;
use crate::wire::ids::UnixMillis;

/// How long one is given.
const EPOCH_MILLIS: u64 = 60_000;

/// What becomes of a datagram of somebody who is not known to receive at their address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Proof {
    /// They have echoed their cookie.
    Given,
    /// They are told it, in no more bytes than they sent.
    Asked(Vec<u8>),
    /// Theirs is too short to be answered.
    Missing,
}

/// Gives cookies, and knows them again.
#[derive(Debug)]
pub(super) struct Cookies(CookieKey);

impl Cookies {
    /// Those of this process.
    pub(super) fn new() -> Self {
        Self(CookieKey::fresh(&mut OsRandom))
    }

    /// Looks at the cookie of a datagram of so many bytes.
    pub(super) fn judge(&self, call: &Call, cookie: Option<&str>, bytes: usize, now: UnixMillis) -> Proof {
        if cookie.is_some_and(|cookie| self.is_right(cookie, call.from, now)) {
            return Proof::Given;
        }
        let challenge = Answer::new("COOKIE").with("cookie", self.of(call.from, now.0 / EPOCH_MILLIS));
        let printed = challenge.print(call.keys, call.number.as_ref());
        if printed.len() <= bytes { Proof::Asked(printed) } else { Proof::Missing }
    }

    /// Whether an address was given this one lately: 16 hexadecimal digits.
    fn is_right(&self, cookie: &str, from: SocketAddr, now: UnixMillis) -> bool {
        let epoch = now.0 / EPOCH_MILLIS;
        [Some(epoch), epoch.checked_sub(1)].into_iter().flatten().any(|epoch| self.of(from, epoch) == cookie)
    }

    fn of(&self, address: SocketAddr, epoch: u64) -> String {
        HEXLOWER.encode(&self.0.cookie(address.to_string().as_bytes(), epoch))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compat::dialect::json::Keys;

    fn call(from: &str) -> Call {
        let keys = Keys::default();
        Call { from: from.parse().unwrap(), to: None, keys, number: Some(7.into()) }
    }

    /// The cookie that somebody is told who sends enough.
    fn told(cookies: &Cookies, call: &Call, now: UnixMillis) -> String {
        let Proof::Asked(printed) = cookies.judge(call, None, 1_200, now) else { panic!("it is not asked for") };
        let answer: serde_json::Value = serde_json::from_slice(&printed).unwrap();
        assert_eq!((&answer["type"], &answer["rq"]), (&"COOKIE".into(), &7.into()));
        answer["cookie"].as_str().unwrap().to_owned()
    }

    #[test]
    fn a_cookie_is_good_at_its_address_for_a_minute_or_two() {
        let (cookies, now) = (Cookies::new(), UnixMillis(600_000));
        let here = call("203.0.113.1:5000");
        let cookie = told(&cookies, &here, now);
        assert_eq!(cookie.len(), 16);
        let judge = |call: &Call, millis| cookies.judge(call, Some(&cookie), 20, UnixMillis(millis));
        assert_eq!(judge(&here, now.0), Proof::Given);
        assert_eq!(judge(&here, 719_999), Proof::Given);
        assert_eq!(judge(&here, 720_000), Proof::Missing, "it is too old");
        assert_eq!(judge(&call("203.0.113.1:5001"), now.0), Proof::Missing, "it is somebody else's");
        assert_eq!(Cookies::new().judge(&here, Some(&cookie), 20, now), Proof::Missing, "a restart forgets");
        assert_eq!(cookies.judge(&here, Some(""), 20, now), Proof::Missing);
    }

    #[test]
    fn nobody_is_told_a_cookie_in_more_bytes_than_they_sent() {
        let (cookies, now, here) = (Cookies::new(), UnixMillis(600_000), call("203.0.113.1:5000"));
        let Proof::Asked(printed) = cookies.judge(&here, None, 1_200, now) else { panic!("it is not asked for") };
        assert_eq!(cookies.judge(&here, None, printed.len(), now), Proof::Asked(printed.clone()));
        assert_eq!(cookies.judge(&here, None, printed.len() - 1, now), Proof::Missing);
    }
}
