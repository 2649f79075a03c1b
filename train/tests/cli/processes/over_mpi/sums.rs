//! Gradients that the library sums, beside sums in the order of the ranks.

use super::{failed, run, same_checkpoints, steps, train};
use crate::workplace::{Workplace, number};

/// Sums by the library are those in the order of the ranks but for their last bits, in every
/// layout that has holders of the same parameters; the same in each run, and refused where no
/// library joins the ranks.
#[test]
fn sums_by_the_library_are_the_sums() {
    let place = Workplace::new();
    let collective = "--set parallel.reduction=collective";
    for (run, count, layout) in [
        ("copies", 2, "--set parallel.data=2"),
        (
            "mixed",
            4,
            "--set parallel.pipeline=2 --set parallel.expert=2 --set parallel.schedule=1f1b",
        ),
        ("both-ends", 2, "--set parallel.pipeline=2"),
    ] {
        let layout = format!("{layout} --set schedule.global_batch=8 --set ema.decay=0.9");
        let [by_rank, once, again] =
            ["rank-order", "once", "again"].map(|name| format!("{run}-{name}"));
        train(&place, count, &format!("{layout} --run-dir {by_rank}")).ok();
        for name in [&once, &again] {
            train(&place, count, &format!("{layout} {collective} --run-dir {name}")).ok();
        }
        same_checkpoints(&place, &once, &again, 6);
        let losses = |run: &str| -> Vec<f64> {
            steps(&place, run).iter().map(|step| number(step, "loss")).collect()
        };
        let (want, got) = (losses(&by_rank), losses(&once));
        assert_eq!((want.len(), got.len()), (6, 6));
        for (want, got) in want.iter().zip(&got) {
            assert!((got / want - 1.0).abs() < 1e-4, "{run}: {got} instead of {want}");
        }
        // Every weight has moved as it should, those included that come from other owners.
        assert!((got[5] - got[0]).abs() > 1e-3, "{got:?}");
    }
    // Resumed, it ends as it would have.
    place.remove("copies-once/checkpoints/step-00000006");
    run(&place, 2, "train --resume copies-once --device flex").ok();
    same_checkpoints(&place, "copies-once", "copies-again", 6);
    // A checkpoint goes on in the other order.
    place.remove("copies-once/checkpoints/step-00000006");
    let resume = "train --resume copies-once --device flex --set parallel.data=1";
    place.run(resume).failed(2, &["parallel.reduction", "mpirun", "reduction=rank-order"]);
    place.run(&format!("{resume} --set parallel.reduction=rank-order")).ok();
    failed(
        &train(&place, 2, "--set parallel.data=2 --set parallel.reduction=fastest"),
        2,
        &["parallel.reduction"],
    );
}

/// A run that has just begun makes its communicators while ranks are still being told of the
/// step: it stood still here one time in three when that was done by whoever came first.
#[test]
fn runs_that_sum_by_the_library_begin() {
    let place = Workplace::new();
    for turn in 0..6 {
        let (count, layout) = match turn % 2 {
            0 => (2, "--set parallel.pipeline=2 --set schedule.global_batch=8"),
            _ => (4, "--set parallel.data=2 --set parallel.expert=2 --set schedule.global_batch=8"),
        };
        let once = "--set parallel.reduction=collective --steps 1 --set train.eval_every=0";
        train(&place, count, &format!("{layout} {once} --run-dir run-{turn}")).ok();
    }
}
