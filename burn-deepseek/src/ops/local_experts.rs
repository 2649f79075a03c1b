//! Dispatch and combine where every expert is on this device.

use burn::tensor::Tensor;

use super::{combine, permute};
use crate::definition::{DispatchedRows, ExpertDispatch, ExpertGroups};

/// All experts are on this device: dispatch is [`permute`], combine is [`combine`].
#[derive(Clone, Copy, Debug, Default)]
pub struct LocalExperts;

impl ExpertDispatch for LocalExperts {
    fn dispatch(&self, x: Tensor<2>, groups: &ExpertGroups, _layer: usize) -> DispatchedRows {
        let home = groups.clone();
        DispatchedRows {
            rows: permute(x, groups),
            groups: groups.clone(),
            combine: Box::new(move |rows, weights| combine(rows, weights, &home)),
        }
    }
}
