//! demo
use std::sync::Arc;

use crate::cli::args::Demo;
use crate::cli::output::Output;
use crate::peer::failure::Failure;
pub(super) async fn run(_args: Demo, _output: &Arc<Output>) -> Result<(), Failure> {
    Ok(())
}
