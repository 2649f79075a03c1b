//! What the casts to FP8 of a step did to the values, for who wants to know.

use std::sync::{Arc, Mutex, PoisonError};

use burn::tensor::{Int, Tensor};

use super::counts::{Counted, count_cast};
use crate::precision::{CastCounts, CastLayout, Fp8Format};

/// What is cast.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CastKind {
    /// The input of a linear, in 1x128 tiles: that of Fprop.
    Activations,
    /// A weight, in 128x128 blocks.
    Weights,
    /// The gradient of a linear's output, in 1x128 tiles: that of Dgrad.
    Gradients,
}

/// What the casts of passes did, by what was cast.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Casts {
    /// Inputs of linears, every fourth row; one that several linears share is cast once.
    pub activations: CastCounts,
    /// Weights.
    pub weights: CastCounts,
    /// Gradients of linears' outputs, every fourth row.
    pub gradients: CastCounts,
}

impl Casts {
    /// Adds those of other passes.
    pub fn absorb(&mut self, other: &Self) {
        self.activations.absorb(&other.activations);
        self.weights.absorb(&other.weights);
        self.gradients.absorb(&other.gradients);
    }

    fn of(&mut self, kind: CastKind) -> &mut CastCounts {
        match kind {
            CastKind::Activations => &mut self.activations,
            CastKind::Weights => &mut self.weights,
            CastKind::Gradients => &mut self.gradients,
        }
    }
}

/// Takes up what casts do. A clone is the same one; passes of several threads may share it, and the
/// sums are the same in whatever order they run.
#[derive(Clone, Debug, Default)]
pub struct CastCounter(Arc<Mutex<Found>>);

#[derive(Debug, Default)]
struct Found {
    casts: Casts,
    /// What devices have counted and nobody has read yet.
    unread: Vec<(CastKind, CastCounts, Tensor<1, Int>, Tensor<1>)>,
}

impl CastCounter {
    /// What was found since the last call. Waits for the devices.
    pub fn take(&self) -> Casts {
        let found = std::mem::take(&mut *self.found());
        let mut casts = found.casts;
        for (kind, mut counts, beyond, scales) in found.unread {
            let beyond: Vec<u64> =
                beyond.into_data().iter::<i64>().map(|count| count as u64).collect();
            let scales: Vec<f32> = scales.into_data().iter::<f32>().collect();
            (counts.saturated, counts.underflowed) = (beyond[0], beyond[1]);
            (counts.scale_min, counts.scale_max) = (scales[0], scales[1]);
            casts.of(kind).absorb(&counts);
        }
        casts
    }

    /// Takes up a cast of x (without autodiff) that gave these scales, in every
    /// `stride`-th row.
    ///
    /// # Shapes
    ///
    /// - x: `[rows, columns]`; scales: as `layout` says
    pub(crate) fn add(
        &self,
        kind: CastKind,
        x: Tensor<2>,
        scales: Tensor<2>,
        layout: CastLayout,
        format: Fp8Format,
        stride: usize,
    ) {
        let [rows, columns] = x.dims();
        if rows * columns == 0 {
            return;
        }
        let values = (rows.div_ceil(stride) * columns) as u64;
        match count_cast(x, scales, layout, format, stride) {
            Counted::Host(counts) => self.found().casts.of(kind).absorb(&counts),
            Counted::Device { beyond, scales } => {
                let counts = CastCounts { values, ..CastCounts::default() };
                self.found().unread.push((kind, counts, beyond, scales));
            }
        }
    }

    fn found(&self) -> std::sync::MutexGuard<'_, Found> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
