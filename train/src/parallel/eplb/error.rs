//! What can be wrong with loads and with the numbers that experts are to be placed by.

use crate::failure::blamed;

/// Why no placement can be made.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum EplbError {
    /// There is nothing to place.
    #[error("there are no loads; give those of the experts of at least one layer")]
    NoLoads,
    /// Layers of one model have as many experts each.
    #[error(
        "layer {layer} of the loads has {found} experts, but layer 0 has {expected}; all must have \
         as many"
    )]
    Ragged {
        /// Position of the layer in the loads.
        layer: usize,
        /// Its experts.
        found: usize,
        /// The number of experts of the first layer.
        expected: usize,
    },
    /// A load is a count or a mean of counts.
    #[error(
        "expert {expert} of layer {layer} of the loads has the load {load}; a load is a finite \
         number of at least 0"
    )]
    Load {
        /// Position of the layer in the loads.
        layer: usize,
        /// The expert.
        expert: usize,
        /// Its load.
        load: f32,
    },
    /// Loads are summed in FP32.
    #[error(
        "the loads of layer {layer} add up to more than FP32 holds; divide them all by the same \
         number"
    )]
    Overflow {
        /// Position of the layer in the loads.
        layer: usize,
    },
    /// None of a kind.
    #[error("{argument} must be at least 1")]
    Zero {
        /// The argument's name.
        argument: &'static str,
    },
    /// Every expert is somewhere.
    #[error("{replicas} replicas are too few for {experts} experts; each needs at least one")]
    TooFewReplicas {
        /// Replicas asked for.
        replicas: usize,
        /// Experts of a layer.
        experts: usize,
    },
    /// A number that no cluster has.
    #[error("{replicas} replicas of a layer's experts are more than the {most} that can be placed")]
    TooManyReplicas {
        /// Replicas asked for.
        replicas: usize,
        /// The most.
        most: usize,
    },
    /// Every part of a cluster gets as much as every other.
    #[error(
        "{count} {things} cannot be divided evenly among {parts} {holders}; take a multiple of \
         {parts}"
    )]
    Uneven {
        /// What is divided.
        things: &'static str,
        /// How many there are.
        count: usize,
        /// Among what.
        holders: &'static str,
        /// How many of those.
        parts: usize,
    },
}

/// Why a list of replicas is no placement.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidPlacement {
    /// GPUs have as many places each, and at least one.
    #[error("{replicas} replicas cannot be spread evenly over {gpus} GPUs")]
    Uneven {
        /// Replicas in the list.
        replicas: usize,
        /// GPUs.
        gpus: usize,
    },
    /// A replica of an expert that is not there.
    #[error("replica {position} is of expert {expert}, but there are {experts} experts")]
    UnknownExpert {
        /// Position in the list.
        position: usize,
        /// The expert.
        expert: usize,
        /// Experts of the layer.
        experts: usize,
    },
    /// Every expert is somewhere.
    #[error("expert {expert} has no replica")]
    MissingExpert {
        /// The expert.
        expert: usize,
    },
}

blamed!(User: EplbError);
