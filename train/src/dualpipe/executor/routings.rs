//! What the routers of ranks in other processes chose, on its way to rank 0, which saves it.

use burn_deepseek::routing::LayerRecord;

use crate::data::TokenBatch;
use crate::parallel::packed;

/// What one router chose for a micro-batch.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Chosen {
    /// The micro-batch, by its number in the pipeline.
    micro_batch: usize,
    layer: usize,
    batch: usize,
    seq: usize,
    chosen: Vec<u32>,
}

packed!(Chosen { micro_batch, layer, batch, seq, chosen });

/// What routers have told of a pipeline's micro-batches.
pub(super) fn taken(batches: &[TokenBatch]) -> Vec<Chosen> {
    let mut all = Vec::new();
    for (micro_batch, batch) in batches.iter().enumerate() {
        let log = batch.routing.as_ref().and_then(|routing| routing.log.as_ref());
        for record in log.map(|log| log.take()).unwrap_or_default() {
            let LayerRecord { layer, batch, seq, chosen, .. } = record;
            all.push(Chosen { micro_batch, layer, batch, seq, chosen });
        }
    }
    all
}

/// Tells whoever asked for it what routers chose for a pipeline's micro-batches.
pub(super) fn told(batches: &[TokenBatch], all: Vec<Chosen>) {
    for Chosen { micro_batch, layer, batch, seq, chosen } in all {
        let asked = batches.get(micro_batch).and_then(|batch| batch.routing.as_ref());
        if let Some(log) = asked.and_then(|routing| routing.log.as_ref()) {
            log.tell(LayerRecord { layer, batch, seq, chosen, detail: None });
        }
    }
}
