//! Operations with stored weights in the memory of this process: `cubecl_kernels::host` on the
//! pieces as they lie.
//!
//! They are no rows of the table of kernels: a weight is a list of tensors, which no row has, and
//! there is nothing to differentiate.

use std::ops::Range;

use burn::backend::Flex;
use burn::tensor::{Device, Int, Tensor};
use burn_flex::FlexTensor;
use cubecl_kernels::definition::{GroupedLinearShape, StoredMatrix, StoredRows};
use cubecl_kernels::host;

use super::flex_tensor::{Contiguous, dims, ints, tensor};
use super::kernels::done;
use super::supports;
use crate::definition::{ExpertGroups, StoredPiece, StoredWeight};

const ON_HOST: &str =
    "invariant: tensors beside a stored weight are on its device, without autodiff";

/// Whether tensors of a device lie in the memory of this process.
pub(crate) fn is_host(device: &Device) -> bool {
    supports::is_host(device.as_dispatch())
}

/// [`crate::ops::stored::linear`].
pub(crate) fn linear(x: Tensor<2>, w: &StoredWeight) -> Tensor<2> {
    let x = flex(x);
    let ([rows, inputs], [outputs, _]) = (dims(&x), w.dims());
    let pieces = Pieces::of(w.pieces());
    let y = host::stored_linear(Contiguous::new(x).floats(), &pieces.matrix(inputs), rows);
    from_flex(tensor(done(y), [rows, outputs]))
}

/// [`crate::ops::stored::grouped_linear`].
pub(crate) fn grouped_linear(x: Tensor<2>, w: &StoredWeight, groups: &ExpertGroups) -> Tensor<2> {
    let x = flex(x);
    let ([rows, inputs], [_, outputs, _]) = (dims(&x), w.dims());
    // Decoding needs few of the experts: the others' pieces are not even looked at.
    let offsets = groups.offsets();
    let chosen: Vec<(usize, Range<usize>)> = offsets
        .windows(2)
        .map(|bounds| bounds[0]..bounds[1])
        .enumerate()
        .filter(|(_, rows)| !rows.is_empty())
        .collect();
    let bounds: Vec<usize> =
        std::iter::once(0).chain(chosen.iter().map(|(_, rows)| rows.end)).collect();
    let pieces = Pieces::of(chosen.iter().flat_map(|(expert, _)| w.expert(*expert)));
    let shape = GroupedLinearShape { rows, experts: chosen.len(), inputs, outputs };
    let x = Contiguous::new(x);
    let y = host::stored_grouped_linear(x.floats(), &pieces.matrix(inputs), &bounds, &shape);
    from_flex(tensor(done(y), [rows, outputs]))
}

/// [`crate::ops::stored::embedding`] of tokens `[n]`: `[n, d]`.
pub(crate) fn embedding(table: &StoredWeight, tokens: Tensor<1, Int>) -> Tensor<2> {
    let [_, width] = table.dims();
    let tokens = ints(&tokens.try_into_primitive::<Flex>().expect(ON_HOST));
    let rows = host::stored_embedding(&Pieces::of(table.pieces()).matrix(width), &tokens);
    from_flex(tensor(done(rows), [tokens.len(), width]))
}

/// [`crate::ops::stored::linear_cross_entropy`].
pub(crate) fn linear_cross_entropy(
    x: Tensor<2>,
    w: &StoredWeight,
    targets: Tensor<1, Int>,
) -> Tensor<1> {
    let x = flex(x);
    let [rows, inputs] = dims(&x);
    let targets = ints(&targets.try_into_primitive::<Flex>().expect(ON_HOST));
    let counted = targets.iter().filter(|&&target| target >= 0).count().max(1);
    let pieces = Pieces::of(w.pieces());
    let (x, w) = (Contiguous::new(x), pieces.matrix(inputs));
    let sum = done(host::stored_linear_cross_entropy(x.floats(), &w, &targets, rows)).loss;
    from_flex(tensor(vec![(sum / counted as f64) as f32], [1]))
}

/// [`crate::ops::stored::widen`].
pub(crate) fn widen<const D: usize>(w: &StoredWeight) -> Tensor<D> {
    let dims = w.dims::<D>();
    from_flex(tensor(host::widen(&Pieces::of(w.pieces()).matrix(dims[D - 1])), dims))
}

fn flex<const D: usize>(x: Tensor<D>) -> FlexTensor {
    x.try_into_primitive::<Flex>().expect(ON_HOST)
}

fn from_flex<const D: usize>(x: FlexTensor) -> Tensor<D> {
    Tensor::from_primitive::<Flex>(x)
}

/// Pieces as Flex has them.
struct Pieces(Vec<(usize, Piece)>);

enum Piece {
    Bf16(FlexTensor),
    E4m3 { codes: FlexTensor, scales: FlexTensor },
}

impl Pieces {
    fn of<'a>(pieces: impl IntoIterator<Item = &'a StoredPiece>) -> Self {
        let piece = |piece: &StoredPiece| {
            let [rows, _] = piece.dims();
            let piece = match piece.clone() {
                StoredPiece::Bf16(values) => Piece::Bf16(flex(values)),
                StoredPiece::E4m3 { codes, scales } => Piece::E4m3 {
                    codes: codes.try_into_primitive::<Flex>().expect(ON_HOST),
                    scales: flex(scales),
                },
            };
            (rows, piece)
        };
        Self(pieces.into_iter().map(piece).collect())
    }

    fn matrix(&self, inputs: usize) -> StoredMatrix<'_> {
        const AS_MADE: &str = "invariant: pieces are contiguous, of the type of their form";
        let pieces = self.0.iter().map(|(rows, piece)| {
            let stored = match piece {
                Piece::Bf16(values) => StoredRows::Bf16(values.as_slice().expect(AS_MADE)),
                Piece::E4m3 { codes, scales } => StoredRows::E4m3 {
                    codes: codes.as_slice().expect(AS_MADE),
                    scales: scales.as_slice().expect(AS_MADE),
                },
            };
            (*rows, stored)
        });
        done(StoredMatrix::new(inputs, pieces))
    }
}
