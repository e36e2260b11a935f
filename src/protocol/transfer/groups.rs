//! Which verification groups of a file are here, and which run of them to ask for next.

/// The groups of one file, each missing or here: 128 KiB of memory for a file of 256 GiB.
#[derive(Debug, Clone)]
pub struct Groups {
    /// One bit for each group, set when it is here.
    here: Vec<u64>,
    count: u64,
    missing: u64,
}

impl Groups {
    /// A file of `count` groups of which none is here.
    #[must_use]
    pub fn none_of(count: u64) -> Self {
        let words = usize::try_from(count.div_ceil(64)).unwrap_or(usize::MAX);
        Self { here: vec![0; words], count, missing: count }
    }

    /// Notes that a group is here and verified. Groups beyond the file are ignored.
    pub fn mark(&mut self, group: u64) {
        let (word, bit) = place(group);
        let Some(word) = self.here.get_mut(word).filter(|_| group < self.count) else { return };
        if *word & bit == 0 {
            *word |= bit;
            self.missing -= 1;
        }
    }

    /// Notes that a group is missing again.
    pub fn unmark(&mut self, group: u64) {
        let (word, bit) = place(group);
        let Some(word) = self.here.get_mut(word).filter(|_| group < self.count) else { return };
        if *word & bit != 0 {
            *word &= !bit;
            self.missing += 1;
        }
    }

    /// Whether a group is here.
    #[must_use]
    pub fn is_here(&self, group: u64) -> bool {
        let (word, bit) = place(group);
        self.here.get(word).is_some_and(|word| word & bit != 0)
    }

    /// How many groups are missing.
    #[must_use]
    pub fn missing(&self) -> u64 {
        self.missing
    }

    /// How many groups the file has.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The first run of missing groups: where it begins and how long it is.
    #[must_use]
    pub fn next_missing_run(&self) -> Option<(u64, u64)> {
        let first = self.next(0, |word| !word)?;
        let end = self.next(first, |word| word).unwrap_or(self.count);
        Some((first, end - first))
    }

    /// The first group from `from` on whose bit is set in what `look` makes of its word: a word at a time, because a large
    /// file has millions of them.
    fn next(&self, from: u64, look: impl Fn(u64) -> u64) -> Option<u64> {
        let (mut word, bit) = place(from);
        let mut seen = look(*self.here.get(word)?) & !(bit - 1);
        while seen == 0 {
            word += 1;
            seen = look(*self.here.get(word)?);
        }
        let found = u64::try_from(word).ok()? * 64 + u64::from(seen.trailing_zeros());
        (found < self.count).then_some(found)
    }
}

fn place(group: u64) -> (usize, u64) {
    (usize::try_from(group / 64).unwrap_or(usize::MAX), 1 << (group % 64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_of_missing_groups_are_found_until_all_are_here() {
        let mut groups = Groups::none_of(130);
        assert_eq!(groups.next_missing_run(), Some((0, 130)));
        for group in [0, 1, 64, 64, 129, 500] {
            groups.mark(group);
        }
        assert_eq!(groups.missing(), 126);
        assert_eq!(groups.next_missing_run(), Some((2, 62)));
        (2..64).for_each(|group| groups.mark(group));
        assert_eq!(groups.next_missing_run(), Some((65, 64)));
        (65..129).for_each(|group| groups.mark(group));
        assert_eq!((groups.missing(), groups.next_missing_run()), (0, None));
        groups.unmark(129);
        groups.unmark(129);
        groups.unmark(130);
        assert_eq!((groups.missing(), groups.next_missing_run()), (1, Some((129, 1))));
    }

    #[test]
    fn an_empty_file_misses_nothing() {
        assert_eq!(Groups::none_of(0).next_missing_run(), None);
    }
}
