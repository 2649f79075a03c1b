//! A worker under attack, and what is looked at of it.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::program::{TINY, command, ended_by, peak_of};

/// When a training on a worker is given up.
const PATIENCE: Duration = Duration::from_secs(60);

/// A worker of this machine, which ends with this value.
pub struct Worker {
    child: Mutex<Child>,
    process: u32,
    /// Where it listens.
    pub address: SocketAddr,
    errors: PathBuf,
}

impl Worker {
    /// Starts one on a free port.
    pub fn start(scratch: &Path) -> Result<Self> {
        let errors = scratch.join("worker-stderr");
        let mut child = command()
            .args("worker --device flex --listen 127.0.0.1:0 --json".split_whitespace())
            .stdout(Stdio::piped())
            .stderr(File::create(&errors)?)
            .spawn()?;
        let process = child.id();
        let out = child.stdout.take().context("invariant: its output is piped")?;
        let mut line = String::new();
        BufReader::new(out).read_line(&mut line)?;
        let said: Value = serde_json::from_str(&line).context("a worker says where it listens")?;
        let url = said["listening"].as_str().context("a worker says where it listens")?;
        let address = url.trim_start_matches("ws://").parse()?;
        Ok(Self { child: Mutex::new(child), process, address, errors })
    }

    /// How it ended, if it did.
    pub fn end(&self) -> Result<Option<String>> {
        let mut child = self.child.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let ended = child.try_wait()?;
        Ok(ended.map(|status| format!("it ended, {status}: {}", tail(&self.words()))))
    }

    /// Where its threads panicked, each place once, with what followed.
    pub fn panics(&self) -> Vec<String> {
        let words = self.words();
        let mut lines = words.lines();
        let mut found = BTreeMap::new();
        while let Some(line) = lines.next() {
            if let Some(at) = line.find("panicked at ") {
                let place = line[at..].to_owned();
                found.entry(place).or_insert_with(|| lines.next().unwrap_or_default().to_owned());
            }
        }
        let told = |(place, words): (String, String)| {
            let words: String = words.chars().take(160).collect();
            format!("{place} {words}")
        };
        found.into_iter().map(told).collect()
    }

    fn words(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.errors).unwrap_or_default()).into_owned()
    }

    /// How many descriptors it has open.
    pub fn descriptors(&self) -> Result<usize> {
        Ok(fs::read_dir(format!("/proc/{}/fd", self.process))?.count())
    }

    /// The most memory that it has had, in bytes.
    pub fn peak_bytes(&self) -> usize {
        peak_of(self.process).unwrap_or(0)
    }

    /// A training on it, two ranks that share their experts, at an address that leads to it.
    pub fn train(&self, address: &SocketAddr, scratch: &Path) -> Result<()> {
        fs::write(scratch.join("tiny.toml"), TINY)?;
        let run = scratch.join("on-worker");
        if run.exists() {
            fs::remove_dir_all(&run)?;
        }
        let errors = scratch.join("training-stderr");
        let mut child = command()
            .args("train --config ./tiny.toml --steps 2 --set parallel.expert=2".split_whitespace())
            .args(["--set", "train.micro_batch=1", "--set", "parallel.timeout_s=20"])
            .arg("--run-dir")
            .arg(&run)
            .args(["--device", &format!("ws://{address}")])
            .current_dir(scratch)
            .env("XDG_CACHE_HOME", scratch.join("cache"))
            .stdout(Stdio::null())
            .stderr(File::create(&errors)?)
            .spawn()?;
        let status = ended_by(&mut child, Instant::now() + PATIENCE)?;
        if status.is_none() {
            child.kill()?;
            child.wait()?;
        }
        let words = fs::read_to_string(errors)?;
        ensure!(status.is_some_and(|status| status.success()), "{status:?}: {}", tail(&words));
        Ok(())
    }

    /// A training straight on it.
    pub fn serves(&self, scratch: &Path) -> Result<()> {
        self.train(&self.address, scratch)
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let mut child = self.child.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        // It may have ended by itself, which was told.
        let _ = child.kill();
        let _ = child.wait();
    }
}

fn tail(words: &str) -> String {
    let lines: Vec<&str> = words.lines().collect();
    lines[lines.len().saturating_sub(3)..].join(" | ")
}
