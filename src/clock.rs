//! The one wall clock: drivers read it and hand the time on, state machines never do.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::wire::ids::UnixMillis;

/// Milliseconds since 1970-01-01 UTC; 0 when the machine's clock is set before that.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "this is the one place that reads the wall clock")]
pub fn now_millis() -> UnixMillis {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    UnixMillis(u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX))
}
