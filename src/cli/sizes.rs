//! How people write and read amounts of bytes and ranges of ports.

use std::ops::RangeInclusive;

use crate::directory::relay::RelayPorts;
use crate::wire::limits::{RATE_LIMIT_MIN, RELAY_PORTS, RELAY_PORTS_MAX};

/// Reads `12500000`, `12.5M` or `10Gi`.
pub(super) fn bytes(text: &str) -> Result<u64, String> {
    parse_bytes(text).ok_or_else(|| {
        "an amount of bytes is a number of at least 1, perhaps with K, M, G (thousands) or Ki, Mi, Gi (1,024): 12.5M"
            .to_owned()
    })
}

fn parse_bytes(text: &str) -> Option<u64> {
    let end = text.find(|letter: char| letter != '.' && !letter.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at_checked(end)?;
    let unit: u128 = match unit {
        "" => 1,
        "K" | "k" => 1_000,
        "M" => 1_000_000,
        "G" => 1_000_000_000,
        "Ki" => 1 << 10,
        "Mi" => 1 << 20,
        "Gi" => 1 << 30,
        _ => return None,
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    // A longer fraction would be one of a byte.
    let scale = 10_u128.checked_pow(u32::try_from(fraction.len()).ok().filter(|digits| *digits <= 9)?)?;
    let whole = u128::from(whole.parse::<u64>().ok()?);
    let parts = whole * scale + u128::from(fraction.parse::<u64>().ok()?);
    u64::try_from(parts * unit / scale).ok().filter(|bytes| *bytes > 0)
}

/// Reads how fast files may go: `500K`, `5M`, `1.5M`.
pub(super) fn rate(text: &str) -> Result<u64, String> {
    parse_bytes(text).filter(|rate| *rate >= RATE_LIMIT_MIN).ok_or_else(|| {
        format!(
            "a limit is bytes in a second, such as 500K or 1.5M, and at least {}K: with less, transfers would time out",
            RATE_LIMIT_MIN / 1_000
        )
    })
}

/// Says how fast files may go.
pub(super) fn limit(bytes_per_second: Option<u64>) -> String {
    match bytes_per_second {
        Some(rate) => format!("files go and come at {} in a second at most, each way", words(rate)),
        None => "files go and come as fast as they can".to_owned(),
    }
}

/// Reads `4434-4449`, `4434`, `any` or `off`.
pub(super) fn ports(text: &str) -> Result<RelayPorts, String> {
    match text {
        "any" => return Ok(RelayPorts::Any(RELAY_PORTS)),
        "off" => return Ok(RelayPorts::Off),
        _ => {}
    }
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    match (first.parse::<u16>(), last.parse::<u16>()) {
        (Ok(first), Ok(last)) if 0 < first && first <= last => {
            let count = usize::from(last - first) + 1;
            if count > RELAY_PORTS_MAX {
                return Err(format!("{count} ports are more than the {RELAY_PORTS_MAX} that a relay can have"));
            }
            Ok(RelayPorts::Range(first, last))
        }
        _ => Err("ports are a range of UDP ports such as 4434-4449, or `any` that are free, or `off`".to_owned()),
    }
}

/// Reads `9100-9199` or `9100`.
pub(super) fn port_range(text: &str) -> Result<RangeInclusive<u16>, String> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    match (first.parse::<u16>(), last.parse::<u16>()) {
        (Ok(first), Ok(last)) if 0 < first && first <= last => Ok(first..=last),
        _ => Err("ports are a range such as 9100-9199".to_owned()),
    }
}

/// Reads how many sessions a relay has, at least one.
pub(super) fn relay_sessions(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) => Err("a relay without sessions relays nothing: say `--relay-ports off`".to_owned()),
        Ok(sessions) => Ok(sessions),
        Err(_) => Err("a number of sessions, at least 1".to_owned()),
    }
}

/// Writes an amount for people: `12.5 MB`.
pub(super) fn words(bytes: u64) -> String {
    let units = [(1_000_000_000, "GB"), (1_000_000, "MB"), (1_000, "kB")];
    match units.into_iter().find(|(unit, _)| bytes >= *unit) {
        Some((unit, name)) => format!("{}.{} {name}", bytes / unit, bytes % unit * 10 / unit),
        None => format!("{bytes} B"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_relay_has_sessions() {
        assert_eq!(relay_sessions("1"), Ok(1));
        for text in ["0", "-1", "", "many", "1.5"] {
            assert!(relay_sessions(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn amounts_have_units_and_fractions() {
        let check = |text: &str, expected: Option<u64>| assert_eq!(bytes(text).ok(), expected, "{text}");
        check("1", Some(1));
        check("12500000", Some(12_500_000));
        check("12.5M", Some(12_500_000));
        check("10Gi", Some(10 << 30));
        check("1.5Ki", Some(1_536));
        check("20k", Some(20_000));
        check("18446744073709551615", Some(u64::MAX));
        for wrong in [
            "",
            "0",
            "0.1",
            "M",
            ".5M",
            "5.",
            "-1",
            "1 M",
            "1MB",
            "1T",
            "1.2.3",
            "1e9",
            "18446744073709551616",
            "99999999999G",
        ] {
            check(wrong, None);
        }
    }

    #[test]
    fn a_limit_is_an_amount_at_which_something_comes() {
        let check = |text: &str, expected: Option<u64>| assert_eq!(rate(text).ok(), expected, "{text}");
        check("50K", Some(50_000));
        check("1.5M", Some(1_500_000));
        check("12500000", Some(12_500_000));
        for wrong in ["", "0", "49999", "5", "fast", "-1M", "5MB", "5 M", "off"] {
            check(wrong, None);
        }
        assert_eq!(limit(Some(1_500_000)), "files go and come at 1.5 MB in a second at most, each way");
    }

    #[test]
    fn ports_are_a_range_or_a_word() {
        let check = |text: &str, expected: Option<RelayPorts>| assert_eq!(ports(text).ok(), expected, "{text}");
        check("4434-4449", Some(RelayPorts::Range(4_434, 4_449)));
        check("4434", Some(RelayPorts::Range(4_434, 4_434)));
        check("off", Some(RelayPorts::Off));
        check("any", Some(RelayPorts::Any(RELAY_PORTS)));
        for wrong in ["", "0-5", "5-4", "1-65536", "x", "1-", "-1", "1-65535", "1-2-3"] {
            check(wrong, None);
        }
    }

    #[test]
    fn amounts_are_written_for_people() {
        let check = |bytes: u64, expected: &str| assert_eq!(words(bytes), expected);
        check(999, "999 B");
        check(1_000, "1.0 kB");
        check(12_560_000, "12.5 MB");
        check(1_000_000_000, "1.0 GB");
    }
}
