//! Runs a product: cuts it into tasks, packs what they share, and hands each to the instruction set
//! of its path.

use super::dispatch::{Call, dispatch, panel_form};
use super::emulated;
use super::output::Output;
use super::path::GemmPath;
use super::plan::{Size, plan};
use super::right::{Right, RightLayout};
use super::route::Route;
use super::scratch::{self, Scratch};
use super::source::{Group, Taken};
use super::tiled::columns_a_task;
use crate::definition::{Accumulation, tiles};
use crate::host::parallel::{Threads, chunk, for_each};

/// Panels of a right operand that are packed by one task, where all tasks share it.
const PANELS_A_TASK: usize = 4;

/// Scalar operations that packing an element is worth, about.
const OPERATIONS_AN_ELEMENT: usize = 8;

/// How many times as fast as vectors a tile unit is: its products are worth another thread later.
const TILES_SPEED: usize = 4;

/// Computes every group's product into its place; all of each group's `[left.rows, right.rows]` is
/// written.
pub(super) fn product(
    route: Route,
    groups: &[Group<'_>],
    accumulation: Accumulation,
    out: &Output<'_>,
    threads: Threads,
) {
    let mut sizes = Vec::with_capacity(groups.len());
    let mut work = 0usize;
    for group in groups {
        let (rows, columns, depth) = (group.left.rows(), group.right.rows(), group.left.depth());
        assert_eq!(depth, group.right.depth(), "invariant: the sizes of a product agree");
        let reach = if rows == 0 || columns == 0 {
            0
        } else {
            group.start + (rows - 1) * out.row_stride + columns
        };
        assert!(
            reach <= out.len && (columns <= out.row_stride || rows <= 1),
            "invariant: a result lies inside its output"
        );
        let (speed, columns_a_task) = match accumulation {
            Accumulation::Promoted if route.path(rows).has_tiles() => {
                (TILES_SPEED, Some(columns_a_task(depth)))
            }
            _ => (1, None),
        };
        work = work.saturating_add(rows.saturating_mul(columns).saturating_mul(depth) / speed);
        sizes.push(Size { rows, columns, columns_a_task });
    }
    let work = if threads == Threads::One { 0 } else { work };
    let tasks = plan(&sizes, threads);
    if let Accumulation::Emulated { bits, promote } = accumulation {
        return for_each(tasks.len(), work, |index| {
            let task = &tasks[index];
            emulated::multiply(&groups[task.group], task, out, bits, promote);
        });
    }
    let path_of = |group: &Group<'_>| route.path(group.left.rows());
    assert!(
        out.factor == 1.0 || groups.iter().all(|group| !path_of(group).has_tiles()),
        "invariant: a tile unit multiplies by no factor"
    );
    // Several tasks need the same columns: these are packed once for all.
    let single = groups.first().filter(|group| {
        groups.len() == 1
            && group.left.depth() > 0
            && tasks.first().is_some_and(|task| task.rows.len() < group.left.rows())
    });
    let mut memory = scratch::take_shared();
    let shared = single.map(|group| Shared::pack(path_of(group), group, &mut memory, work));
    for_each(tasks.len(), work, |index| {
        let task = &tasks[index];
        let group = &groups[task.group];
        let path = path_of(group);
        for (term, &[left, right]) in group.terms(path.has_words()).iter().enumerate() {
            let shared = shared.as_ref().map(|shared| shared.taking(right));
            let (left, right) = (group.left.taking(left), group.right.taking(right));
            let group = &Group { left, right, start: group.start };
            let more = (term > 0).then(|| out.adding());
            let out = more.as_ref().unwrap_or(out);
            dispatch(path, &Call::Multiply { group, task, out, shared });
        }
    });
    scratch::keep_shared(memory);
}

/// A right operand that all tasks share, packed: once for each thing that is taken of it.
struct Shared {
    packed: Vec<(Taken, Right)>,
}

impl Shared {
    fn pack(path: GemmPath, group: &Group<'_>, memory: &mut Scratch, work: usize) -> Self {
        let mut taken: Vec<Taken> = Vec::with_capacity(1);
        for &[_, right] in group.terms(path.has_words()) {
            if !taken.contains(&right) {
                taken.push(right);
            }
        }
        let layout = RightLayout::new(panel_form(path), &group.right);
        let panels = group.right.rows().div_ceil(layout.width);
        let places = layout.places(memory, panels, tiles(group.right.depth()), taken.len());
        let packed: Vec<_> = taken.into_iter().zip(places).collect();
        // A small operand is packed sooner than another thread wakes.
        let elements = group.right.rows().saturating_mul(group.right.depth());
        let work = work.min(elements.saturating_mul(OPERATIONS_AN_ELEMENT));
        for &(taken, place) in &packed {
            let right = &group.right.taking(taken);
            for_each(panels.div_ceil(PANELS_A_TASK), work, |index| {
                let panels = chunk(index, PANELS_A_TASK, panels);
                dispatch(path, &Call::Pack { right, place, panels });
            });
        }
        Self { packed }
    }

    fn taking(&self, taken: Taken) -> Right {
        let same = self.packed.iter().find(|(packed, _)| *packed == taken);
        same.expect("invariant: what terms take has been packed").1
    }
}
