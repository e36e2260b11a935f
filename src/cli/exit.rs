//! The exit codes that scripts depend on.

use std::process::ExitCode;

use crate::peer::failure::FailureKind;

/// The exit code of a failure.
pub(super) fn code(kind: FailureKind) -> ExitCode {
    ExitCode::from(number(kind))
}

/// The exit code as a number.
pub(super) fn number(kind: FailureKind) -> u8 {
    match kind {
        FailureKind::Other => 1,
        FailureKind::Usage => 2,
        FailureKind::Declined => 3,
        FailureKind::Offline => 4,
        FailureKind::Partial => 5,
        FailureKind::Integrity => 6,
        FailureKind::Authentication => 7,
        FailureKind::NotAccepted => 8,
        FailureKind::Quota => 9,
        FailureKind::DirectoryUnreachable => 10,
        FailureKind::NoPath => 11,
        FailureKind::TimedOut => 12,
        FailureKind::Disk => 13,
        FailureKind::LoggedInElsewhere => 14,
        FailureKind::Interrupted => 130,
    }
}

/// The table for `--help`.
pub(super) const TABLE: &str = "\
Exit codes: 0 done, 1 failure, 2 usage, 3 declined, 4 peer offline, 5 partial (the same command resumes),
6 integrity, 7 authentication or key changed, 8 blocked or no consent, 9 quota or rate,
10 directory unreachable, 11 no path, 12 timed out, 13 disk, 14 session ended elsewhere, 130 interrupted.";
