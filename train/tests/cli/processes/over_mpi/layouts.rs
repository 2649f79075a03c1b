//! Layouts of ranks on processes beside the same on threads: records, checkpoints, weights that are
//! read, routings; and layouts that there are not.

use std::fs;

use serde_json::Value;

use super::memory::memory;
use super::{checkpoint, failed, run, same_checkpoints, steps, train};
use crate::workplace::Workplace;

/// Every schedule, every axis, each format, with MTP, recomputation, two hops and averages: the
/// record and the checkpoint are those of ranks on threads.
#[test]
fn processes_give_the_losses_and_weights_of_threads() {
    let place = Workplace::new();
    for (run, count, settings) in [
        (
            "dualpipe",
            2,
            "--set parallel.pipeline=2 --set schedule.global_batch=8 \
             --set precision.format=fp8",
        ),
        (
            "dualpipev",
            2,
            "--set parallel.pipeline=2 --set parallel.schedule=dualpipev \
             --set schedule.global_batch=8 --set precision.recompute=true",
        ),
        ("experts", 2, "--set parallel.expert=2 --set precision.format=bf16 --set ema.decay=0.9"),
        ("copies", 2, "--set parallel.data=2 --set precision.format=fp8"),
        (
            "1f1b",
            4,
            "--set parallel.pipeline=4 --set parallel.schedule=1f1b \
             --set model.num_hidden_layers=4 --set schedule.global_batch=8",
        ),
        (
            "zb1p",
            4,
            "--set parallel.pipeline=2 --set parallel.expert=2 --set parallel.schedule=zb1p \
             --set precision.format=fp8 --set schedule.global_batch=8",
        ),
        (
            "two-hops",
            4,
            "--set parallel.expert=4 --set parallel.ranks_per_node=2 \
             --set precision.format=fp8 --set schedule.global_batch=8",
        ),
        (
            "eight",
            8,
            "--set parallel.pipeline=2 --set parallel.expert=2 --set parallel.data=2 \
             --set precision.format=fp8 --set schedule.global_batch=32",
        ),
    ] {
        let (threads, processes) = (format!("{run}-threads"), format!("{run}-processes"));
        place.train(&format!("--device flex {settings} --run-dir {threads}")).ok();
        let trained =
            train(&place, count, &format!("{settings} --run-dir {processes} --json")).ok();
        assert!(trained.stdout.contains(", each a process"), "{}", trained.dump());
        assert_eq!(trained.json()["steps"], 6, "{}", trained.dump());
        assert_eq!(place.metrics(&threads), place.metrics(&processes), "{run}");
        same_checkpoints(&place, &threads, &processes, 6);
    }
}

/// Ranks that share a process: what they send each other stays in it, the rest crosses. The same
/// bits again, and a checkpoint that either goes on with.
#[test]
fn processes_of_several_ranks_give_the_bits_of_threads() {
    let place = Workplace::new();
    let two =
        "--set parallel.ranks_per_process=2 --set schedule.global_batch=8 --set ema.decay=0.9";
    for (run, layout) in [
        (
            "stages",
            "--set parallel.pipeline=4 --set model.num_hidden_layers=4 \
                    --set parallel.schedule=1f1b",
        ),
        (
            "both",
            "--set parallel.pipeline=2 --set parallel.expert=2 --set parallel.schedule=zb1p \
                  --set precision.format=fp8",
        ),
        (
            "nodes",
            "--set parallel.expert=4 --set parallel.ranks_per_node=2 \
                   --set precision.format=fp8",
        ),
        (
            "copies",
            "--set parallel.pipeline=2 --set parallel.data=2 --set schedule.global_batch=16",
        ),
    ] {
        let (threads, processes) = (format!("{run}-threads"), format!("{run}-processes"));
        let settings = format!("{two} {layout}");
        place.train(&format!("--device flex {settings} --run-dir {threads}")).ok();
        let trained = train(&place, 2, &format!("{settings} --run-dir {processes} --json")).ok();
        assert!(trained.stdout.contains(", 2 a process"), "{}", trained.dump());
        assert_eq!(memory(&trained).len(), 2, "{}", trained.dump());
        assert_eq!(place.metrics(&threads), place.metrics(&processes), "{run}");
        same_checkpoints(&place, &threads, &processes, 6);
        let mut logs = place.names(&format!("{processes}/ranks"));
        logs.sort();
        assert_eq!(logs, ["rank-2.log", "rank-3.log"]);
    }
    // On as many processes as ranks, from where two of them were.
    place.remove("both-processes/checkpoints/step-00000006");
    let resume = "train --resume both-processes --device flex --set parallel.ranks_per_process=1";
    run(&place, 4, resume).ok();
    same_checkpoints(&place, "both-processes", "both-threads", 6);

    let wrong = "--set parallel.data=2 --set parallel.expert=2 --set parallel.ranks_per_process=3";
    failed(&train(&place, 2, wrong), 2, &["parallel.ranks_per_process = 3", "= 4"]);
    let few = "--set parallel.data=2 --set parallel.ranks_per_process=2";
    failed(
        &train(&place, 2, &format!("{few} --set schedule.global_batch=8")),
        2,
        &["2 processes were started", "are 2 ranks", "ranks_per_process = 2", "mpirun -n 1"],
    );
    // A rank's own mistake ends all processes, whichever rank it is.
    let devices = "--devices flex,flex,flex,wgpu:99 --set parallel.expert=4";
    let finished = train(&place, 2, &format!("{two} {devices} --run-dir refused"));
    failed(&finished, 2, &["the process of rank 2", "rank 3", "wgpu:99"]);
    assert!(!place.path("refused").exists());
    let summed = "--set parallel.expert=4 --set parallel.reduction=collective";
    failed(&train(&place, 2, &format!("{two} {summed}")), 2, &["parallel.reduction", "one rank"]);
}

/// Steps one after the other, not six: nothing is left over from one to the next.
#[test]
fn two_hundred_steps_are_those_of_threads() {
    let place = Workplace::new();
    let settings = "--steps 200 --set train.eval_every=100 --set train.checkpoint_every=0 \
                    --set parallel.pipeline=2 --set schedule.global_batch=8 \
                    --set precision.format=fp8";
    place.train(&format!("--device flex {settings} --run-dir threads")).ok();
    train(&place, 2, &format!("{settings} --run-dir processes")).ok();
    assert_eq!(steps(&place, "threads").len(), 200);
    assert!(place.metrics("threads") == place.metrics("processes"), "other losses");
    same_checkpoints(&place, "threads", "processes", 200);
}

/// A checkpoint knows neither layout nor transport: begun on threads, gone on with as
/// processes, and on threads again; so does the average, of which each process has its part.
#[test]
fn a_run_goes_from_threads_to_processes_and_back() {
    let place = Workplace::new();
    let layout = "--set parallel.pipeline=2 --set parallel.schedule=dualpipev \
                  --set schedule.global_batch=8 --set ema.decay=0.9";
    place.train(&format!("--device flex {layout} --run-dir straight")).ok();
    assert!(!checkpoint(&place, "straight", 6, "ema/model.safetensors").is_empty());
    place.copy("straight", "moved");
    place.remove("moved/checkpoints/step-00000006");
    let resumed = run(&place, 2, "train --resume moved --device flex").ok();
    assert!(resumed.stdout.contains("resumed     from"), "{}", resumed.dump());
    assert_eq!(place.metrics("moved"), place.metrics("straight"));
    same_checkpoints(&place, "moved", "straight", 6);

    train(&place, 2, &format!("{layout} --run-dir begun")).ok();
    place.remove("begun/checkpoints/step-00000006");
    place.run("train --resume begun --device flex").ok();
    assert_eq!(place.metrics("begun"), place.metrics("straight"));
    // One rank, which is another layout of the same sums.
    place.remove("begun/checkpoints/step-00000006");
    place.run("train --resume begun --device flex --set parallel.pipeline=1").ok();
    same_checkpoints(&place, "begun", "straight", 6);
}

#[test]
fn what_these_processes_cannot_be_is_refused_once() {
    let place = Workplace::new();
    let refused = train(&place, 3, "--set parallel.expert=2 --run-dir refused");
    failed(
        &refused,
        2,
        &["3 processes were started", "parallel.expert = 2", "are 2 ranks", "mpirun -n 2"],
    );
    assert!(!place.path("refused").exists());
    failed(&train(&place, 2, ""), 2, &["2 processes were started", "are 1 ranks"]);
    let lent = train(&place, 2, "--set parallel.expert=2 --devices ws://127.0.0.1:9");
    failed(&lent, 2, &["a device of a worker", "one process"]);
    // A rank's own mistake is told by rank 0, with the rank's number.
    let devices = "--devices flex,cpu:7 --set parallel.expert=2";
    let finished = train(&place, 2, &format!("{devices} --run-dir refused"));
    assert_eq!(finished.code, Some(2), "{}", finished.dump());
    let wrong = train(&place, 2, "--set parallel.expertise=2");
    failed(&wrong, 2, &["parallel.expertise"]);
}

/// Ranks read their own slices of a folder, whatever layout it was written by, and of a
/// checkpoint their moments too; nothing of that is another's to send.
#[test]
fn a_run_begins_with_weights_that_each_process_reads() {
    let place = Workplace::new();
    place.train("--device flex --run-dir first").ok();
    let layout = "--set parallel.pipeline=2 --set parallel.expert=2 \
                  --set parallel.schedule=1f1b --set schedule.global_batch=8 \
                  --set train.init_from=first";
    place.train(&format!("--device flex {layout} --run-dir threads")).ok();
    train(&place, 4, &format!("{layout} --run-dir processes")).ok();
    assert_eq!(place.metrics("threads"), place.metrics("processes"));
    same_checkpoints(&place, "threads", "processes", 6);
    // A text in files, whose tokens rank 0 has prepared; the middle ranks need none.
    place.write("text.txt", "All ranks but two read nothing of this text. ".repeat(2000));
    let layout = "--set parallel.pipeline=4 --set parallel.schedule=1f1b \
                  --set model.num_hidden_layers=4 --set schedule.global_batch=8 \
                  --set data.source=text.txt";
    place.train(&format!("--device flex {layout} --run-dir threads-text")).ok();
    train(&place, 4, &format!("{layout} --run-dir processes-text")).ok();
    assert_eq!(place.metrics("threads-text"), place.metrics("processes-text"));
}

/// What the routers of all processes choose is saved as threads save it, to the byte, and given
/// to them again.
#[test]
fn routings_are_saved_and_replayed_by_processes() {
    let place = Workplace::new();
    let layout = "--set parallel.pipeline=2 --set parallel.expert=2 \
                  --set parallel.schedule=1f1b --set schedule.global_batch=8";
    let place_of = |run: &str, more: &str| format!("{layout} --run-dir {run} {more}");
    let threads = place_of("threads", "--save-routing threads.routing");
    place.train(&format!("--device flex {threads}")).ok();
    train(&place, 4, &place_of("processes", "--save-routing processes.routing")).ok();
    let file = |name: &str| fs::read(place.path(name)).unwrap();
    assert!(file("threads.routing") == file("processes.routing"), "other choices");
    // Other weights would choose otherwise, were they not told.
    let other = "--set train.seed=9 --set schedule.bias_update_speed=0";
    let given = format!("{other} --routing threads.routing");
    place.train(&format!("--device flex {}", place_of("threads-given", &given))).ok();
    train(&place, 4, &place_of("processes-given", &given)).ok();
    assert_eq!(place.metrics("threads-given"), place.metrics("processes-given"));
    let loads = |run: &str| -> Vec<Value> {
        steps(&place, run).iter().map(|line| line["expert_loads"].clone()).collect()
    };
    assert_eq!(loads("processes-given"), loads("threads"));
}
