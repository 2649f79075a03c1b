//! Plans against figures worked out by hand, against DeepSeek's own profile, and against what must
//! hold of any plan.

use burn_deepseek::DeepSeekConfig;
use toml::Table;

use super::memory::of_ranks;
use super::stages::Stages;
use super::*;
use crate::config::{resolve_cluster, resolve_model};
use crate::parallel::PipelineScheduleKind;

fn cluster(name: &str, set: &[&str]) -> ClusterConfig {
    resolve_cluster(name, &set.iter().map(ToString::to_string).collect::<Vec<_>>(), &Table::new())
        .unwrap()
}

fn model(preset: &str) -> DeepSeekConfig {
    resolve_model(Some(preset), None, &[]).unwrap()
}

fn plan(preset: &str, name: &str, set: &[&str]) -> ClusterPlan {
    let cluster = cluster(name, set);
    let workload = Workload::new(cluster.plan.as_ref().unwrap());
    ClusterPlan::new(&model(preset), &workload, &cluster, name).unwrap()
}

fn v3(set: &[&str]) -> ClusterPlan {
    plan("deepseek-v3-671b", "h800-2048", set)
}

fn near(value: f64, expected: f64, within: f64) {
    assert!((value / expected - 1.0).abs() <= within, "{value} is not {expected} within {within}");
}

fn worst(ranks: &[RankMemory], part: fn(&RankMemory) -> f64) -> f64 {
    ranks.iter().map(part).fold(0.0, f64::max)
}

fn state(rank: &RankMemory) -> f64 {
    rank.weights_bytes
        + rank.fp8_weights_bytes
        + rank.gradients_bytes
        + rank.master_bytes
        + rank.moments_bytes
}

/// Every parameter is on as many ranks as the schedule has copies, and in one shard.
#[test]
fn no_parameter_is_lost_or_counted_twice() {
    for (kind, pipeline, copies) in [
        (PipelineScheduleKind::DualPipe, 16, 2),
        (PipelineScheduleKind::DualPipeV, 16, 1),
        (PipelineScheduleKind::OneFOneB, 16, 1),
        (PipelineScheduleKind::Zb1p, 1, 1),
    ] {
        let cluster = cluster("h800-2048", &[]);
        let mut workload = Workload::new(cluster.plan.as_ref().unwrap());
        (workload.schedule, workload.axes.pipeline) = (kind, pipeline);
        let model = model("deepseek-v3-671b");
        let stages = Stages::new(&model, &workload);
        let ranks = RankParameters::of_ranks(&model, &workload, &stages);
        let held: u64 = ranks.iter().map(|rank| rank.replicated + rank.experts * 64).sum();
        // Where the last stage is on another rank than the first, the MTP module has an embedding
        // of its own there.
        let apart = if kind == PipelineScheduleKind::OneFOneB {
            model.parameter_counts().embedding
        } else {
            0
        };
        assert_eq!(held, copies * model.parameter_counts().total_with_mtp() + apart, "{kind}");
        let memory = of_ranks(&model, &workload, &stages, Keeper::Report);
        let masters: f64 =
            memory.iter().map(|rank| rank.master_bytes * (64 * workload.axes.data) as f64).sum();
        near(masters / 4.0, (held / copies) as f64, 1e-12);
    }
}

/// DeepSeek-V3's rank 5 by hand: the stages 5 and 10, four MoE layers each.
#[test]
fn a_rank_of_deepseek_v3_by_hand() {
    let plan = v3(&[]);
    let rank = &plan.report[5];
    // MLA 187,105,280; router 7168 x 256 + 256; norms 2 x 7168 + 1536 + 512; an expert 3 x 7168 x
    // 2048, of which 4 are routed and 1 shared.
    let (attention, router, norms, expert) = (187_105_280_u64, 1_835_264, 16_384, 44_040_192);
    assert_eq!(rank.parameters.replicated, 8 * (attention + router + norms + expert));
    assert_eq!(rank.parameters.experts, 8 * 4 * expert);
    assert_eq!(rank.parameters.quantized, 8 * (attention + expert + 4 * expert));
    let all = (rank.parameters.replicated + rank.parameters.experts) as f64;
    assert_eq!((rank.weights_bytes, rank.gradients_bytes), (2.0 * all, 4.0 * all));
    // Both ranks of a pair hold the same: 2 x 64 x 2 ranks share what is replicated, 2 x 2 an
    // expert.
    let shard = rank.parameters.replicated as f64 / 256.0 + rank.parameters.experts as f64 / 4.0;
    assert_eq!((rank.master_bytes, rank.moments_bytes), (4.0 * shard, 4.0 * shard));

    // A token in a MoE layer, recomputing: residual stream 2 x 7168 twice, FP8 copies of both norms
    // 7392 each, latents 2 x (576 + 1536), E5M6 of the attention's output 16384 x 1.53125,
    // denominators 4 x 128, scores 4 x 256, experts' inputs 8 x 7392, and gate and up of nine
    // experts.
    let kept = 2.0 * 14_336.0
        + 2.0 * 7392.0
        + 4224.0
        + 25_088.0
        + 512.0
        + 1024.0
        + 59_136.0
        + 9.0 * 4096.0 * 1.03125;
    let precision = &plan.workload.precision;
    let v3 = model("deepseek-v3-671b");
    assert_eq!(kept_per_token(&v3, precision, 30, true), kept);
    // Not recomputing: norms' BF16 for the router, FP8 of both latents, q of 24576, k and v of
    // 32768, the rotated key, and nine SwiGLUs.
    let more =
        14_336.0 + 2048.0 * 1.03125 + 2.0 * (24_576.0 + 32_768.0 + 64.0) + 9.0 * 2048.0 * 1.03125;
    assert_eq!(kept_per_token(&v3, precision, 30, false), kept + more);
    // PP + 1 micro-batches of 4,096 tokens, each at a stage of four layers.
    assert_eq!((rank.chunks, rank.activations_bytes), (17, 17.0 * 4.0 * 4096.0 * kept));
    assert!(
        worst(&plan.report, |rank| rank.total_bytes) < 79.1 * 1024f64.powi(3),
        "the report's own plan fits its GPUs"
    );
}

/// A micro-batch of 4,096 tokens: rows of 7168 codes and 56 scales of four bytes to experts, BF16
/// back.
#[test]
fn rows_of_deepseek_v3_by_hand() {
    let traffic = v3(&[]).traffic;
    assert_eq!(traffic.row_bytes, (7168 + 4 * 56, 2 * 7168));
    let find = |limited, two_hops| {
        traffic
            .routes
            .iter()
            .find(|route| (route.limited, route.two_hops) == (limited, two_hops))
            .unwrap()
    };
    let any = find(false, true);
    // 5.294652 nodes of which 7/8 are others, 7.675750 ranks of which 7/8 have another place in
    // their node.
    near(any.dispatch.slow, 5.294_652 * 7.0 / 8.0 * 4096.0 * 7392.0, 1e-6);
    near(any.dispatch.fast, 7.675_750 * 7.0 / 8.0 * 4096.0 * 7392.0, 1e-6);
    near(any.combine.slow, 5.294_652 * 7.0 / 8.0 * 4096.0 * 14_336.0, 1e-6);
    let direct = find(false, false);
    near(direct.dispatch.slow, 7.675_750 * 7.0 / 8.0 * 4096.0 * 7392.0, 1e-6);
    near(direct.dispatch.fast, 7.675_750 / 8.0 * 7.0 / 8.0 * 4096.0 * 7392.0, 1e-6);
    let limited = find(true, true);
    assert!(
        limited.dispatch.slow <= 4.0 * 7.0 / 8.0 * 4096.0 * 7392.0
            && limited.dispatch.slow < any.dispatch.slow
    );
    assert_eq!(traffic.message_bytes, 2.0 * 4096.0 * 7168.0);
    assert!(traffic.message_is_slow && traffic.copies_are_slow);
    // Eight MoE layers on a rank, four of which a micro-batch passes; 120 of them, there and back.
    near(
        traffic.step.slow,
        120.0 * 4.0 * 2.0 * (limited.dispatch.slow + limited.combine.slow),
        1e-12,
    );
}

/// DeepSeek's profile of four MoE layers, forward and backward overlapped: 129.0 ms in all, the
/// kernels' sums as in the cluster's file.
#[test]
fn the_profile_comes_out_of_its_rates() {
    let step = v3(&[]).step;
    let chunk = &step.ranks[5];
    let computing = chunk.computing();
    near(computing.linear + computing.experts, 74.5e-3, 0.005);
    near(chunk.forward.attention, 4.0 * 1.237e-3, 0.005);
    near(chunk.backward_input.attention, 4.0 * 4.251e-3, 0.005);
    near(computing.memory, 33.0e-3, 0.005);
    near(chunk.costs(0.0).overlapped, 129.0e-3, 0.03);
    near(chunk.all_to_all_forward, 4.0 * (6.18e-3 + 3.41e-3), 0.15);
}

#[test]
fn deepseek_v3_s_training_is_near_the_report_s() {
    let account = v3(&[]).account;
    near(account.gpu_hours_per_trillion, 180e3, 0.1);
    near(account.gpu_hours.unwrap(), 2.664e6, 0.1);
    near(account.tflops_per_gpu, 340.0, 0.1);
    near(account.reference_per_trillion.unwrap(), 180e3, 1e-12);
}

/// One dense layer on one GPU with nothing but products: operations over the peak.
#[test]
fn time_is_operations_over_the_peak_where_nothing_else_costs() {
    let set = [
        "model.num_hidden_layers=1",
        "model.n_routed_experts=0",
        "model.num_experts_per_tok=0",
        "model.n_shared_experts=0",
        "model.num_nextn_predict_layers=0",
    ];
    let model = resolve_model(Some("tiny"), None, &set.map(str::to_string)).unwrap();
    let ideal = [
        "gpu.memory_gb_per_s=1e15",
        "gpu.layer_us=0",
        "gpu.f32_tflops=1",
        "rates.linear_f32=0.5",
        "rates.attention_forward=1",
        "rates.attention_backward=1",
    ];
    let cluster = cluster(
        "cpu-2",
        &[&ideal[..], &["node.gpus=1", "plan.pipeline=1", "plan.seq_len=9", "plan.global_batch=3"]]
            .concat(),
    );
    let plan =
        ClusterPlan::new(&model, &Workload::new(cluster.plan.as_ref().unwrap()), &cluster, "ideal")
            .unwrap();
    // tiny: q 128 x 64 and 64 x 4 x 40, kv_a 128 x 64, kv_b 48 x 4 x 48, o 96 x 128, feed-forward 3
    // x 128 x 352, head 128 x 260.
    let weights = 128 * 64 + 64 * 160 + 128 * 64 + 48 * 192 + 96 * 128 + 3 * 128 * 352 + 128 * 260;
    // Five of nine keys on average.
    let attention = 2 * 4 * (40 + 24) * 5 + 2 * 4 * (3 * 40 + 2 * 24) * 5;
    let tokens = 3.0 * 9.0;
    near(
        plan.step.total_s,
        tokens * (6.0 * f64::from(weights) / 0.5e12 + f64::from(attention) / 1e12),
        1e-6,
    );
    assert_eq!(plan.step.bubble_s, 0.0);
}

/// Ranks that are alike, and messages that take no time: the bubble is the formula's.
#[test]
fn the_bubble_of_1f1b_is_its_formula_s() {
    let plan = v3(&["plan.schedule=1f1b", "link.slow.gb_per_s=1e12", "link.fast.gb_per_s=1e12"]);
    near(plan.step.bubble_s, plan.step.bubble_formula_s, 1e-9);
    let costs = plan.step.costs;
    near(plan.step.makespan_s, (120.0 + 15.0) * (costs.forward + costs.backward()), 1e-9);
}

#[test]
fn dualpipe_hides_what_others_wait_for() {
    let plan = v3(&[]);
    let row = |kind| plan.schedules.iter().find(|row| row.kind == kind).unwrap();
    let (ours, plain) = (row(PipelineScheduleKind::DualPipe), row(PipelineScheduleKind::OneFOneB));
    assert!(
        ours.step_s < plain.step_s
            && ours.exposed_s < 0.5 * plain.exposed_s
            && ours.bubble_s < plain.bubble_s
    );
    assert_eq!((plan.schedules.len(), ours.step_s), (4, plan.step.total_s));
}

#[test]
fn the_account_adds_up_and_its_explanations_hold() {
    let plan = v3(&["rates.goodput=0.9"]);
    let sum: f64 = plan.account.hours.iter().map(|part| part.gpu_hours.unwrap()).sum();
    near(sum, plan.account.gpu_hours.unwrap(), 1e-9);
    assert!(plan.account.hours.iter().all(|part| part.step_s >= -1e-9), "{:?}", plan.account.hours);
    let explained: Vec<&Assumption> = plan
        .account
        .assumptions
        .iter()
        .filter(|assumption| assumption.explains.is_some())
        .collect();
    assert!(explained.len() >= 3, "{:?}", plan.account.assumptions);
    for assumption in explained.iter().take(3) {
        let set = format!("{}={}", assumption.key, assumption.explains.unwrap());
        near(v3(&["rates.goodput=0.9", &set]).account.gpu_hours.unwrap(), 2.664e6, 1e-6);
    }
    let keys: Vec<&str> =
        plan.account.assumptions.iter().map(|assumption| assumption.key).collect();
    assert!(keys.contains(&"rates.link_slow") && keys.contains(&"rates.linear_f32"), "{keys:?}");
    let alone = plan_of_one().account;
    assert!(
        alone
            .assumptions
            .iter()
            .all(|assumption| assumption.key != "rates.link_slow" && assumption.explains.is_none())
    );
}

fn plan_of_one() -> ClusterPlan {
    plan("tiny", "cpu-2", &["node.gpus=1", "plan.pipeline=1"])
}

#[test]
fn better_hardware_is_never_slower() {
    let base = v3(&[]).step.total_s;
    for set in [
        "gpu.fp8_tflops=4000",
        "gpu.bf16_tflops=2000",
        "gpu.f32_tflops=1000",
        "gpu.memory_gb_per_s=8000",
        "link.slow.gb_per_s=400",
        "rates.linear_fp8=0.6",
        "rates.attention_forward=0.8",
        "rates.attention_backward=0.8",
    ] {
        assert!(v3(&[set]).step.total_s < base, "{set}");
    }
    assert!(
        v3(&["rates.expert_load=1.2"]).step.total_s > base
            && v3(&["gpu.layer_us=10"]).step.total_s > base
    );
}

/// Longer pipelines, experts over more ranks and more copies each leave a rank less to keep.
#[test]
fn memory_falls_with_every_axis() {
    let of = |model: &DeepSeekConfig, axes: [usize; 3]| {
        let cluster = cluster("h800-2048", &["plan.schedule=1f1b"]);
        let mut workload = Workload::new(cluster.plan.as_ref().unwrap());
        [workload.axes.pipeline, workload.axes.expert, workload.axes.data] = axes;
        of_ranks(model, &workload, &Stages::new(model, &workload), Keeper::Report)
    };
    for (preset, axes) in [
        ("deepseek-v3-671b", [2, 4, 2]),
        ("deepseek-v2-236b", [2, 2, 4]),
        ("deepseek-v2-lite-16b", [1, 2, 8]),
    ] {
        let model = model(preset);
        let falls = |axis: usize, part: fn(&RankMemory) -> f64| {
            let longer = |factor: usize| {
                let mut axes = axes;
                axes[axis] *= factor;
                worst(&of(&model, axes), part)
            };
            let parts = [1, 2, 4, 8].map(longer);
            assert!(
                parts.windows(2).all(|pair| pair[1] < pair[0]),
                "{preset}, axis {axis}: {parts:?}"
            );
        };
        falls(0, state);
        falls(1, |rank| rank.total_bytes);
        falls(2, |rank| rank.total_bytes);
    }
}

#[test]
fn recomputing_and_fewer_tokens_keep_less() {
    for (preset, name) in [
        ("deepseek-v3-671b", "h800-2048"),
        ("deepseek-v2-lite-16b", "gpu-8"),
        ("quickstart", "cpu-2"),
    ] {
        let base = plan(preset, name, &[]);
        for ranks in [&base.report, &base.program] {
            assert!(
                ranks.iter().all(|rank| rank.with_recompute_bytes < rank.without_recompute_bytes),
                "{preset}"
            );
        }
        let half = plan(preset, name, &[&format!("plan.seq_len={}", base.workload.seq_len / 2)]);
        near(half.report[0].activations_bytes, 0.5 * base.report[0].activations_bytes, 1e-9);
        assert!(half.program[0].activations_bytes < base.program[0].activations_bytes);
    }
}

#[test]
fn every_broken_rule_names_its_key() {
    let wrong = |preset: &str, name: &str, set: &[&str]| {
        let cluster = cluster(name, set);
        let error = ClusterPlan::new(
            &model(preset),
            &Workload::new(cluster.plan.as_ref().unwrap()),
            &cluster,
            "plan",
        )
        .unwrap_err();
        error.to_string()
    };
    for (set, parts) in [
        (&["plan.pipeline=0"][..], &["plan.pipeline = 0 must be from 1"][..]),
        (
            &["plan.data=3"],
            &["plan.pipeline * plan.expert * plan.data = 3072", "node.gpus * node.count = 2048"],
        ),
        (&["plan.expert=48"], &["plan.expert = 48 does not divide model.n_routed_experts = 256"]),
        (
            &["plan.expert=4", "plan.data=32", "node.gpus=6"],
            &["plan.expert = 4 neither fills nodes of node.gpus = 6"],
        ),
        (
            &["plan.pipeline=128", "plan.data=1", "plan.expert=16"],
            &["plan.pipeline = 128", "cannot be cut into 128 stages"],
        ),
        (
            &["plan.global_batch=128"],
            &["plan.schedule: dualpipe needs an even number of micro-batches, not 1"],
        ),
        (&["plan.global_batch=256"], &["at least 32 micro-batches, not 2"]),
        (
            &["plan.global_batch=16777216"],
            &["plan.global_batch = 16777216", "more than are worked out"],
        ),
        (
            &["plan.seq_len=200000"],
            &["plan.seq_len = 200000 is more than model.max_position_embeddings = 163840"],
        ),
    ] {
        let message = wrong("deepseek-v3-671b", "h800-2048", set);
        assert!(parts.iter().all(|part| message.contains(part)), "{set:?}: {message}");
    }
    let message = wrong("tiny", "cpu-2", &["plan.precision=fp8"]);
    assert!(
        message.contains("gpu.fp8_tflops is missing")
            && message.contains("gpu.bf16_tflops is missing"),
        "{message}"
    );
}
