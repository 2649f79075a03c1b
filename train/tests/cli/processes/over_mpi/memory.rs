//! The memory of a process, beside what is planned for its rank.

use serde_json::Value;

use super::mpirun;
use crate::bounded::Bounded;
use crate::workplace::{Finished, Workplace};

/// A model of which weights, gradients and moments are most of a process's memory.
/// None of them is much by itself: while a gradient is made it is there more than once.
const LARGE: &str = "--set model.hidden_size=384 --set model.moe_intermediate_size=512 \
                     --set model.intermediate_size=1920 --set model.n_routed_experts=4 \
                     --set model.num_hidden_layers=20 --set model.num_nextn_predict_layers=0 \
                     --set optimizer.moments=f32 --set output.sample_tokens=0 --steps 2 \
                     --set train.eval_batches=1 --set train.keep_checkpoints=1";

/// Rank, most bytes, planned bytes, bytes of the whole model's weights, of each process.
pub fn memory(finished: &Finished) -> Vec<[f64; 4]> {
    let numbers = |rank: &Value| {
        ["rank", "peak_bytes", "planned_bytes", "whole_model_bytes"]
            .map(|key| rank[key].as_f64().unwrap())
    };
    finished.json()["memory"].as_array().unwrap().iter().map(numbers).collect()
}

/// A process has what the plan says of its rank, a constant, and at most a tenth more, which is
/// of the allocator: it makes nothing of the others' parts, at no time. (What the allocator keeps
/// of what was freed is not counted: it gives that back here. Nor are huge pages, of which a part
/// is used: they were 45 MiB of a process, whatever its rank had.)
#[test]
fn a_process_has_the_memory_of_its_own_part() {
    let place = Workplace::new();
    let train = |count, more: &str| {
        let arguments = format!("train --config ./tiny.toml --device flex {more} --json");
        let mut command = mpirun(&place, count, &arguments);
        let frugal = [("MIMALLOC_PURGE_DELAY", "0"), ("MIMALLOC_ALLOW_THP", "0")];
        let output = command.envs(frugal).ended();
        Finished::of(&format!("mpirun -n {count} {arguments}"), output).ok()
    };
    let small = train(2, "--set parallel.pipeline=2 --set parallel.schedule=1f1b");
    // The program, its threads, the library's buffers.
    let constant = memory(&small)[1];
    let constant = constant[1] - constant[2];
    println!("a process: {:.1} MiB", constant / f64::from(1 << 20));
    assert!(constant < 96e6, "{constant} bytes");
    for (count, layout) in [
        (2, "--set parallel.pipeline=2 --set parallel.schedule=1f1b"),
        (
            4,
            "--set parallel.pipeline=2 --set parallel.expert=2 --set parallel.schedule=1f1b \
             --set schedule.global_batch=8",
        ),
    ] {
        let trained = train(count, &format!("{LARGE} {layout}"));
        assert!(trained.stdout.contains("memory      at most"), "{}", trained.dump());
        let ranks = memory(&trained);
        assert_eq!(ranks.len(), count);
        for [rank, peak, planned, whole] in ranks {
            let (had, expected) = (peak - constant, planned + whole);
            println!(
                "rank {rank} of {count}: {:.1} MiB besides, planned {:.1}",
                had / f64::from(1 << 20),
                expected / f64::from(1 << 20)
            );
            // Rank 0's evaluation comes after its step, whose gradients are gone.
            let least = if rank == 0.0 { planned } else { expected };
            assert!(planned > 80e6, "the constant is most of it");
            assert!(had < 1.1 * expected, "rank {rank} of {count}: {}", trained.dump());
            assert!(had > 0.9 * least, "rank {rank} of {count}: {}", trained.dump());
        }
    }
}
