//! Names and trees that attack: whatever a stranger sends, and whatever lies in the target folder or is put there while a
//! file comes, nothing outside of it changes, and nothing in it is overwritten unasked.
//!
//! CI runs 20,000 cases, `tests/attack/run --cases 1000000` more of them. A case is made of its number alone; a failure
//! says it, and how to run that one again.

mod arena;
mod cases;
mod chance;
mod names;
mod races;
mod trees;
