//! Rows as they travel between ranks, as one matrix of words (3.2.2, 3.3.3). For tensors without
//! autodiff, on a device that [`crate::backend::supports_fp8`].

use std::sync::Arc;

use burn::backend::Dispatch;
use burn::tensor::{Int, Tensor};

pub use cubecl_kernels::definition::{ArrivalPlan, DispatchPlan, RowSums, WireFormat};

use crate::backend::{WireOps, supports};
use crate::definition::ExpertGroups;

/// Rows of x by index, permuted and cast in one read.
///
/// # Shapes
///
/// - x: `[rows, d]`, output: `[index, row_words(d)]`
pub fn pack(x: Tensor<2>, index: &[u32], format: WireFormat) -> Tensor<2, Int> {
    Tensor::from_dispatch(Dispatch::wire_pack(x.into_dispatch(), index.into(), format))
}

/// Rows that have arrived, by index, as values.
///
/// # Shapes
///
/// - wire: `[rows, row_words(width)]`, output: `[index, width]`
pub fn unpack(wire: Tensor<2, Int>, index: &[u32], width: usize, format: WireFormat) -> Tensor<2> {
    Tensor::from_dispatch(Dispatch::wire_unpack(wire.into_dispatch(), index.into(), width, format))
}

/// Sums of rows that have arrived, in FP32, each in the order of its terms.
///
/// # Shapes
///
/// - wire: `[sums.bound(), row_words(width)]`, output: `[sums.results(), width]`
pub fn sum(
    wire: Tensor<2, Int>,
    sums: &Arc<RowSums>,
    width: usize,
    format: WireFormat,
) -> Tensor<2> {
    Tensor::from_dispatch(Dispatch::wire_sum(wire.into_dispatch(), sums.clone(), width, format))
}

/// [`sum`] with a weight for each term.
///
/// # Shapes
///
/// - weights: `[sums.terms()]`
pub fn combine(
    wire: Tensor<2, Int>,
    weights: Tensor<1>,
    sums: &Arc<RowSums>,
    width: usize,
    format: WireFormat,
) -> Tensor<2> {
    Tensor::from_dispatch(Dispatch::wire_combine(
        wire.into_dispatch(),
        weights.into_dispatch(),
        sums.clone(),
        width,
        format,
    ))
}

/// Sums of rows in FP32.
///
/// # Shapes
///
/// - x: `[sums.bound(), d]`, output: `[sums.results(), d]`
pub fn sum_values(x: Tensor<2>, sums: &Arc<RowSums>) -> Tensor<2> {
    Tensor::from_dispatch(Dispatch::wire_sum_values(x.into_dispatch(), sums.clone()))
}

/// The sums that are the gradient of [`permute`](super::permute): over a token's rows, in the order
/// in which that operation has them on the device of `x`, so that a gradient which comes from other
/// ranks has the bits of one that does not.
pub fn token_sums(groups: &ExpertGroups, x: &Tensor<2>) -> Arc<RowSums> {
    let plan = groups.plan();
    let sums = if supports(x) {
        RowSums::of_slots(plan.row_of_slot(), plan.tokens(), plan.top_k(), plan.rows())
    } else {
        RowSums::of_gather(plan.token_of_row(), plan.tokens())
    };
    Arc::new(sums.expect("invariant: a plan's rows are its own"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops;
    use burn::tensor::Device;

    fn devices() -> Vec<Device> {
        vec![
            Device::flex(),
            #[cfg(feature = "wgpu")]
            crate::backend::test_gpu(),
        ]
    }

    fn values(x: Tensor<2>) -> Vec<f32> {
        x.into_data().try_to_vec().unwrap()
    }

    #[test]
    fn what_is_packed_comes_out_in_any_order_and_sums_are_those_of_permute() {
        for device in devices() {
            let groups = ExpertGroups::new(&[2, 0, 0, 2, 3, 0], 2, 4);
            let x = Tensor::<2>::random([3, 130], burn::tensor::Distribution::Default, &device);
            let permuted = values(ops::permute(x.clone(), &groups));
            for (format, allowed) in
                [(WireFormat::F32, 0.0), (WireFormat::Bf16, 4e-3), (WireFormat::Fp8, 7e-2)]
            {
                let wire = pack(x.clone(), groups.token_of_row(), format);
                assert_eq!(wire.dims(), [6, format.row_words(130)]);
                let here = values(unpack(wire.clone(), &[0, 1, 2, 3, 4, 5], 130, format));
                assert!(
                    here.iter()
                        .zip(&permuted)
                        .all(|(a, b)| (a - b).abs() <= allowed * b.abs().max(0.02)),
                    "{format:?}"
                );
                let twice = values(sum(wire.clone(), &token_sums(&groups, &x), 130, format));
                let ones = Tensor::ones([6], &device);
                assert_eq!(
                    values(combine(wire, ones, &token_sums(&groups, &x), 130, format)),
                    twice
                );
                let rows =
                    Tensor::<2>::from_data(burn::tensor::TensorData::new(here, [6, 130]), &device);
                assert_eq!(values(sum_values(rows, &token_sums(&groups, &x))), twice);
            }
        }
    }
}
