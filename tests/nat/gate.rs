//! Bounds of what is measured: strict where nothing else runs, loose where other programs may take the processors away.

/// One bound in both forms.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Gate<T> {
    /// What must hold on a quiet machine: with `QCHAT_GATES=strict`.
    pub(crate) strict: T,
    /// What nothing but a fault exceeds.
    pub(crate) loose: T,
}

impl<T: Copy> Gate<T> {
    pub(crate) fn value(&self) -> T {
        let is_strict = std::env::var_os("QCHAT_GATES").is_some_and(|word| word == "strict");
        if is_strict { self.strict } else { self.loose }
    }
}
