//! Chance for tests: the same seed gives the same story again.

/// Numbers that look drawn (SplitMix64).
pub(in crate::directory) struct Chance(u64);

impl Chance {
    pub(in crate::directory) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A number below `bound`.
    pub(in crate::directory) fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((mixed ^ (mixed >> 31)) >> 1).expect("a pointer has 64 bits") % bound
    }
}
