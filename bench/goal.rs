//! Goals: figures to come to, whether they are reached or not.

use std::fmt;

use serde::Serialize;

/// One figure and where it is to come to. Unlike a gate, one that is not reached is no failure.
#[derive(Debug, Serialize)]
pub(crate) struct Goal {
    what: String,
    measured: f64,
    goal: f64,
    reached: bool,
}

impl Goal {
    pub(crate) fn at_least(what: &str, measured: f64, goal: f64) -> Self {
        Self { what: what.to_owned(), measured, goal, reached: measured >= goal }
    }

    pub(crate) fn at_most(what: &str, measured: f64, goal: f64) -> Self {
        Self { what: what.to_owned(), measured, goal, reached: measured <= goal }
    }
}

impl fmt::Display for Goal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { what, measured, goal, reached } = self;
        let verdict = if *reached { "reached" } else { "not reached" };
        let digits = if *measured < 10.0 { 2 } else { 0 };
        write!(f, "{what}: {measured:.digits$}; goal {goal}: {verdict}")
    }
}
