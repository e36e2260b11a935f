//! Times as people read and write them, by the clock on their wall, and as logs have them, in UTC.

use jiff::tz::TimeZone;
use jiff::{Timestamp, civil};

use crate::wire::ids::UnixMillis;

/// Hours and minutes.
pub(super) fn clock_time(time: UnixMillis) -> String {
    timestamp(time).to_zoned(TimeZone::system()).strftime("%H:%M").to_string()
}

/// Day, hours and minutes: in the form that [`parse`] reads, but for the blank.
pub(super) fn day_and_time(time: UnixMillis) -> String {
    timestamp(time).to_zoned(TimeZone::system()).strftime("%Y-%m-%d %H:%M").to_string()
}

/// UTC with milliseconds (RFC 3339).
pub(super) fn rfc_3339(time: UnixMillis) -> String {
    timestamp(time).strftime("%Y-%m-%dT%H:%M:%S.%3fZ").to_string()
}

/// Reads `2026-11-20`, `2026-11-20T16:55` by the local clock, or a time of RFC 3339 with its offset.
pub(super) fn parse(text: &str) -> Option<UnixMillis> {
    let absolute = || text.parse::<Timestamp>().ok();
    let local = || Some(text.parse::<civil::DateTime>().ok()?.to_zoned(TimeZone::system()).ok()?.timestamp());
    let time = absolute().or_else(local)?;
    u64::try_from(time.as_millisecond()).ok().map(UnixMillis)
}

/// Times that no calendar has, which a stranger may claim, are shown as the first one.
fn timestamp(UnixMillis(millis): UnixMillis) -> Timestamp {
    i64::try_from(millis).ok().and_then(|millis| Timestamp::from_millisecond(millis).ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_and_times_are_read_as_they_are_written() {
        let time = UnixMillis(1_795_193_735_000);
        for text in [day_and_time(time), day_and_time(time).replace(' ', "T"), rfc_3339(time)] {
            let minute = parse(&text).unwrap().0 / 60_000;
            assert_eq!(minute, time.0 / 60_000, "{text}");
        }
        assert!(parse("2026-11-20").unwrap() < parse("2026-11-21").unwrap());
        assert_eq!(parse("1970-01-01T00:00:01Z"), Some(UnixMillis(1_000)));
        for bad in ["", "yesterday", "2026", "2026-13-01", "1960-01-01", "16:55"] {
            assert_eq!(parse(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn a_log_has_utc_with_milliseconds() {
        assert_eq!(rfc_3339(UnixMillis(1_005)), "1970-01-01T00:00:01.005Z");
        assert_eq!(rfc_3339(UnixMillis(u64::MAX)), "1970-01-01T00:00:00.000Z");
    }
}
