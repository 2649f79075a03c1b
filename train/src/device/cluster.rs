//! `train --cluster FILE`: the workers that a cluster's file names.

use std::path::Path;

use burn_deepseek::weights::{SETTINGS_BYTES, read_regular_text};
use serde::Deserialize;

use super::choice::DeviceChoice;
use super::worker::{Token, TokenError, WorkerDevice};
use crate::config::WorkerConfig;
use crate::failure::blamed;

/// The part of a cluster's file that says where its workers are; what else the file says of the
/// machines is for planning.
#[derive(Debug, Deserialize)]
struct ClusterFile {
    #[serde(default)]
    worker: Vec<WorkerConfig>,
}

/// A cluster's file that names no workers, or names them wrongly.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// The file cannot be read.
    #[error("--cluster {path}: {source}")]
    Read {
        /// The file.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// What it says is not what it should.
    #[error("--cluster {path}: {problem}")]
    Wrong {
        /// The file.
        path: String,
        /// What is wrong.
        problem: String,
    },
    /// A worker's token is not there.
    #[error("--cluster {path}: {address}: {source}")]
    Token {
        /// The file.
        path: String,
        /// The worker.
        address: String,
        /// Why.
        source: TokenError,
    },
}

blamed!(User: ClusterError);

/// The devices of the workers that a cluster's file names, in its order, each with its worker's
/// token.
///
/// # Errors
///
/// A file that cannot be read or names no worker; a wrong address; a token that is not there.
pub fn cluster_devices(path: &Path) -> Result<Vec<(DeviceChoice, Option<Token>)>, ClusterError> {
    let name = path.display().to_string();
    let wrong = |problem: String| ClusterError::Wrong { path: name.clone(), problem };
    let text = read_regular_text(path, SETTINGS_BYTES)
        .map_err(|source| ClusterError::Read { path: name.clone(), source })?;
    let file: ClusterFile = toml::from_str(&text).map_err(|error| wrong(error.to_string()))?;
    if file.worker.is_empty() {
        return Err(wrong(
            "it names no worker; one is [[worker]] with an address, as in address = \
                          \"ws://host:3000\""
                .into(),
        ));
    }
    let folder = path.parent().unwrap_or(Path::new(""));
    let mut devices = Vec::new();
    for entry in file.worker {
        let worker: WorkerDevice =
            entry.address.parse().map_err(|error| wrong(format!("worker.address: {error}")))?;
        if entry.devices == 0 {
            return Err(wrong(format!("worker.devices of {worker} is 0; leave the worker out")));
        }
        let token_file = entry.token_file.map(|file| folder.join(file));
        let token = Token::from_either(token_file.as_deref(), entry.token_env.as_deref());
        let token = token.map_err(|source| ClusterError::Token {
            path: name.clone(),
            address: entry.address,
            source,
        })?;
        devices.extend(
            (0..entry.devices)
                .map(|index| (DeviceChoice::Worker(worker.with_index(index)), token.clone())),
        );
    }
    Ok(devices)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Vec<(DeviceChoice, Option<Token>)>, String> {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("secret"), "open sesame\n").unwrap();
        std::fs::write(folder.path().join("cluster.toml"), text).unwrap();
        cluster_devices(&folder.path().join("cluster.toml")).map_err(|error| error.to_string())
    }

    #[test]
    fn devices_come_worker_by_worker() {
        let text = r#"
            [gpu]
            name = "for planning"
            [[worker]]
            address = "ws://a:3000"
            devices = 2
            token_file = "secret"
            [[worker]]
            address = "ws://[::1]:3001"
        "#;
        let devices = read(text).unwrap();
        let names: Vec<String> = devices.iter().map(|(device, _)| device.to_string()).collect();
        assert_eq!(names, ["ws://a:3000", "ws://a:3000/1", "ws://[::1]:3001"]);
        let tokens: Vec<_> =
            devices.iter().map(|(_, token)| token.as_ref().map(Token::reveal)).collect();
        assert_eq!(tokens, [Some("open sesame"), Some("open sesame"), None]);
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, part) in [
            ("[gpu]", "names no worker"),
            ("[[worker]]", "address"),
            ("[[worker]]\naddress = \"http://a:1\"", "ws://"),
            ("[[worker]]\naddress = \"ws://a:1\"\ndevices = 0", "worker.devices"),
            ("[[worker]]\naddress = \"ws://a:1\"\ntoken = \"x\"", "token"),
            ("[[worker]]\naddress = \"ws://a:1\"\ntoken_file = \"none\"", "ws://a:1: token"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.contains("cluster.toml") && error.contains(part), "{error}");
        }
    }
}
