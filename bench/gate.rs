//! Gates: figures that must stay below a bound, and whether they do.

use std::fmt;

use serde::Serialize;

/// One figure and its bound.
#[derive(Debug, Serialize)]
pub(crate) struct Gate {
    what: String,
    measured: f64,
    bound: f64,
    /// Whether the figure may reach its bound.
    includes_bound: bool,
    pub(crate) holds: bool,
}

impl Gate {
    pub(crate) fn below(what: String, measured: f64, bound: f64) -> Self {
        Self { what, measured, bound, includes_bound: false, holds: measured < bound }
    }

    pub(crate) fn at_most(what: String, measured: f64, bound: f64) -> Self {
        Self { what, measured, bound, includes_bound: true, holds: measured <= bound }
    }
}

impl fmt::Display for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { what, measured, bound, includes_bound, holds } = self;
        let verdict = if *holds { "holds" } else { "FAILS" };
        let relation = if *includes_bound { "at most" } else { "below" };
        write!(f, "{verdict}  {what}: {measured:.2}, {relation} {bound:.1}")
    }
}
