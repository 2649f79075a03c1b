//! Ranks as processes that mpirun starts: the results of ranks on threads, to the bit, and runs
//! that end in time when a process does.

#[cfg(not(all(target_os = "linux", feature = "mpi")))]
#[test]
fn ranks_as_processes() {
    println!("skipped: this build has no MPI (Debian: libopenmpi-dev, openmpi-bin, libclang-dev)");
}

#[cfg(all(target_os = "linux", feature = "mpi"))]
mod over_mpi {
    use std::fs;
    use std::path::PathBuf;
    use std::process::{Child, Command, Output, Stdio};
    use std::time::{Duration, Instant};

    use deepseek_train::checkpoint::{Checkpoint, Purpose};
    use serde_json::Value;

    use crate::bounded::{Bounded, ends_within};
    use crate::workplace::{DEEPSEEK, Finished, Workplace, number};

    /// `mpirun -n COUNT deepseek ...`, on this machine alone.
    fn mpirun(place: &Workplace, count: usize, arguments: &str) -> Command {
        let own = place.command("");
        let mut command = Command::new("mpirun");
        command
            .args(["--allow-run-as-root", "--oversubscribe", "--bind-to", "none"])
            .args(["--mca", "btl", "self,vader", "-n", &count.to_string(), DEEPSEEK])
            .args(arguments.split_whitespace())
            .envs(own.get_envs().filter_map(|(name, value)| Some((name, value?))))
            .current_dir(own.get_current_dir().unwrap())
            .stdin(Stdio::null());
        command
    }

    fn run(place: &Workplace, count: usize, arguments: &str) -> Finished {
        let output = mpirun(place, count, arguments).ended();
        Finished::of(&format!("mpirun -n {count} {arguments}"), output)
    }

    fn train(place: &Workplace, count: usize, more: &str) -> Finished {
        run(place, count, &format!("train --config ./tiny.toml --device flex {more}"))
    }

    /// Ended with the code, and one line of standard error is an error that has all the parts;
    /// mpirun says more.
    fn failed(finished: &Finished, code: i32, parts: &[&str]) {
        assert_eq!(finished.code, Some(code), "{}", finished.dump());
        let errors: Vec<&str> =
            finished.stderr.lines().filter(|line| line.starts_with("error: ")).collect();
        let [error] = errors[..] else { panic!("one error: {}", finished.dump()) };
        for part in parts {
            assert!(error.contains(part), "{part:?} is not in {error:?}: {}", finished.dump());
        }
        assert!(!finished.stderr.contains("panicked"), "{}", finished.dump());
    }

    fn checkpoint(place: &Workplace, run: &str, step: u64, file: &str) -> Vec<u8> {
        let folder = place.path(run).join(format!("checkpoints/step-{step:08}"));
        fs::read(folder.join(file)).unwrap()
    }

    fn same_checkpoints(place: &Workplace, one: &str, other: &str, step: u64) {
        for file in ["model.safetensors", "optimizer.safetensors"] {
            let same = checkpoint(place, one, step, file) == checkpoint(place, other, step, file);
            assert!(same, "{one} and {other}: {file} differs");
        }
        let average = |run: &str| {
            let folder = place.path(run).join(format!("checkpoints/step-{step:08}/ema"));
            folder.is_dir().then(|| {
                ["model.safetensors", "config.json"]
                    .map(|file| fs::read(folder.join(file)).unwrap())
            })
        };
        assert!(average(one) == average(other), "{one} and {other}: other averages");
    }

    /// The lines of a run's steps.
    fn steps(place: &Workplace, run: &str) -> Vec<Value> {
        place.metrics(run).into_iter().filter(|line| line["kind"] == "step").collect()
    }

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
            (
                "experts",
                2,
                "--set parallel.expert=2 --set precision.format=bf16 --set ema.decay=0.9",
            ),
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
            let trained =
                train(&place, 2, &format!("{settings} --run-dir {processes} --json")).ok();
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
        let resume =
            "train --resume both-processes --device flex --set parallel.ranks_per_process=1";
        run(&place, 4, resume).ok();
        same_checkpoints(&place, "both-processes", "both-threads", 6);

        let wrong =
            "--set parallel.data=2 --set parallel.expert=2 --set parallel.ranks_per_process=3";
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
        failed(
            &train(&place, 2, &format!("{two} {summed}")),
            2,
            &["parallel.reduction", "one rank"],
        );
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

    /// A run under mpirun, which is killed with all of its processes when it is dropped.
    struct Running {
        mpirun: Child,
        output: PathBuf,
        what: String,
    }

    impl Running {
        fn begin(place: &Workplace, count: usize, arguments: &str) -> Self {
            let output = place.path("output");
            let file = fs::File::create(&output).unwrap();
            let mpirun = mpirun(place, count, arguments)
                .env("DEEPSEEK_TEST", &output)
                .stdout(file)
                .stderr(Stdio::piped())
                .spawn()
                .unwrap();
            Self { mpirun, output, what: arguments.into() }
        }

        fn wait_for(&mut self, beginning: &str) {
            let deadline = Instant::now() + Duration::from_secs(60);
            loop {
                let text = fs::read_to_string(&self.output).unwrap();
                if text.lines().any(|line| line.starts_with(beginning)) {
                    return;
                }
                let ended = self.mpirun.try_wait().unwrap();
                assert!(
                    Instant::now() < deadline && ended.is_none(),
                    "{beginning:?} never came: {}: {text}",
                    self.what
                );
                std::thread::sleep(Duration::from_millis(5));
            }
        }

        /// The process that is a rank.
        fn rank(&self, rank: usize) -> u32 {
            let is_rank = |id: u32| {
                let environment = fs::read(format!("/proc/{id}/environ")).unwrap_or_default();
                let has = |variable: &str| {
                    environment.split(|&byte| byte == 0).any(|one| one == variable.as_bytes())
                };
                has(&format!("DEEPSEEK_IS_RANK={rank}"))
                    && has(&format!("DEEPSEEK_TEST={}", self.output.display()))
            };
            let ids = fs::read_dir("/proc")
                .unwrap()
                .filter_map(|entry| entry.unwrap().file_name().to_str()?.parse::<u32>().ok());
            ids.into_iter().find(|&id| is_rank(id)).expect("the rank runs")
        }

        fn signal(&self, rank: usize, signal: &str) {
            let kill = format!("kill -s {signal} {}", self.rank(rank));
            assert!(Command::new("sh").args(["-c", &kill]).status().unwrap().success());
        }

        /// What came of it, if it ended in time, and how long that took.
        fn end(mut self, most: Duration) -> (Finished, Duration) {
            let began = Instant::now();
            if !ends_within(&mut self.mpirun, most) {
                let _ = self.mpirun.kill();
                panic!("{} hangs: {}", self.what, fs::read_to_string(&self.output).unwrap());
            }
            let took = began.elapsed();
            let output = self.mpirun.wait_with_output().unwrap();
            let stdout = fs::read(&self.output).unwrap();
            (Finished::of(&self.what, Output { stdout, ..output }), took)
        }
    }

    /// A model of which weights, gradients and moments are most of a process's memory.
    /// None of them is much by itself: while a gradient is made it is there more than once.
    const LARGE: &str = "--set model.hidden_size=384 --set model.moe_intermediate_size=512 \
                         --set model.intermediate_size=1920 --set model.n_routed_experts=4 \
                         --set model.num_hidden_layers=20 --set model.num_nextn_predict_layers=0 \
                         --set optimizer.moments=f32 --set output.sample_tokens=0 --steps 2 \
                         --set train.eval_batches=1 --set train.keep_checkpoints=1";

    /// Rank, most bytes, planned bytes, bytes of the whole model's weights, of each process.
    fn memory(finished: &Finished) -> Vec<[f64; 4]> {
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
                _ => (
                    4,
                    "--set parallel.data=2 --set parallel.expert=2 --set schedule.global_batch=8",
                ),
            };
            let once = "--set parallel.reduction=collective --steps 1 --set train.eval_every=0";
            train(&place, count, &format!("{layout} {once} --run-dir run-{turn}")).ok();
        }
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

    /// The others speak in files of the run, a line with the time and the rank for each thing.
    #[test]
    fn ranks_log_in_the_run() {
        let place = Workplace::new();
        let trained = train(&place, 2, "--set parallel.expert=2 --run-dir run").ok();
        assert!(!trained.stdout.contains("rank 1 "), "{}", trained.dump());
        let log = fs::read_to_string(place.path("run/ranks/rank-1.log")).unwrap();
        assert!(!place.path("run/ranks/rank-0.log").exists());
        let lines: Vec<&str> = log.lines().collect();
        for line in &lines {
            let (time, said) = line.split_once(' ').unwrap();
            assert!(time.ends_with('Z') && said.starts_with("rank 1 "), "{line}");
        }
        assert!(log.contains("CUDA-aware"), "{log}");
        let said = |what: &str| lines.iter().filter(|line| line.contains(what)).count();
        assert_eq!(said(" begins: of 2 ranks, process "), 1, "{log}");
        assert_eq!((said(" a step: "), said(" an update: ")), (6, 6), "{log}");
        assert_eq!(said(" of a checkpoint, in "), 3, "{log}");
        assert_eq!(said(" bytes of memory"), 1, "{log}");
        assert!(lines.last().unwrap().ends_with("rank 1 ends"), "{log}");
    }

    /// A rank is killed with some of its tensors written: there is no such checkpoint, the one
    /// before is whole, and the run goes on from there as if nothing had been.
    #[test]
    fn a_checkpoint_that_a_rank_has_not_finished_is_none() {
        let place = Workplace::new();
        let layout = "--set parallel.pipeline=2 --set parallel.schedule=1f1b \
                      --set train.checkpoint_every=3 --set parallel.timeout_s=4";
        let arguments = format!("train --config ./tiny.toml --device flex {layout} --run-dir run");
        // Of the second checkpoint: before its weights, and between them and its moments.
        for kill_at in [3, 4] {
            let _ = fs::remove_dir_all(place.path("run"));
            let mut command = mpirun(&place, 1, &arguments);
            command.args([":", "-n", "1", "env", &format!("DEEPSEEK_TEST_KILL_AT={kill_at}")]);
            command.arg(DEEPSEEK).args(arguments.split_whitespace());
            let output = command.ended();
            let finished = Finished::of("a rank that is killed while it saves", output);
            assert_eq!(finished.code, Some(3), "{}", finished.dump());
            assert!(finished.stderr.contains("error: rank 1 was killed"), "{}", finished.dump());
            let checkpoints = place.path("run/checkpoints");
            let names: Vec<String> = fs::read_dir(&checkpoints)
                .unwrap()
                .map(|entry| entry.unwrap().file_name().into_string().unwrap())
                .filter(|name| !name.starts_with('.'))
                .collect();
            assert_eq!(names, ["step-00000003"], "{}", finished.dump());
            run(&place, 2, "train --resume run --device flex").ok();
        }
        place.train(&format!("--device flex {layout} --run-dir straight")).ok();
        assert_eq!(steps(&place, "run"), steps(&place, "straight"));
        same_checkpoints(&place, "run", "straight", 6);
    }

    /// As Slurm does before the time is over: every process is told to stop, and rank 0 decides
    /// what comes of it.
    #[test]
    fn a_signal_to_all_ranks_stops_the_run_after_its_step() {
        let place = Workplace::new();
        let arguments = "train --config ./tiny.toml --set parallel.expert=2 --steps 100000 \
                         --run-dir run --plain --device flex";
        let mut running = Running::begin(&place, 2, arguments);
        running.wait_for("step      2/");
        for rank in [1, 0] {
            running.signal(rank, "TERM");
        }
        let (finished, _) = running.end(Duration::from_secs(30));
        assert_eq!(finished.code, Some(130), "{}", finished.dump());
        assert!(finished.stdout.contains("interrupted after step"), "{}", finished.dump());
        let last = steps(&place, "run").last().unwrap()["step"].as_u64().unwrap();
        assert!(!checkpoint(&place, "run", last, "state.json").is_empty());
    }

    /// Each rank measures itself; rank 0 has all of it.
    #[test]
    fn a_trace_has_the_ranks_of_all_processes() {
        let place = Workplace::new();
        let traced = train(
            &place,
            2,
            "--set parallel.pipeline=2 --set schedule.global_batch=8 --steps 2 --trace trace.json \
             --json",
        )
        .ok();
        let timeline = &traced.json()["timeline"];
        let busy: Vec<f64> = serde_json::from_value(timeline["busy"].clone()).unwrap();
        assert!(busy.len() == 2 && busy.iter().all(|&time| time > 0.0), "{timeline}");
        assert!(place.path("trace.json").is_file());
    }

    /// The same measurements between processes, with the library's own calls beside the messages.
    #[test]
    fn bench_links_measures_processes() {
        let place = Workplace::new();
        let links = "bench links --config ./tiny.toml --device flex --reps 2 --warmup 0 --json \
                     --out machine.toml";
        let finished = run(&place, 2, links).ok();
        crate::bench::measures_links(&place, &finished, 2, 1);
        let finished = run(&place, 4, &format!("{links} --ranks-per-node 2")).ok();
        crate::bench::measures_links(&place, &finished, 4, 2);
        let results = finished.json();
        let all_to_alls = results["all_to_alls"].as_array().unwrap();
        assert_eq!(all_to_alls.len(), 4, "{results}");
        for key in
            ["messages_us", "collective_us", "two_lanes_messages_us", "two_lanes_collective_us"]
        {
            assert!(all_to_alls.iter().all(|row| number(row, key) > 0.0), "{key}: {results}");
        }
        for reduction in results["reductions"].as_array().unwrap() {
            assert!(number(reduction, "collective_us") > 0.0, "{reduction}");
        }
        failed(&run(&place, 3, links), 2, &["3 ranks", "4 experts"]);
        let wrong = run(&place, 2, &format!("{links} --set parallel.expertise=2"));
        failed(&wrong, 2, &["parallel.expertise"]);
    }

    /// One thread makes all calls of MPI, beside the one that computes: rows travel meanwhile.
    #[test]
    fn the_exchange_is_hidden_between_processes_too() {
        let place = Workplace::new();
        let more = "--steps 12 --run-dir run --trace run.json --set parallel.pipeline=2 \
                    --set parallel.expert=2 --set model.num_hidden_layers=4 \
                    --set schedule.global_batch=16 --json";
        let finished = train(&place, 4, more).ok();
        crate::exchange::hides(&place, "run", &finished, true);
    }

    /// However a process stops, the others do not wait for it beyond the limit; its rank is named,
    /// and the run goes on from what was saved as if nothing had been.
    #[test]
    fn a_rank_that_is_killed_or_stalls_ends_the_run_in_time() {
        stop(8);
    }

    #[test]
    #[ignore = "40 stops take about three minutes; ./attack runs it"]
    fn ranks_that_are_killed_or_stall_end_the_run_in_time_40_times() {
        stop(40);
    }

    /// Kills and stalls ranks in turn, in whatever they are doing.
    fn stop(stops: usize) {
        let place = Workplace::new();
        let settings = "--set parallel.pipeline=2 --set parallel.schedule=1f1b \
                        --set parallel.timeout_s=4 --set train.checkpoint_every=3 \
                        --set schedule.lr=1e-2";
        let mut random = 20_241_227u64;
        let mut longest = Duration::ZERO;
        for attempt in 0..stops {
            let arguments = match attempt {
                0 => format!(
                    "train --config ./tiny.toml {settings} --steps 100000 --run-dir run --plain \
                     --device flex"
                ),
                _ => "train --resume run --plain --device flex".into(),
            };
            let mut running = Running::begin(&place, 2, &arguments);
            running.wait_for(if attempt == 0 { "step      4/" } else { "step " });
            random = random
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            std::thread::sleep(Duration::from_millis((random >> 33) % 300));
            let (rank, signal) = ((random >> 60) as usize % 2, ["KILL", "STOP"][attempt % 2]);
            running.signal(rank, signal);
            let (finished, took) = running.end(Duration::from_secs(30));
            longest = longest.max(took);
            assert_eq!(finished.code, Some(3), "{signal} {rank}: {}", finished.dump());
            let named = finished
                .stderr
                .lines()
                .any(|line| line.starts_with("error: ") && line.contains(&format!("rank {rank}")));
            assert!(named, "{signal} {rank}: {}", finished.dump());
            // Every checkpoint under its name is whole, to its last checksum.
            let folder = place.path("run/checkpoints");
            for name in place.names("run/checkpoints") {
                if !name.starts_with('.') {
                    let opened = Checkpoint::open(&folder.join(&name), Purpose::Training);
                    assert!(opened.is_ok(), "{signal} {rank}: {name}: {opened:?}");
                }
            }
        }
        println!("{stops} ranks stopped; the longest end took {longest:?}");
        assert!(longest < Duration::from_secs(20), "{longest:?}");
        let last = steps(&place, "run").last().unwrap()["step"].as_u64().unwrap() + 3;
        run(&place, 2, &format!("train --resume run --steps {last} --device flex")).ok();
        place.train(&format!("{settings} --steps {last} --device flex --run-dir straight")).ok();
        assert!(steps(&place, "run") == steps(&place, "straight"), "other losses");
    }
}
