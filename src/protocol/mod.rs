//! WHAT IS DECIDED: state machines; messages and time in, actions out; no I/O.

pub mod audit;
pub mod backoff;
pub mod conversation;
pub mod groups;
pub mod key_change;
pub mod lanes;
pub mod lockout;
pub mod mailbox;
pub mod new_accounts;
pub mod password_tries;
pub mod prekeys;
pub mod source;
pub mod trust;
