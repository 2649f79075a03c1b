//! Replicas of one expert on one GPU: which they are, and a placement with them parted.

use super::placement::LayerPlacement;
use super::replicas::share;

/// Replicas of an expert that share a GPU, where one would have done as well.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Duplicate {
    /// The GPU.
    pub gpu: usize,
    /// The expert.
    pub expert: usize,
    /// Its replicas there, at least 2.
    pub replicas: usize,
}

impl LayerPlacement {
    /// The experts that a GPU has more than once, GPU by GPU.
    pub fn duplicates(&self) -> Vec<Duplicate> {
        let mut found = Vec::new();
        for (gpu, places) in self.phy2log().chunks(self.places_a_gpu()).enumerate() {
            let mut experts = places.to_vec();
            experts.sort_unstable();
            let of_expert = experts.chunk_by(|a, b| a == b);
            found.extend(of_expert.filter(|same| same.len() > 1).map(|same| Duplicate {
                gpu,
                expert: same[0],
                replicas: same.len(),
            }));
        }
        found
    }

    /// This placement with replicas of one expert on different GPUs, as far as swaps of two places
    /// within a node's GPUs part them. Of the swaps that part a pair and make no other, the one is
    /// taken that leaves the busiest GPU with the least load, then the first.
    ///
    /// Numbers of replicas and nodes of experts stay as they are. An expert with more replicas on a
    /// node than that has GPUs keeps some together.
    ///
    /// # Panics
    ///
    /// When there are fewer loads than experts, or nodes do not divide the GPUs.
    pub fn spread(&self, loads: &[f32], nodes: usize) -> Self {
        let mut placement = self.clone();
        let of_node = placement.gpus() / nodes;
        // Each swap leaves one pair less, so this ends.
        while let Some(swapped) = placement
            .duplicates()
            .into_iter()
            .find_map(|duplicate| placement.parted(duplicate, loads, of_node))
        {
            placement = swapped;
        }
        placement
    }

    /// The placement after the best swap that takes a replica of `duplicate` to another GPU of its
    /// node.
    fn parted(&self, duplicate: Duplicate, loads: &[f32], gpus_a_node: usize) -> Option<Self> {
        let Duplicate { gpu, expert, .. } = duplicate;
        let room = self.places_a_gpu();
        let of_gpu = |gpu: usize| &self.phy2log()[gpu * room..(gpu + 1) * room];
        let from = gpu * room + of_gpu(gpu).iter().rposition(|&here| here == expert)?;
        let node = gpu / gpus_a_node * gpus_a_node;
        let gpu_loads = self.gpu_loads(loads);
        let weight = |expert: usize| f64::from(share(loads[expert], self.log2phy()[expert].len()));
        let mut best: Option<(f64, usize)> = None;
        for other in (node..node + gpus_a_node).filter(|&other| !of_gpu(other).contains(&expert)) {
            let elsewhere = (0..self.gpus()).filter(|&third| third != gpu && third != other);
            let elsewhere = elsewhere.map(|third| gpu_loads[third]).fold(0.0, f64::max);
            for (place, &theirs) in of_gpu(other).iter().enumerate() {
                if of_gpu(gpu).contains(&theirs) {
                    continue;
                }
                let more = weight(theirs) - weight(expert);
                let (here, there) = (gpu_loads[gpu] + more, gpu_loads[other] - more);
                let busiest = elsewhere.max(here).max(there);
                if best.is_none_or(|(least, _)| busiest < least) {
                    best = Some((busiest, other * room + place));
                }
            }
        }
        best.map(|(_, place)| self.swapped(from, place))
    }

    /// The placement with the replicas of two places exchanged.
    fn swapped(&self, one: usize, other: usize) -> Self {
        let (mut phy2log, mut log2phy) = (self.phy2log().to_vec(), self.log2phy().to_vec());
        phy2log.swap(one, other);
        for places in [self.phy2log()[one], self.phy2log()[other]] {
            for place in &mut log2phy[places] {
                *place = match *place {
                    place if place == one => other,
                    place if place == other => one,
                    place => place,
                };
            }
        }
        Self::new(self.gpus(), phy2log, log2phy)
    }
}
