//! Which path each product takes: few rows another one than many.

use std::sync::LazyLock;

use super::choice::fitting;
use super::path::GemmPath;
use crate::host::simd::{Isa, forced_isa, isa};

/// Rows up to which vectors are ahead of a tile unit, to which a row costs as much as sixteen. Their
/// time beside its on a Xeon, from FP8 codes of 1024 x 1024: 0.63 at one row, 0.84 at 4, 0.97 at 6,
/// 1.25 at 8 (`gemm_bench "fp8 8x" amx`).
const FEW_ROWS_BESIDE_TILES: usize = 6;

/// The paths of the products of a call, by the rows of their results.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Route {
    few_rows: usize,
    few: GemmPath,
    many: GemmPath,
}

impl Route {
    /// The one path for all.
    pub(super) fn only(path: GemmPath) -> Self {
        Self { few_rows: 0, few: path, many: path }
    }

    /// What products take: the path that was asked for, else what fits this processor.
    pub(super) fn current() -> Self {
        static CHOSEN: LazyLock<Route> = LazyLock::new(|| match GemmPath::choice() {
            Ok(choice) if forced_isa().is_some() => Route::only(choice.path),
            _ => Route::fitting(fitting().path),
        });
        GemmPath::forced().map_or_else(|| *CHOSEN, Self::only)
    }

    /// What the products of experts take: of any number of rows the path of many. How many rows an
    /// expert has follows from where its replicas are, which must not show in what a row gets.
    pub(super) fn of_experts() -> Self {
        Self::current().for_any_rows()
    }

    /// The path of many rows for few too.
    pub(super) fn for_any_rows(self) -> Self {
        Self::only(self.many)
    }

    /// What FP32 products take: the widest FP32 words of this machine, or those that were asked
    /// for.
    pub(super) fn words() -> Self {
        let widest = match isa() {
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => GemmPath::Avx512,
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => GemmPath::Avx2,
            Isa::Baseline => GemmPath::Baseline,
        };
        Self::only(GemmPath::forced().filter(|path| path.has_words()).unwrap_or(widest))
    }

    /// What products of three BF16 parts take: a tile unit, and FP32 words where there is none, or
    /// few rows.
    pub(super) fn thirds() -> Self {
        let (few_rows, few) = (FEW_ROWS_BESIDE_TILES, Self::words().many);
        let many = Self::current().many;
        Self { few_rows, few, many: if many.has_tiles() { many } else { few } }
    }

    /// What fits this processor, whose products of many rows take `many`. (Few rows by pairs beside
    /// many by FP32 words were up to twice as fast on a Xeon; but how many rows an expert has then
    /// showed in what each of them got.)
    fn fitting(many: GemmPath) -> Self {
        let few = GemmPath::Avx512Bf16;
        let few_rows = match many {
            GemmPath::Amx => FEW_ROWS_BESIDE_TILES,
            _ => return Self::only(many),
        };
        Self { few_rows, few, many }
    }

    /// The path of a product of so many rows.
    #[inline]
    pub(super) fn path(self, rows: usize) -> GemmPath {
        if rows <= self.few_rows { self.few } else { self.many }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_of_an_expert_take_one_path_however_many_there_are() {
        let beside_tiles = Route::fitting(GemmPath::Amx);
        assert_ne!(
            beside_tiles.path(1),
            beside_tiles.path(100),
            "of dense products few take vectors"
        );
        let of_experts = beside_tiles.for_any_rows();
        for rows in [0, 1, FEW_ROWS_BESIDE_TILES, 100] {
            assert_eq!(of_experts.path(rows), GemmPath::Amx, "{rows}");
        }
        assert_eq!(Route::of_experts().path(1), Route::of_experts().path(1000));
    }
}
