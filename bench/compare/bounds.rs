//! Bounds of figures: a gate, which must hold, and a goal, which is aimed at and told even when it is missed.

use std::fmt;

use serde::Serialize;

/// One figure, and on which side of what it is to be.
#[derive(Debug, Serialize)]
pub(crate) struct Bound {
    what: String,
    measured: f64,
    is: Relation,
    /// The command fails when it does not hold.
    gate: Option<f64>,
    goal: Option<f64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Relation {
    AtMost,
    AtLeast,
}

impl Bound {
    pub(crate) fn at_most(what: impl Into<String>, measured: f64) -> Self {
        Self { what: what.into(), measured, is: Relation::AtMost, gate: None, goal: None }
    }

    pub(crate) fn at_least(what: impl Into<String>, measured: f64) -> Self {
        Self { what: what.into(), measured, is: Relation::AtLeast, gate: None, goal: None }
    }

    pub(crate) fn gate(self, gate: f64) -> Self {
        Self { gate: Some(gate), ..self }
    }

    pub(crate) fn goal(self, goal: f64) -> Self {
        Self { goal: Some(goal), ..self }
    }

    /// Whether the gate holds, if there is one.
    pub(crate) fn holds(&self) -> bool {
        self.gate.is_none_or(|gate| self.is_met(gate))
    }

    fn is_met(&self, bound: f64) -> bool {
        match self.is {
            Relation::AtMost => self.measured <= bound,
            Relation::AtLeast => self.measured >= bound,
        }
    }
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = if self.measured < 10.0 { 2 } else { 1 };
        let relation = match self.is {
            Relation::AtMost => "at most",
            Relation::AtLeast => "at least",
        };
        write!(f, "{}: {:.digits$}", self.what, self.measured)?;
        if let Some(gate) = self.gate {
            write!(f, "; gate {relation} {gate}: {}", if self.holds() { "holds" } else { "FAILS" })?;
        }
        if let Some(goal) = self.goal {
            write!(f, "; goal {relation} {goal}: {}", if self.is_met(goal) { "reached" } else { "not reached" })?;
        }
        Ok(())
    }
}
