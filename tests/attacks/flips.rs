//! Bits flipped in the files of a checkpoint: none goes unnoticed where it is opened.

use std::fs::{self, OpenOptions};
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Result, ensure};
use deepseek_train::checkpoint::{Checkpoint, Purpose};
use rand::RngExt;

use crate::kind::{NEWEST, prepare};
use crate::mutation::draw_of;
use crate::options::Flips;

/// A file up to this many bytes is small.
const SMALL_BYTES: usize = 1 << 14;

/// Flips bits of a checkpoint's files; how many nobody noticed.
pub fn run(options: &Flips) -> Result<usize> {
    let scratch = tempfile::tempdir()?;
    let prepared = scratch.path().join("prepared");
    prepare(&prepared)?;
    let checkpoint = prepared.join(NEWEST);
    ensure!(Checkpoint::open(&checkpoint, Purpose::Training).is_ok(), "a whole one must open");
    let mut files = Vec::new();
    all(&checkpoint, &mut files)?;
    let (mut unnoticed, mut flipped, started) = (0, 0, Instant::now());
    for file in files {
        let whole = fs::read(&file)?;
        let name = file.strip_prefix(&checkpoint)?.display().to_string();
        let bits = whole.len() * 8;
        let mut draw = draw_of(options.seed, &name, 0);
        let chosen: Vec<usize> = if whole.len() <= SMALL_BYTES {
            (0..bits).step_by(options.every.max(1)).collect()
        } else {
            (0..options.large).map(|_| draw.random_range(0..bits)).collect()
        };
        let mut missed = Vec::new();
        let mut opened = OpenOptions::new().write(true).open(&file)?;
        let mut put = |at: usize, byte: u8| -> Result<()> {
            opened.seek(SeekFrom::Start(at as u64))?;
            Ok(opened.write_all(&[byte])?)
        };
        for &bit in &chosen {
            put(bit / 8, whole[bit / 8] ^ (1 << (bit % 8)))?;
            if Checkpoint::open(&checkpoint, Purpose::Training).is_ok() {
                missed.push(bit);
            }
            put(bit / 8, whole[bit / 8])?;
        }
        println!("{name}: {} of {bits} bits flipped, {} unnoticed", chosen.len(), missed.len());
        if let Some(first) = missed.first() {
            println!("found: {name}: bit {first} and {} more", missed.len() - 1);
        }
        flipped += chosen.len();
        unnoticed += missed.len();
    }
    println!("{flipped} bits, {unnoticed} unnoticed, {:.0} s", started.elapsed().as_secs_f64());
    Ok(unnoticed)
}

/// The files in a folder and below it, sorted.
fn all(folder: &Path, found: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            all(&entry.path(), found)?;
        } else {
            found.push(entry.path());
        }
    }
    found.sort();
    Ok(())
}
