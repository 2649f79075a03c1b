//! What the routers of a pass did, told to whoever asked.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// What one router did in a pass.
#[derive(Clone, Debug, PartialEq)]
pub struct LayerRecord {
    /// Index of the layer; MTP module `k` (from 0) is `num_hidden_layers + k`.
    pub layer: usize,
    /// Sequences of the batch.
    pub batch: usize,
    /// Tokens a sequence.
    pub seq: usize,
    /// Experts of each token in ascending order, `[tokens * top_k]`.
    pub chosen: Vec<u32>,
    /// What they were chosen by, where that was asked for.
    pub detail: Option<RoutingDetail>,
}

/// What a choice was made by (2.1.2).
#[derive(Clone, Debug, PartialEq)]
pub struct RoutingDetail {
    /// Scores after sigmoid or softmax, without the bias, `[tokens * experts]`.
    pub scores: Vec<f32>,
    /// The bias that was added to them, as it was changed, `[experts]`; minus infinity for an
    /// expert that was switched off.
    pub bias: Vec<f32>,
    /// Groups that each token could choose from in ascending order, `[tokens * kept groups]`; where
    /// choices were given, those that it would have had.
    pub kept_groups: Vec<u32>,
    /// Gate values in the order of `chosen`, `[tokens * top_k]`.
    pub gates: Vec<f32>,
}

/// Collects what routers tell; a clone collects into the same place.
#[derive(Clone, Debug)]
pub struct RoutingLog {
    detailed: bool,
    layers: Arc<Mutex<BTreeMap<usize, LayerRecord>>>,
}

impl RoutingLog {
    /// Collects what was chosen, and nothing that would have to be read from a device.
    pub fn of_choices() -> Self {
        Self { detailed: false, layers: Arc::default() }
    }

    /// Collects what was chosen and by what.
    pub fn of_everything() -> Self {
        Self { detailed: true, layers: Arc::default() }
    }

    /// What has been told since the last time, layers in ascending order; of a layer that ran more
    /// than once the last.
    pub fn take(&self) -> Vec<LayerRecord> {
        let mut layers = self.layers.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut *layers).into_values().collect()
    }

    /// Whether a router is to tell what it chose by.
    pub(crate) fn is_detailed(&self) -> bool {
        self.detailed
    }

    /// Collects what one router did.
    pub fn tell(&self, record: LayerRecord) {
        let mut layers = self.layers.lock().unwrap_or_else(PoisonError::into_inner);
        layers.insert(record.layer, record);
    }
}
