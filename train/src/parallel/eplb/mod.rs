//! Expert-parallel load balancing: which expert goes on which GPU, and which are there more than
//! once, from measured loads (3.4).
//!
//! Data in, data out: nothing here knows a file, a device or a tensor.

mod error;
mod packing;
mod placement;
mod replicas;
mod spread;
#[cfg(test)]
mod tests;

pub use error::{EplbError, InvalidPlacement};
pub use placement::{Balance, ExpertPlacement, LayerPlacement, Policy, unplaced_gpu_loads};
pub use spread::Duplicate;

use packing::pack;
use replicas::{replicate, share};

/// The most replicas of a layer's experts that are placed.
pub const MOST_REPLICAS: usize = 1 << 16;

/// Places `replicas` replicas of every layer's experts on `gpus` GPUs in `nodes` nodes, from the
/// load of each expert, `loads[layer][expert]`.
///
/// Where the experts' `groups` can be divided among the nodes, groups are packed into nodes first,
/// as a token visits few nodes; then the experts of each node are replicated within it, and the
/// replicas packed onto its GPUs. Otherwise the last two steps are taken with all GPUs as one node.
/// A replica always goes to the expert whose replicas have the highest load each, and packing takes
/// the heaviest first, into the lightest pack with room. Of equals the first wins, so the same
/// loads give the same placement everywhere; they are divided and summed in FP32.
///
/// # Errors
///
/// Loads that are none, negative or not finite, too few replicas, or numbers that cannot be divided
/// as said.
pub fn rebalance_experts(
    loads: &[Vec<f32>],
    replicas: usize,
    groups: usize,
    nodes: usize,
    gpus: usize,
) -> Result<ExpertPlacement, EplbError> {
    let experts = check_loads(loads)?;
    for (argument, value) in
        [("replicas", replicas), ("groups", groups), ("nodes", nodes), ("gpus", gpus)]
    {
        if value == 0 {
            return Err(EplbError::Zero { argument });
        }
    }
    let (policy, shape) = match groups.is_multiple_of(nodes) {
        true => (Policy::Hierarchical, Shape { replicas, groups, nodes, gpus }),
        false => (Policy::Global, Shape { replicas, groups: 1, nodes: 1, gpus }),
    };
    shape.check(experts)?;
    Ok(ExpertPlacement { policy, layers: loads.iter().map(|loads| place(loads, &shape)).collect() })
}

/// The number of experts of every layer.
fn check_loads(loads: &[Vec<f32>]) -> Result<usize, EplbError> {
    let expected = loads.first().map_or(0, Vec::len);
    if expected == 0 {
        return Err(EplbError::NoLoads);
    }
    for (layer, of_layer) in loads.iter().enumerate() {
        if of_layer.len() != expected {
            return Err(EplbError::Ragged { layer, found: of_layer.len(), expected });
        }
        let wrong = of_layer.iter().enumerate().find(|(_, load)| !load.is_finite() || **load < 0.0);
        if let Some((expert, &load)) = wrong {
            return Err(EplbError::Load { layer, expert, load });
        }
        if !of_layer.iter().sum::<f32>().is_finite() {
            return Err(EplbError::Overflow { layer });
        }
    }
    Ok(expected)
}

/// What a layer's experts are spread over.
struct Shape {
    replicas: usize,
    groups: usize,
    nodes: usize,
    gpus: usize,
}

impl Shape {
    fn check(&self, experts: usize) -> Result<(), EplbError> {
        let Self { replicas, groups, nodes, gpus } = *self;
        if replicas < experts {
            return Err(EplbError::TooFewReplicas { replicas, experts });
        }
        if replicas > MOST_REPLICAS {
            return Err(EplbError::TooManyReplicas { replicas, most: MOST_REPLICAS });
        }
        let divisions = [
            ("experts", experts, "groups", groups),
            ("GPUs", gpus, "nodes", nodes),
            ("replicas", replicas, "GPUs", gpus),
        ];
        match divisions.into_iter().find(|(_, count, _, parts)| !count.is_multiple_of(*parts)) {
            Some((things, count, holders, parts)) => {
                Err(EplbError::Uneven { things, count, holders, parts })
            }
            None => Ok(()),
        }
    }
}

/// Places the experts of one layer.
fn place(loads: &[f32], shape: &Shape) -> LayerPlacement {
    let group_size = loads.len() / shape.groups;
    let group_loads: Vec<f32> = loads.chunks(group_size).map(|group| group.iter().sum()).collect();
    let mut groups_of_node = vec![vec![0; shape.groups / shape.nodes]; shape.nodes];
    for (group, slot) in pack(&group_loads, shape.nodes).into_iter().enumerate() {
        groups_of_node[slot.pack][slot.position] = group;
    }

    let mut phy2log = Vec::with_capacity(shape.replicas);
    let mut log2phy = vec![Vec::new(); loads.len()];
    for groups in &groups_of_node {
        let experts: Vec<usize> =
            groups.iter().flat_map(|group| group * group_size..(group + 1) * group_size).collect();
        let loads: Vec<f32> = experts.iter().map(|&expert| loads[expert]).collect();
        let (replicas, counts) = replicate(&loads, shape.replicas / shape.nodes);
        let shares: Vec<f32> = replicas
            .iter()
            .map(|replica| share(loads[replica.expert], counts[replica.expert]))
            .collect();
        let packs = shape.gpus / shape.nodes;
        let (first, room) = (phy2log.len(), replicas.len() / packs);

        for (&expert, &count) in experts.iter().zip(&counts) {
            log2phy[expert] = vec![0; count];
        }
        phy2log.resize(first + replicas.len(), 0);
        for (replica, slot) in replicas.iter().zip(pack(&shares, packs)) {
            let (expert, position) =
                (experts[replica.expert], first + slot.pack * room + slot.position);
            phy2log[position] = expert;
            log2phy[expert][replica.number] = position;
        }
    }
    LayerPlacement::new(shape.gpus, phy2log, log2phy)
}
