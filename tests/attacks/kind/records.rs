//! What a run keeps of itself: `state.json` of a checkpoint, `metrics.jsonl`.

use std::fs;
use std::path::Path;

use deepseek_train::checkpoint::{Checkpoint, Purpose};
use deepseek_train::failure::line_of;

use super::prepared::{NEWEST, run};
use super::{Kind, words};
use crate::mutation::Form;
use crate::program;

/// The kinds.
pub fn kinds() -> Vec<Kind> {
    vec![
        Kind {
            name: "state",
            share: 60,
            form: Form::Text,
            seeds: |prepared| Ok(vec![fs::read(prepared.join(NEWEST).join("state.json"))?]),
            file: Some("run/checkpoints/step-00000006/state.json"),
            furnish: run,
            arguments: |place, _| words(place, "train --resume @run"),
            call: Some(opened),
        },
        Kind {
            name: "metrics",
            share: 30,
            form: Form::Text,
            seeds: |prepared| Ok(vec![fs::read(prepared.join("run/metrics.jsonl"))?]),
            file: Some("run/metrics.jsonl"),
            furnish: run,
            arguments: |place, _| words(place, "train --resume @run"),
            call: Some(|place| {
                program::call(&words(
                    place,
                    "plan experts --loads @run --replicas 6 --gpus 2 --json",
                ))
            }),
        },
    ]
}

fn opened(place: &Path) -> Option<String> {
    let opened = Checkpoint::open(&place.join(NEWEST), Purpose::Training).map(|checkpoint| {
        let _ = checkpoint.data();
        let _ = checkpoint.config();
    });
    opened.err().map(|error| line_of(&error.into()))
}
