//! `deepseek plan`: what can be worked out on paper. A file for each subcommand.

mod cluster;
mod experts;
mod schedule;

use crate::cli::{PlanArgs, PlanTarget};
use crate::exit::Outcome;
use crate::failure::Result;

/// Works out what is asked for.
///
/// # Errors
///
/// What is planned does not exist ([`crate::exit::USAGE`]), or a file cannot be written
/// ([`crate::exit::FAILURE`]).
pub fn run(args: PlanArgs) -> Result<Outcome> {
    match args.target {
        PlanTarget::Schedule(args) => schedule::run(&args),
        PlanTarget::Cluster(args) => cluster::run(&args),
        PlanTarget::Experts(args) => experts::run(&args),
    }
}
