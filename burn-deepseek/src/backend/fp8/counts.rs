//! What a cast to FP8 did to its values: counted on the host where they are in its memory, and by
//! the device's own operations elsewhere.

use burn::backend::Flex;
use burn::tensor::{Int, Slice, Tensor};

use crate::backend::flex_tensor::Contiguous;
use crate::backend::is_in_host_memory;
use crate::backend::kernels::done;
use crate::precision::{CastCounts, CastLayout, Fp8Format, TILE};

/// What a cast did, known or on its way.
#[derive(Clone, Debug)]
#[allow(clippy::large_enum_variant)] // one lives for the length of a call
pub(super) enum Counted {
    /// Known.
    Host(CastCounts),
    /// On a device.
    Device {
        /// Values that were saturated and that were underflowed, `[2]`.
        beyond: Tensor<1, Int>,
        /// The smallest and the largest scale, `[2]`.
        scales: Tensor<1>,
    },
}

/// Of so many rows of activations and gradients the values of one are counted: where a cast takes as
/// long as a count, all of them would cost a step some hundredths.
pub(crate) const ROWS_A_COUNTED_ONE: usize = 4;

/// What the cast of x, without autodiff and not empty, to `format` did, in every `stride`-th row:
/// [`CastCounts`] defines it.
///
/// # Shapes
///
/// - x: `[rows, columns]`; scales: `[rows, tiles(columns)]`, or those of blocks
pub(super) fn count_cast(
    x: Tensor<2>,
    scales: Tensor<2>,
    layout: CastLayout,
    format: Fp8Format,
    stride: usize,
) -> Counted {
    if !is_in_host_memory(&x) {
        return on_device(x, scales, layout, format, stride);
    }
    let shape = x.dims();
    let [x, scales] = [x, scales].map(|tensor| {
        Contiguous::new(
            tensor.try_into_primitive::<Flex>().expect("invariant: the tensors are on Flex"),
        )
    });
    let counts = cubecl_kernels::host::count_cast(
        x.floats(),
        scales.floats(),
        shape,
        layout,
        format,
        stride,
    );
    Counted::Host(done(counts))
}

fn on_device(
    x: Tensor<2>,
    scales: Tensor<2>,
    layout: CastLayout,
    format: Fp8Format,
    stride: usize,
) -> Counted {
    let range = Tensor::cat(vec![scales.clone().min(), scales.clone().max()], 0);
    let (x, scales) = match layout {
        CastLayout::Tiles => (every(x, stride), every(scales, stride)),
        CastLayout::Blocks { .. } => (x, scales),
    };
    let [rows, columns] = x.dims();
    let [scale_rows, tiles] = scales.dims();
    let along_rows = scales
        .reshape([scale_rows, tiles, 1])
        .repeat_dim(2, TILE)
        .reshape([scale_rows, tiles * TILE])
        .narrow(1, 0, columns);
    let of_values = match layout {
        CastLayout::Tiles => along_rows,
        CastLayout::Blocks { outputs } => {
            let (matrices, blocks) = (rows / outputs, outputs.div_ceil(TILE));
            along_rows
                .reshape([matrices, blocks, 1, columns])
                .repeat_dim(2, TILE)
                .reshape([matrices, blocks * TILE, columns])
                .narrow(1, 0, outputs)
                .reshape([rows, columns])
        }
    };
    let magnitude = x.abs();
    let saturated = magnitude
        .clone()
        .greater(of_values.clone() * f64::from(format.clipping_limit()))
        .bool_or(magnitude.clone().is_inf());
    let underflowed = magnitude
        .clone()
        .lower_equal(of_values * f64::from(format.zero_limit()))
        .bool_and(magnitude.greater_elem(0.0));
    let beyond = Tensor::cat(vec![saturated.int().sum(), underflowed.int().sum()], 0);
    Counted::Device { beyond, scales: range }
}

/// Every `stride`-th row, from the first on.
pub(crate) fn every(x: Tensor<2>, stride: usize) -> Tensor<2> {
    if stride == 1 { x } else { x.slice([Slice::new(0, None, stride as isize), Slice::full()]) }
}

#[cfg(test)]
mod tests {
    use super::super::counter::{CastCounter, CastKind, Casts};
    use super::*;
    use burn::tensor::{Device, TensorData};

    /// Values over many powers of two, with zeros and an infinity.
    fn values(count: usize) -> Vec<f32> {
        let value = |n: usize| match n % 23 {
            0 => 0.0,
            k => ((n * 37 % 101) as f32 - 50.0) * (k as f32 - 20.0).exp2(),
        };
        let mut values: Vec<f32> = (0..count).map(value).collect();
        values[count / 2] = f32::INFINITY;
        values
    }

    /// What the device's own operations count, which is what a [`CastCounter`] takes up.
    fn counts(device: &Device, shape: [usize; 2], layout: CastLayout) -> CastCounts {
        let [rows, columns] = shape;
        let scale_shape = [layout.scale_row(rows - 1) + 1, columns.div_ceil(TILE)];
        let scales = (0..scale_shape[0] * scale_shape[1]).map(|n| 0.125 + 0.25 * (n % 5) as f32);
        let scales = TensorData::new(scales.collect::<Vec<f32>>(), scale_shape);
        let scales = Tensor::<2>::from_data(scales, device);
        let x = Tensor::from_data(TensorData::new(values(rows * columns), shape), device);
        let format = Fp8Format::E4M3;
        let stride = if layout == CastLayout::Tiles { ROWS_A_COUNTED_ONE } else { 1 };
        let Counted::Device { beyond, scales: range } =
            on_device(x.clone(), scales.clone(), layout, format, stride)
        else {
            unreachable!()
        };
        let beyond: Vec<i64> = beyond.into_data().iter::<i64>().collect();
        let range: Vec<f32> = range.into_data().iter::<f32>().collect();
        let composed = CastCounts {
            values: (rows.div_ceil(stride) * columns) as u64,
            saturated: beyond[0] as u64,
            underflowed: beyond[1] as u64,
            scale_min: range[0],
            scale_max: range[1],
        };
        let counter = CastCounter::default();
        for _ in 0..2 {
            let (x, scales) = (x.clone(), scales.clone());
            counter.add(CastKind::Gradients, x, scales, layout, format, stride);
        }
        let mut twice = composed;
        twice.absorb(&composed);
        assert_eq!(counter.take(), Casts { gradients: twice, ..Casts::default() });
        assert_eq!(counter.take(), Casts::default());
        composed
    }

    /// On Flex the host's function counts what the device's own operations count.
    #[test]
    fn both_forms_count_the_same() {
        let blocks = CastLayout::Blocks { outputs: 130 };
        for (shape, layout) in
            [([9, 300], CastLayout::Tiles), ([1, 5], CastLayout::Tiles), ([260, 129], blocks)]
        {
            let counts = counts(&Device::flex(), shape, layout);
            assert!(counts.saturated > 0 || shape == [1, 5], "{counts:?}");
            #[cfg(feature = "wgpu")]
            assert_eq!(self::counts(&crate::backend::test_gpu(), shape, layout), counts);
        }
    }
}
