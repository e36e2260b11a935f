//! Where random bytes come from: the operating system in the program, a fixed source in a test.
//! The only file that names getrandom.

/// A source of random bytes that nobody else can predict.
pub trait Random {
    /// Fills the whole slice.
    fn fill(&mut self, bytes: &mut [u8]);
}

/// The operating system's random numbers.
#[derive(Debug, Clone, Copy, Default)]
pub struct OsRandom;

impl Random for OsRandom {
    /// Fills the whole slice.
    ///
    /// # Panics
    /// When the operating system has no random numbers: without them nothing here is secret, so nothing may go on.
    fn fill(&mut self, bytes: &mut [u8]) {
        getrandom::fill(bytes).expect("the operating system has random numbers");
    }
}

/// Draws an array of random bytes.
pub fn array<const N: usize>(random: &mut dyn Random) -> [u8; N] {
    let mut bytes = [0; N];
    random.fill(&mut bytes);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_draws_differ() {
        assert_ne!(array::<32>(&mut OsRandom), array::<32>(&mut OsRandom));
    }
}
