//! Runs a product: cuts it into tasks, packs what they share, and hands each to the instruction set
//! of its path.

use super::dispatch::{Call, dispatch};
use super::emulated;
use super::output::Output;
use super::packed::{PackedRight, Panels};
use super::plan::{Size, plan};
use super::route::Route;
use super::scratch;
use super::source::Group;
use super::tiled::columns_a_task;
use crate::definition::Accumulation;
use crate::host::parallel::{Threads, for_each};

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
    run(route, groups, accumulation, out, threads, None);
}

/// [`product`] of one group whose right operand may have been `packed` before.
pub(super) fn product_of_packed(
    route: Route,
    group: Group<'_>,
    packed: Option<&PackedRight>,
    out: &Output<'_>,
    threads: Threads,
) {
    run(route, &[group], Accumulation::Promoted, out, threads, packed);
}

fn run(
    route: Route,
    groups: &[Group<'_>],
    accumulation: Accumulation,
    out: &Output<'_>,
    threads: Threads,
    packed: Option<&PackedRight>,
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
    let packed =
        packed.filter(|packed| groups.iter().all(|group| packed.is_of(path_of(group), group)));
    // Several tasks need the same columns: these are packed once for all.
    let single = groups.first().filter(|group| {
        groups.len() == 1
            && packed.is_none()
            && group.left.depth() > 0
            && tasks.first().is_some_and(|task| task.rows.len() < group.left.rows())
    });
    let mut memory = scratch::take_shared();
    let shared = single.map(|group| Panels::pack(path_of(group), &group.right, &mut memory, work));
    let shared = packed.map(PackedRight::panels).or(shared.as_ref());
    for_each(tasks.len(), work, |index| {
        let task = &tasks[index];
        let group = &groups[task.group];
        dispatch(path_of(group), &Call::Multiply { group, task, out, shared });
    });
    scratch::keep_shared(memory);
}
