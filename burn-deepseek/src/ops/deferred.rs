//! Linears of Burn's own operations whose weight gradient is left in a queue.

use burn::tensor::Tensor;

use super::{composed, with_gradient};
use crate::backend::DeferredWeight;
use crate::definition::ExpertGroups;

/// [`composed::linear`], whose `dw = dy^T x` is computed when the queue is.
pub(super) fn linear(
    x: Tensor<2>,
    w: Tensor<2>,
    bias: Option<Tensor<1>>,
    weight: DeferredWeight,
) -> Tensor<2> {
    if !x.device().is_autodiff() {
        return composed::linear(x, w, bias);
    }
    let (input, w) = (x.clone().inner(), w.inner());
    let y = composed::linear(input.clone(), w.clone(), None);
    let y = with_gradient(x, y, move |dy| {
        let (x, dw_of) = (input.clone(), dy.clone());
        weight.push_tensor(move || dw_of.transpose().matmul(x));
        dy.matmul(w.clone())
    });
    match bias {
        Some(bias) => y + bias.unsqueeze::<2>(),
        None => y,
    }
}

/// [`composed::grouped_linear`], whose weight gradients are computed when the queue is.
pub(super) fn grouped_linear(
    x: Tensor<2>,
    w: Tensor<3>,
    groups: &ExpertGroups,
    weight: DeferredWeight,
) -> Tensor<2> {
    if !x.device().is_autodiff() {
        return composed::grouped_linear(x, w, groups);
    }
    let (input, w) = (x.clone().inner(), w.inner());
    let y = composed::grouped_linear(input.clone(), w.clone(), groups);
    let groups = groups.clone();
    with_gradient(x, y, move |dy| {
        let (x, dw_of, of_groups) = (input.clone(), dy.clone(), groups.clone());
        let dims = w.dims();
        weight.push_tensor(move || weight_gradient(dw_of, x, &of_groups, dims));
        composed::grouped_linear(dy, w.clone().swap_dims(1, 2), &groups)
    })
}

/// `dw[e] = dy[rows of e]^T x[rows of e]`, zero for an expert without rows.
fn weight_gradient(
    dy: Tensor<2>,
    x: Tensor<2>,
    groups: &ExpertGroups,
    [_, d_out, d_in]: [usize; 3],
) -> Tensor<3> {
    let product = |range: &[usize]| {
        let rows = |t: &Tensor<2>| t.clone().narrow(0, range[0], range[1] - range[0]);
        match range[1] > range[0] {
            true => rows(&dy).transpose().matmul(rows(&x)),
            false => Tensor::zeros([d_out, d_in], &x.device()),
        }
    };
    Tensor::stack(groups.offsets().windows(2).map(product).collect(), 0)
}
