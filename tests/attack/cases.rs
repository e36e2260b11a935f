//! How many cases, and which; each on a thread that has an arena of its own.

use std::thread;

/// What CI runs: a few seconds.
const CASES: u64 = 20_000;

/// Runs every case there is, or one of so many, a part of them on each processor; `start` prepares one of these.
pub(crate) fn run_all<R: FnMut(u64) -> Result<(), String>>(share: u64, start: impl Fn() -> R + Sync) {
    if let Some(case) = number("ATTACK_CASE") {
        return start()(case).unwrap_or_else(|why| panic!("{why}"));
    }
    let cases = number("ATTACK_CASES").unwrap_or(CASES).div_ceil(share);
    let threads = thread::available_parallelism().map_or(1, |threads| threads.get() as u64);
    thread::scope(|scope| {
        let start = &start;
        let running: Vec<_> = (0..threads)
            .map(|first| {
                let step = usize::try_from(threads).expect("a few processors");
                scope.spawn(move || (first..cases).step_by(step).try_for_each(start()))
            })
            .collect();
        for thread in running {
            if let Err(why) = thread.join().expect("a case panicked") {
                panic!("{why}");
            }
        }
    });
}

/// Says which case it was.
pub(crate) fn case_failed(case: u64, why: &str) -> String {
    format!("case {case}: {why}; again: ATTACK_CASE={case} tests/attack/run")
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|value| value.parse().expect("a number of a case, or of cases"))
}
