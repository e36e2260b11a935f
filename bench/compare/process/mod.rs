//! Programs in processes of their own, and what they use.

pub(crate) mod cpu_time;
pub(crate) mod directory;
pub(crate) mod installed;
pub(crate) mod kept;
pub(crate) mod loopback;
pub(crate) mod measured;
