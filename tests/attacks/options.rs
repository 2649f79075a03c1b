//! The command line of `attacks`.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

/// Attacks the program, and says what did not hold.
#[derive(Debug, Parser)]
#[command(name = "attacks")]
pub struct Options {
    /// Which attack.
    #[command(subcommand)]
    pub attack: Attack,
}

/// The attacks.
#[derive(Debug, Subcommand)]
pub enum Attack {
    /// Mutated files and arguments: each is answered by a value or a clear error, within ten
    /// seconds and a gigabyte.
    Mutations(Campaign),
    /// Trainings killed at any moment and resumed: the record and the weights are those of a run
    /// that was left alone.
    Kills(Kills),
    /// Bits flipped in a checkpoint: all are noticed.
    Flips(Flips),
    /// Mutated messages to a running worker: it stays up, and serves the next training.
    Frames(Frames),
    /// A part of `mutations`, in a process of its own.
    #[command(hide = true)]
    Child(Errand),
}

/// Options of `mutations`.
#[derive(Debug, Args)]
pub struct Campaign {
    /// Inputs in all.
    #[arg(long, default_value_t = 1_000_000)]
    pub count: u64,
    /// Of these, how many the program gets in a process of its own; without it one in 500.
    #[arg(long)]
    pub processes: Option<u64>,
    /// What they are drawn from.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// One kind of input alone.
    #[arg(long)]
    pub kind: Option<String>,
    /// Processes at a time.
    #[arg(long, default_value_t = 2)]
    pub jobs: usize,
    /// Where inputs that found something are kept.
    #[arg(long, default_value = "findings")]
    pub keep: PathBuf,
    /// One input alone, by its number.
    #[arg(long, requires = "kind")]
    pub index: Option<u64>,
}

/// Options of `kills`.
#[derive(Debug, Args)]
pub struct Kills {
    /// Kills in all.
    #[arg(long, default_value_t = 300)]
    pub count: u64,
    /// What their moments are drawn from.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Runs at a time.
    #[arg(long, default_value_t = 1)]
    pub jobs: usize,
    /// Where runs that differ are kept.
    #[arg(long, default_value = "findings")]
    pub keep: PathBuf,
}

/// Options of `flips`.
#[derive(Debug, Args)]
pub struct Flips {
    /// Of a small file's bits every so manieth.
    #[arg(long, default_value_t = 1)]
    pub every: usize,
    /// Bits of each large file.
    #[arg(long, default_value_t = 4_000)]
    pub large: usize,
    /// What is drawn of large files.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
}

/// Options of `frames`.
#[derive(Debug, Args)]
pub struct Frames {
    /// Connections in all.
    #[arg(long, default_value_t = 5_000)]
    pub count: u64,
    /// What they are drawn from.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
}

/// What a child process does.
#[derive(Debug, Args)]
pub struct Errand {
    #[arg(long)]
    pub kind: String,
    #[arg(long)]
    pub seed: u64,
    #[arg(long)]
    pub from: u64,
    #[arg(long)]
    pub to: u64,
    /// The valid files that its inputs are made of.
    #[arg(long)]
    pub prepared: PathBuf,
    /// Its own folder.
    #[arg(long)]
    pub folder: PathBuf,
}
