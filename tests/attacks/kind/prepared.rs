//! The valid files that the inputs of a campaign are made of, and that lie beside them: written
//! once, by the program itself.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Result, bail};

use crate::program::{self, TINY, command, watch};

/// The newest checkpoint of the run in the folder of [`prepare`].
pub const NEWEST: &str = "run/checkpoints/step-00000006";

/// A run with its checkpoints in `run`, its model in one file in `single`, in shards in `sharded`,
/// in FP8 in `fp8`.
pub fn prepare(folder: &Path) -> Result<()> {
    fs::create_dir_all(folder)?;
    fs::write(folder.join("tiny.toml"), TINY)?;
    for line in [
        "train --config @tiny.toml --set ema.decay=0.9 --run-dir @run",
        "export --checkpoint @run --out @single --dtype f32",
        "export --checkpoint @run --out @sharded --max-shard-size 20KB",
        "export --checkpoint @run --out @fp8 --dtype fp8",
    ] {
        let mut program = command();
        program.args(super::words(folder, line)).env("XDG_CACHE_HOME", folder.join("cache"));
        let done = watch(program, folder, Duration::from_secs(120))?;
        if !done.status.success() {
            bail!("{line}: {}", done.stderr);
        }
    }
    Ok(())
}

/// The tiny run's file in a place.
pub fn tiny(_: &Path, place: &Path) -> Result<()> {
    Ok(fs::write(place.join("tiny.toml"), TINY)?)
}

/// A copy of the model in one file, in `model` of a place.
pub fn single(prepared: &Path, place: &Path) -> Result<()> {
    Ok(program::copy(&prepared.join("single"), &place.join("model"))?)
}

/// A copy of the model in shards, in `model` of a place.
pub fn sharded(prepared: &Path, place: &Path) -> Result<()> {
    Ok(program::copy(&prepared.join("sharded"), &place.join("model"))?)
}

/// A copy of the run, in `run` of a place.
pub fn run(prepared: &Path, place: &Path) -> Result<()> {
    Ok(program::copy(&prepared.join("run"), &place.join("run"))?)
}
