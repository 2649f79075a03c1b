//! A right operand that is packed once, for all tasks of a product or for several products.

use super::dispatch::{Call, dispatch, panel_form};
use super::path::GemmPath;
use super::right::{Right, RightLayout};
use super::scratch::Scratch;
use super::source::{Group, Source, Taken};
use crate::definition::tiles;
use crate::host::parallel::{chunk, for_each};

/// Panels that are packed by one task.
const PANELS_A_TASK: usize = 4;

/// Scalar operations that packing an element is worth, about.
const OPERATIONS_AN_ELEMENT: usize = 8;

/// All panels of an operand, once for each thing that is taken of it. They lie in memory that
/// somebody else keeps.
pub(super) struct Panels {
    packed: Vec<(Taken, Right)>,
}

impl Panels {
    /// Packs for products on `path`, by all threads where `work` scalar operations in all are worth
    /// it.
    pub(super) fn pack(
        path: GemmPath,
        right: &Source<'_>,
        memory: &mut Scratch,
        work: usize,
    ) -> Self {
        let mut taken: Vec<Taken> = Vec::with_capacity(1);
        for &[_, right] in right.terms(path.has_words()) {
            if !taken.contains(&right) {
                taken.push(right);
            }
        }
        let layout = RightLayout::new(panel_form(path), right);
        let panels = right.rows().div_ceil(layout.width);
        let places = layout.places(memory, panels, tiles(right.depth()), taken.len());
        let packed: Vec<_> = taken.into_iter().zip(places).collect();
        // A small operand is packed sooner than another thread wakes.
        let elements = right.rows().saturating_mul(right.depth());
        let work = work.min(elements.saturating_mul(OPERATIONS_AN_ELEMENT));
        for &(taken, place) in &packed {
            let right = &right.taking(taken);
            for_each(panels.div_ceil(PANELS_A_TASK), work, |index| {
                let panels = chunk(index, PANELS_A_TASK, panels);
                dispatch(path, &Call::Pack { right, place, panels });
            });
        }
        Self { packed }
    }

    /// The panels of what a term takes.
    pub(super) fn taking(&self, taken: Taken) -> Right {
        let same = self.packed.iter().find(|(packed, _)| *packed == taken);
        same.expect("invariant: what terms take has been packed").1
    }
}

/// An operand that was packed for products on one path, with its memory: as much as the operand's
/// own in FP32 words, half of it in BF16 pairs.
pub(super) struct PackedRight {
    path: GemmPath,
    size: [usize; 2],
    panels: Panels,
    /// What the panels point into; never reserved again.
    _memory: Scratch,
}

impl PackedRight {
    pub(super) fn new(path: GemmPath, right: &Source<'_>) -> Self {
        let mut memory = Scratch::default();
        let panels = Panels::pack(path, right, &mut memory, usize::MAX);
        Self { path, size: [right.rows(), right.depth()], panels, _memory: memory }
    }

    /// Whether this is what the product of `group` on `path` reads.
    pub(super) fn is_of(&self, path: GemmPath, group: &Group<'_>) -> bool {
        assert_eq!(
            self.size,
            [group.right.rows(), group.right.depth()],
            "invariant: the operand is the one that was packed"
        );
        self.path == path
    }

    pub(super) fn panels(&self) -> &Panels {
        &self.panels
    }
}
