//! `deepseek dashboard` and trainings as processes that end with the test.

use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};

use crate::workplace::Workplace;

/// A process that ends when this is dropped.
pub struct Running(Child);

impl Running {
    /// Ends it at once.
    pub fn kill(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// A training of `tiny.toml` that goes on until it is ended.
pub fn training(place: &Workplace, more: &str) -> Running {
    let mut command = place.command(&format!("train --config ./tiny.toml {more}"));
    Running(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
}

/// A server of pages.
pub struct Served {
    pub process: Running,
    /// `http://127.0.0.1:PORT`.
    pub url: String,
}

/// Serves the runs in `runs` at an address; port 0 takes a free one.
pub fn serve(place: &Workplace, address: &str) -> Served {
    let mut command = place.command(&format!("dashboard --json --listen {address}"));
    std::fs::create_dir_all(place.path("runs")).unwrap();
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let said: serde_json::Value = serde_json::from_str(&line).unwrap();
    let url = said["listening"].as_str().unwrap().trim_end_matches('/').to_owned();
    Served { process: Running(child), url }
}
