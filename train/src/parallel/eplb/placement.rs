//! A placement of experts as a value: which replica of which expert is in which place, and how even
//! that makes the GPUs' loads.

use serde::Serialize;

use super::error::InvalidPlacement;
use super::replicas::share;

/// Over what the loads were evened out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Policy {
    /// Groups of experts over nodes, then replicas over the GPUs of each node: a group's experts
    /// stay on one node.
    Hierarchical,
    /// Replicas over all GPUs, whatever the groups and nodes.
    Global,
}

/// A placement of the experts of every layer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ExpertPlacement {
    /// How it was made.
    pub policy: Policy,
    /// Layers in the order of the loads.
    pub layers: Vec<LayerPlacement>,
}

/// A placement of one layer's experts. Places are numbered GPU by GPU, and every GPU has as many.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LayerPlacement {
    gpus: usize,
    phy2log: Vec<usize>,
    log2phy: Vec<Vec<usize>>,
}

/// How evenly GPUs are loaded.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Balance {
    /// The load of the GPU with the most.
    pub max: f64,
    /// The mean over all GPUs.
    pub mean: f64,
}

impl Balance {
    /// The balance of the loads of GPUs.
    pub fn of(loads: &[f64]) -> Self {
        let max = loads.iter().copied().fold(0.0, f64::max);
        Self { max, mean: loads.iter().sum::<f64>() / loads.len().max(1) as f64 }
    }

    /// `max / mean`: 1 when even, the number of GPUs at worst. Without any load it counts as even.
    pub fn ratio(&self) -> f64 {
        if self.mean > 0.0 { self.max / self.mean } else { 1.0 }
    }
}

impl LayerPlacement {
    /// A placement from both maps, which are each other's inverse.
    pub(super) fn new(gpus: usize, phy2log: Vec<usize>, log2phy: Vec<Vec<usize>>) -> Self {
        Self { gpus, phy2log, log2phy }
    }

    /// The placement whose place `i` has a replica of expert `phy2log[i]`.
    ///
    /// # Errors
    ///
    /// Places that GPUs cannot have equally many of, an expert that is not one of the layer's, or
    /// one without a replica.
    pub fn from_phy2log(
        phy2log: Vec<usize>,
        experts: usize,
        gpus: usize,
    ) -> Result<Self, InvalidPlacement> {
        let replicas = phy2log.len();
        if gpus == 0 || replicas == 0 || !replicas.is_multiple_of(gpus) {
            return Err(InvalidPlacement::Uneven { replicas, gpus });
        }
        // Looked for first: `experts` may be any number, and a list of so many need not fit into
        // memory.
        if experts > replicas {
            let missing = (0..=replicas).find(|expert| !phy2log.contains(expert));
            return Err(InvalidPlacement::MissingExpert { expert: missing.unwrap_or(replicas) });
        }
        let mut log2phy = vec![Vec::new(); experts];
        for (position, &expert) in phy2log.iter().enumerate() {
            log2phy
                .get_mut(expert)
                .ok_or(InvalidPlacement::UnknownExpert { position, expert, experts })?
                .push(position);
        }
        match log2phy.iter().position(Vec::is_empty) {
            Some(expert) => Err(InvalidPlacement::MissingExpert { expert }),
            None => Ok(Self { gpus, phy2log, log2phy }),
        }
    }

    /// The number of GPUs.
    pub fn gpus(&self) -> usize {
        self.gpus
    }

    /// The number of experts of the layer.
    pub fn experts(&self) -> usize {
        self.log2phy.len()
    }

    /// The number of places of a GPU.
    pub fn places_a_gpu(&self) -> usize {
        self.phy2log.len() / self.gpus
    }

    /// The expert in each place.
    pub fn phy2log(&self) -> &[usize] {
        &self.phy2log
    }

    /// The places of each expert's replicas, in the order in which they were made.
    pub fn log2phy(&self) -> &[Vec<usize>] {
        &self.log2phy
    }

    /// The number of replicas of each expert.
    pub fn logcnt(&self) -> impl Iterator<Item = usize> + '_ {
        self.log2phy.iter().map(Vec::len)
    }

    /// The load of each GPU when experts have these loads and each divides its own evenly among its
    /// replicas.
    ///
    /// # Panics
    ///
    /// When there are fewer loads than experts.
    pub fn gpu_loads(&self, loads: &[f32]) -> Vec<f64> {
        let of_place =
            |&expert: &usize| f64::from(share(loads[expert], self.log2phy[expert].len()));
        self.phy2log
            .chunks(self.places_a_gpu())
            .map(|places| places.iter().map(of_place).sum())
            .collect()
    }
}

/// The loads of GPUs that have the experts in their order, each once: what a placement is compared
/// with. Where they cannot have equally many, the first have one more.
pub fn unplaced_gpu_loads(loads: &[f32], gpus: usize) -> Vec<f64> {
    let (each, more) = (loads.len() / gpus.max(1), loads.len() % gpus.max(1));
    let first = |gpu: usize| gpu * each + gpu.min(more);
    (0..gpus)
        .map(|gpu| loads[first(gpu)..first(gpu + 1)].iter().map(|&load| f64::from(load)).sum())
        .collect()
}
