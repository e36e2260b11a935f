//! Gates: figures that must stay on one side of a bound, and whether they do.

use std::fmt;

use serde::Serialize;

/// One figure and its bound.
#[derive(Debug, Serialize)]
pub(crate) struct Gate {
    what: String,
    measured: f64,
    bound: f64,
    relation: Relation,
    pub(crate) holds: bool,
}

/// On which side of its bound a figure must be.
#[derive(Debug, Clone, Copy, Serialize)]
enum Relation {
    Below,
    AtMost,
    AtLeast,
}

impl Gate {
    pub(crate) fn below(what: String, measured: f64, bound: f64) -> Self {
        Self { what, measured, bound, relation: Relation::Below, holds: measured < bound }
    }

    pub(crate) fn at_most(what: String, measured: f64, bound: f64) -> Self {
        Self { what, measured, bound, relation: Relation::AtMost, holds: measured <= bound }
    }

    pub(crate) fn at_least(what: String, measured: f64, bound: f64) -> Self {
        Self { what, measured, bound, relation: Relation::AtLeast, holds: measured >= bound }
    }
}

impl fmt::Display for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { what, measured, bound, relation, holds } = self;
        let verdict = if *holds { "holds" } else { "FAILS" };
        let relation = match relation {
            Relation::Below => "below",
            Relation::AtMost => "at most",
            Relation::AtLeast => "at least",
        };
        write!(f, "{verdict}  {what}: {measured:.2}, {relation} {bound:.1}")
    }
}
