//! Replicas of experts, so that the load of a replica is nearly the same for all.

/// One place for an expert.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Replica {
    /// The expert.
    pub expert: usize,
    /// The number of the replica among those of the expert, from 0.
    pub number: usize,
}

/// `count` replicas, every expert once and then, one after another, of the expert whose replicas
/// have the highest load each; of equals the first.
///
/// Returns the replicas and how many each expert has. `count` is at least the number of experts.
/// Loads are divided in FP32.
pub(super) fn replicate(loads: &[f32], count: usize) -> (Vec<Replica>, Vec<usize>) {
    let mut counts = vec![1usize; loads.len()];
    let mut replicas: Vec<Replica> =
        (0..loads.len()).map(|expert| Replica { expert, number: 0 }).collect();
    while replicas.len() < count {
        let mut busiest = 0;
        for expert in 1..loads.len() {
            if share(loads[expert], counts[expert]) > share(loads[busiest], counts[busiest]) {
                busiest = expert;
            }
        }
        replicas.push(Replica { expert: busiest, number: counts[busiest] });
        counts[busiest] += 1;
    }
    (replicas, counts)
}

/// The load of each replica of an expert.
pub(super) fn share(load: f32, replicas: usize) -> f32 {
    load / replicas as f32
}
