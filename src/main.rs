//! The `qchat` program: arguments in, exit code out.

use std::process::ExitCode;

/// glibc keeps the 19 MiB that each password hash takes, once for every thread that ever hashed one.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    qchat::cli::run()
}
