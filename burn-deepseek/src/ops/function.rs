//! A function of tensors with a backward pass of its own, on any backend.

use burn::backend::Dispatch;
use burn::tensor::Tensor;

use crate::backend::{FunctionOps, InputGradient};

/// `y` as a function of `x` whose gradient is `gradient(dy)`: what was computed outside the graph
/// becomes a part of it.
///
/// `y` is what some function of `x`'s values gave, without autodiff; `gradient` takes `dy` and
/// gives `dx`, both without autodiff, in the backward pass, on the thread that runs it. A tensor
/// without autodiff has no backward pass: `y` is returned as it is.
///
/// # Shapes
///
/// - x, dx: `[a, b]`; y, dy, output: `[c, d]`
pub fn with_gradient(
    x: Tensor<2>,
    y: Tensor<2>,
    gradient: impl Fn(Tensor<2>) -> Tensor<2> + Send + Sync + 'static,
) -> Tensor<2> {
    if !x.device().is_autodiff() {
        return y;
    }
    let y = Tensor::<2>::from_inner(y);
    let y = match x.gradient_checkpointing_strategy() {
        Some(strategy) => y.with_gradient_checkpointing_strategy(strategy),
        None => y,
    };
    Tensor::from_dispatch(Dispatch::with_gradient(
        x.into_dispatch(),
        y.into_dispatch(),
        InputGradient::new(gradient),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::Device;

    #[test]
    fn the_gradient_given_is_the_gradient_taken() {
        for device in
            [Device::flex().autodiff(), Device::flex().autodiff().gradient_checkpointing()]
        {
            let x = Tensor::<2>::from_data([[1.0, 2.0, 3.0]], &device).require_grad();
            let y = with_gradient(x.clone(), x.clone().inner().slice([0..1, 0..2]) * 5.0, |dy| {
                assert!(!dy.device().is_autodiff());
                Tensor::cat(vec![dy.clone() * 7.0, dy.slice([0..1, 0..1])], 1)
            });
            // A function of its result, and a second use of x: gradients add up.
            let loss = (y.clone() * y).sum() + x.clone().sum();
            let mut grads = loss.backward();
            // dy = 2 y = [10, 20]
            let dx: Vec<f32> =
                x.grad_remove(&mut grads).expect("a gradient").into_data().try_to_vec().unwrap();
            assert_eq!(dx, [71.0, 141.0, 11.0]);
        }
    }

    #[test]
    fn without_autodiff_nothing_is_recorded() {
        let x = Tensor::<2>::ones([2, 2], &Device::flex());
        let y = with_gradient(x.clone(), x * 3.0, |_| unreachable!("there is no backward pass"));
        assert_eq!(y.into_data().try_to_vec::<f32>().unwrap(), [3.0; 4]);
    }
}
