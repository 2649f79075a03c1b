//! What is asked of routers: what they tell is the fixtures' routing, asking changes no bit, given
//! choices are taken, and a changed choice is the one that the definition has.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use burn::tensor::{Device, Int, Tensor, TensorData};
use burn_deepseek::config::TopkMethod;
use burn_deepseek::precision::Fp8Recipe;
use burn_deepseek::routing::{
    BiasDelta, GivenChoices, LayerRecord, RoutingChange, RoutingControl, RoutingDetail, RoutingLog,
};
use burn_deepseek::weights::{self, LoadOptions};
use burn_deepseek::{
    Compute, DeepSeek, DeepSeekConfig, LossWeights, Precision, in_training, training_device,
};
use deepseek_tests::fixture::{self, Values};
use deepseek_tests::{devices, table::Report};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Absolute on scores and gate values, as in the parity of the model.
const SCORES: f64 = 2e-5;
const WEIGHTS: LossWeights = LossWeights { mtp: 0.3, sequence_balance: 1e-4 };

fn load(case: &Path, device: &Device) -> DeepSeek {
    weights::load_model(case, device, &LoadOptions::default()).expect("a checkpoint")
}

fn detail(record: &LayerRecord) -> &RoutingDetail {
    record.detail.as_ref().expect("everything was asked for")
}

/// The rows of one sequence of a fixture's `[batch * seq, width]`.
fn of_sequence(values: &Values, sequence: usize, sequences: usize) -> &[f64] {
    let count = values.data.len() / sequences;
    &values.data[sequence * count..][..count]
}

/// Each sequence of a fixture inspected alone has the routing that another implementation has for
/// the batch: scores, choices and gate values of every layer, MTP modules too.
#[test]
fn an_inspected_text_has_the_fixtures_routing() {
    let (mut layers, mut depths) = (0, 0);
    for (device_name, device) in devices::all() {
        for case in fixture::cases("hf").expect("fixtures") {
            let expected = fixture::read(&case.join("expected.safetensors")).expect("a case");
            let model = load(&case, &device);
            let ids = &expected["input_ids"];
            let (batch, seq) = (ids.shape[0], ids.shape[1]);
            let mut report = Report::default();
            for (sequence, tokens) in ids.ints().chunks(seq).enumerate() {
                let inspection = model.inspect(tokens, &Compute::f32());
                let moe = model.config().moe_layer_indices();
                let told: Vec<usize> = inspection.layers.iter().map(|of| of.layer).collect();
                assert_eq!(told, moe, "{}", case.display());
                for record in &inspection.layers {
                    let depth = (record.layer + 1).saturating_sub(model.config().num_hidden_layers);
                    assert_eq!((record.batch, record.seq), (1, seq - depth));
                    let prefix = match depth {
                        0 => format!("router.{}", record.layer),
                        depth => format!("mtp.post_norm.{depth}.router.{}", record.layer),
                    };
                    let Some(chosen) = expected.get(&format!("{prefix}.topk_indices")) else {
                        continue;
                    };
                    (layers, depths) = (layers + 1, depths + usize::from(depth > 0));
                    let want = of_sequence(chosen, sequence, batch);
                    let want: Vec<u32> = want.iter().map(|&expert| expert as u32).collect();
                    report.exact("choices", &prefix, &record.chosen, &want);
                    for (what, got) in [
                        ("scores", &detail(record).scores),
                        ("topk_weights", &detail(record).gates),
                    ] {
                        if let Some(want) = expected.get(&format!("{prefix}.{what}")) {
                            let got: Vec<f64> = got.iter().map(|&x| f64::from(x)).collect();
                            let want = of_sequence(want, sequence, batch);
                            report.absolute(
                                "routing",
                                &format!("{prefix}.{what}"),
                                &got,
                                want,
                                SCORES,
                            );
                        }
                    }
                }
                check_losses(&model, tokens, &inspection.losses, &device, &mut report);
            }
            assert!(report.passed(), "{} on {device_name}\n{report}", case.display());
        }
    }
    assert!(layers > 20 && depths > 0, "fixtures with routers: {layers} layers, {depths} of MTP");
}

/// What the kernel on a device of CubeCL makes of a layer's scores and biases.
#[cfg(any(feature = "wgpu", feature = "cuda"))]
fn chosen_on(device: &Device, record: &LayerRecord, config: &DeepSeekConfig) -> Option<Vec<u32>> {
    use burn::backend::DispatchDevice;
    use cubecl_kernels::definition::{GroupScore, RouteShape};
    use cubecl_kernels::route::choose_experts;

    let DispatchDevice::Cube(device) = device.as_dispatch() else { return None };
    let client = device.client();
    let grouped = config.topk_method != TopkMethod::Greedy;
    let detail = detail(record);
    let shape = RouteShape {
        tokens: record.batch * record.seq,
        experts: config.n_routed_experts,
        top_k: config.num_experts_per_tok,
        groups: if grouped { config.n_group.max(1) } else { 1 },
        kept_groups: if grouped { config.topk_group.max(1) } else { 1 },
        group_score: match config.topk_method {
            TopkMethod::NoauxTc => GroupScore::BestTwo,
            _ => GroupScore::Best,
        },
    };
    let upload = |x: &[f32]| {
        client.create_from_slice(&x.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>())
    };
    let bias = upload(&detail.bias);
    let choices = choose_experts(&client, &upload(&detail.scores), Some(&bias), &shape);
    let bytes = client.read_one(choices.expect("a choice")).expect("a device that works");
    let words =
        bytes.chunks_exact(4).map(|word| u32::from_le_bytes([word[0], word[1], word[2], word[3]]));
    Some(words.take(shape.slots()).collect())
}

/// On a device the choice is the host's, bit for bit, of the same scores of every layer.
#[cfg(any(feature = "wgpu", feature = "cuda"))]
#[test]
fn a_device_chooses_what_the_host_chose() {
    let mut layers = 0;
    for case in fixture::cases("hf").expect("fixtures") {
        let expected = fixture::read(&case.join("expected.safetensors")).expect("a case");
        let model = load(&case, &Device::flex());
        let ids = &expected["input_ids"];
        for (device_name, device) in devices::all() {
            for tokens in ids.ints().chunks(ids.shape[1]) {
                for record in &model.inspect(tokens, &Compute::f32()).layers {
                    let Some(chosen) = chosen_on(&device, record, model.config()) else { continue };
                    assert_eq!(
                        chosen,
                        record.chosen,
                        "{} on {device_name}, layer {}",
                        case.display(),
                        record.layer
                    );
                    layers += 1;
                }
            }
        }
    }
    assert!(layers > 20, "fixtures with routers: {layers} layers");
}

/// The mean of the tokens' losses is the loss.
fn check_losses(
    model: &DeepSeek,
    tokens: &[u32],
    losses: &[f32],
    device: &Device,
    report: &mut Report,
) {
    let ids: Vec<i32> = tokens.iter().map(|&id| id as i32).collect();
    let seq = ids.len();
    let targets = ids[1..].iter().copied().chain([-100]).collect::<Vec<_>>();
    let tensor =
        |ids: Vec<i32>| Tensor::<2, Int>::from_data(TensorData::new(ids, [1, seq]), device);
    let weights = LossWeights { mtp: 0.0, sequence_balance: 0.0 };
    let loss = model.loss(tensor(ids), tensor(targets), &weights, &Compute::f32()).main;
    let mean = losses.iter().map(|&loss| f64::from(loss)).sum::<f64>() / losses.len() as f64;
    report.absolute("mean loss", "loss", &[mean], &[f64::from(loss.into_scalar::<f32>())], 1e-5);
}

/// The loss and all gradients of a training pass, as bits.
fn trained(model: &DeepSeek, values: &Values, compute: &Compute, device: &Device) -> Vec<Vec<u32>> {
    let (batch, seq) = (values.shape[0], values.shape[1]);
    let ids: Vec<i32> = values.ints().iter().map(|&id| id as i32).collect();
    let tokens = Tensor::<2, Int>::from_data(TensorData::new(ids, [batch, seq]), device);
    let (inputs, targets) =
        (tokens.clone().slice([0..batch, 0..seq - 1]), tokens.slice([0..batch, 1..seq]));
    let total = model.loss(inputs, targets, &WEIGHTS, compute).total;
    let bits = |data: TensorData| data.iter::<f32>().map(f32::to_bits).collect::<Vec<_>>();
    let loss = bits(total.clone().into_data());
    let gradients = weights::named_gradients(model, &total.backward());
    std::iter::once(loss).chain(gradients.into_values().map(bits)).collect()
}

/// Routers that are listened to, that are changed by nothing, or that are given their own choices
/// compute the same bits, forward and backward, in FP32 and FP8, with recomputation and without.
#[test]
fn asking_changes_no_bit() {
    let mut taken = 0;
    for case in fixture::cases("hf").expect("fixtures") {
        let expected = fixture::read(&case.join("expected.safetensors")).expect("a case");
        let ids = &expected["input_ids"];
        for (precision, recompute) in
            [(Precision::F32, false), (Precision::Fp8(Fp8Recipe::default()), true)]
        {
            let device = Device::flex();
            let compute = Compute::new(precision, &device).expect("Flex has FP8");
            let model = in_training(load(&case, &device), recompute);
            let device = training_device(&device, recompute);
            let config = model.config().clone();
            let alone = trained(&model, ids, &compute, &device);
            let log = RoutingLog::of_everything();
            let asked = |control: RoutingControl| {
                trained(&model, ids, &compute.with_routing(control), &device)
            };
            let control = RoutingControl { log: Some(log.clone()), ..Default::default() };
            assert!(alone == asked(control), "listened to: {}", case.display());
            let records = log.take();
            let layers = config.moe_layer_indices();
            let nothing = RoutingChange {
                bias: layers
                    .iter()
                    .map(|&layer| BiasDelta { layer, expert: 0, delta: 0.0 })
                    .collect(),
                kept_groups: (config.topk_method != TopkMethod::Greedy)
                    .then_some(config.topk_group),
                ..RoutingChange::default()
            };
            if !layers.is_empty() {
                nothing.check(&config).expect("a change of nothing");
            }
            let control = RoutingControl { change: nothing, ..Default::default() };
            assert!(alone == asked(control), "changed by nothing: {}", case.display());
            let choices: BTreeMap<usize, Vec<u32>> =
                records.into_iter().map(|record| (record.layer, record.chosen)).collect();
            taken += choices.len();
            let given = given(&config, choices);
            let control = RoutingControl { given: Some(given.clone()), ..Default::default() };
            assert!(alone == asked(control), "given: {}", case.display());
        }
    }
    assert!(taken > 20, "{taken} layers");
}

fn given(config: &DeepSeekConfig, choices: BTreeMap<usize, Vec<u32>>) -> Arc<GivenChoices> {
    let (top_k, experts) = (config.num_experts_per_tok, config.n_routed_experts);
    Arc::new(GivenChoices::new(top_k, experts, choices).expect("choices of the model"))
}

/// Choices that are given are taken, whatever they are, and gate values are those that the scores
/// give them.
#[test]
fn other_choices_are_taken_and_gated_by_their_scores() {
    for (_, device) in devices::all() {
        for case in fixture::cases("hf").expect("fixtures") {
            let expected = fixture::read(&case.join("expected.safetensors")).expect("a case");
            let model = load(&case, &device);
            let config = model.config().clone();
            let Some(&first) = config.moe_layer_indices().first() else { continue };
            let ids = &expected["input_ids"];
            let tokens = &ids.ints()[..ids.shape[1]];
            let own = model.inspect(tokens, &Compute::f32());
            let last = (config.n_routed_experts - config.num_experts_per_tok) as u32;
            // The last experts for every token of the first layer.
            let choices = own.layers.iter().map(|record| {
                let tokens = record.chosen.len() / config.num_experts_per_tok;
                let all = (last..config.n_routed_experts as u32).collect::<Vec<_>>().repeat(tokens);
                (record.layer, if record.layer == first { all } else { record.chosen.clone() })
            });
            let choices: BTreeMap<usize, Vec<u32>> = choices.collect();
            let control = RoutingControl {
                given: Some(given(&config, choices.clone())),
                ..Default::default()
            };
            let told = model.inspect(tokens, &Compute::f32().with_routing(control));
            assert_ne!(told.losses, own.losses, "{}", case.display());
            for (record, free) in told.layers.iter().zip(&own.layers) {
                assert_eq!(record.chosen, choices[&record.layer]);
                check_gates(&config, record);
                if record.layer == first {
                    assert_eq!(detail(record).scores, detail(free).scores, "computed as always");
                    assert_eq!(detail(record).kept_groups, detail(free).kept_groups);
                }
            }
        }
    }
}

/// Gate values by their definition, in f64.
fn check_gates(config: &DeepSeekConfig, record: &LayerRecord) {
    let (top_k, experts) = (config.num_experts_per_tok, config.n_routed_experts);
    let RoutingDetail { scores, gates, .. } = detail(record);
    for (token, chosen) in record.chosen.chunks(top_k).enumerate() {
        let scores: Vec<f64> = chosen
            .iter()
            .map(|&expert| f64::from(scores[token * experts + expert as usize]))
            .collect();
        let sum: f64 = if config.norm_topk_prob { scores.iter().sum() } else { 1.0 };
        for (score, gate) in scores.iter().zip(&gates[token * top_k..]) {
            let want = score / sum * config.routed_scaling_factor;
            assert!((f64::from(*gate) - want).abs() < 1e-5, "{gate} not {want}");
        }
    }
}

/// Experts of a token by the definition (2.1.2), sorted in full: kept groups, then the chosen.
fn reference(
    config: &DeepSeekConfig,
    change: &RoutingChange,
    layer: usize,
    scores: &[f32],
    bias: &[f32],
) -> (Vec<u32>, Vec<u32>) {
    let off = |expert: usize| change.disabled.contains(&(layer, expert));
    let biased: Vec<f32> = (0..scores.len())
        .map(|expert| {
            let moved = change.bias.iter().filter(|of| (of.layer, of.expert) == (layer, expert));
            let bias = moved.fold(bias[expert], |bias, of| bias + of.delta);
            if off(expert) { f32::NEG_INFINITY } else { scores[expert] + bias }
        })
        .collect();
    let grouped = config.topk_method != TopkMethod::Greedy;
    let groups = if grouped { config.n_group.max(1) } else { 1 };
    let kept = change.kept_groups.unwrap_or(if grouped { config.topk_group.max(1) } else { 1 });
    let per_group = scores.len() / groups;
    let of_group = |group: usize| {
        let mut members = biased[group * per_group..][..per_group].to_vec();
        members.sort_by(|a, b| b.total_cmp(a));
        let best = if config.topk_method == TopkMethod::NoauxTc { 2 } else { 1 };
        members.iter().take(best).sum::<f32>()
    };
    let mut ranked: Vec<usize> = (0..groups).collect();
    ranked.sort_by(|&a, &b| of_group(b).total_cmp(&of_group(a)).then(a.cmp(&b)));
    let mut kept: Vec<u32> = ranked[..kept.min(groups)].iter().map(|&group| group as u32).collect();
    kept.sort_unstable();
    let mut candidates: Vec<usize> = (0..scores.len())
        .filter(|expert| !off(*expert) && kept.contains(&((expert / per_group) as u32)))
        .collect();
    candidates.sort_by(|&a, &b| biased[b].total_cmp(&biased[a]).then(a.cmp(&b)));
    let mut chosen: Vec<u32> =
        candidates[..config.num_experts_per_tok].iter().map(|&expert| expert as u32).collect();
    chosen.sort_unstable();
    (kept, chosen)
}

/// Experts switched off, biases moved and other numbers of groups kept, at random: every choice is
/// that of the definition, and nobody goes to an expert that is off.
#[test]
fn a_changed_choice_is_that_of_the_definition() {
    let mut rng = ChaCha8Rng::seed_from_u64(17);
    let (mut changes, mut moved, mut grouped) = (0, 0, 0);
    for case in fixture::cases("hf").expect("fixtures") {
        let expected = fixture::read(&case.join("expected.safetensors")).expect("a case");
        let model = load(&case, &Device::flex());
        let config = model.config().clone();
        let layers = config.moe_layer_indices();
        if layers.is_empty() {
            continue;
        }
        let biases: BTreeMap<usize, Vec<f32>> =
            layers.iter().copied().zip(model.balance_biases()).collect();
        let ids = &expected["input_ids"];
        let tokens = &ids.ints()[..ids.shape[1]];
        let own = model.inspect(tokens, &Compute::f32());
        for _ in 0..24 {
            let change = random_change(&mut rng, &config, &layers);
            if change.check(&config).is_err() {
                continue;
            }
            changes += 1;
            grouped +=
                usize::from(change.kept_groups.is_some_and(|kept| kept != config.topk_group));
            let control = RoutingControl { change: change.clone(), ..Default::default() };
            let told = model.inspect(tokens, &Compute::f32().with_routing(control));
            moved += usize::from(told.layers != own.layers);
            for record in &told.layers {
                let RoutingDetail { scores, kept_groups, .. } = detail(record);
                let per_token = kept_groups.len() / record.seq;
                let rows = scores.chunks(config.n_routed_experts);
                for (token, scores) in rows.enumerate() {
                    let (kept, chosen) =
                        reference(&config, &change, record.layer, scores, &biases[&record.layer]);
                    let at = token * config.num_experts_per_tok;
                    assert_eq!(
                        record.chosen[at..][..config.num_experts_per_tok],
                        chosen,
                        "{}: {change:?}",
                        case.display()
                    );
                    assert_eq!(kept_groups[token * per_token..][..per_token], kept);
                }
                for &(layer, expert) in &change.disabled {
                    let taken = record.chosen.contains(&(expert as u32));
                    assert!(layer != record.layer || !taken, "expert {expert} is off");
                }
                check_gates(&config, record);
            }
        }
    }
    assert!(changes > 50 && moved > 40 && grouped > 5, "{changes} {moved} {grouped}");
}

fn random_change(rng: &mut ChaCha8Rng, config: &DeepSeekConfig, layers: &[usize]) -> RoutingChange {
    let expert_of = |rng: &mut ChaCha8Rng| {
        let layer = layers[rng.random_range(0..layers.len())];
        (layer, rng.random_range(0..config.n_routed_experts))
    };
    let disabled =
        (0..rng.random_range(0..3)).map(|_| expert_of(rng)).collect::<Vec<_>>().into_iter();
    let bias = (0..rng.random_range(0..3)).map(|_| {
        let (layer, expert) = expert_of(rng);
        BiasDelta { layer, expert, delta: rng.random_range(-0.3..0.3) }
    });
    let bias = bias.collect();
    let several = config.topk_method != TopkMethod::Greedy && config.n_group > 1;
    let kept_groups =
        (several && rng.random_range(0..2) == 0).then(|| rng.random_range(1..=config.n_group));
    RoutingChange { disabled: disabled.collect(), bias, kept_groups }
}

/// What a model cannot do is said before anything is computed.
#[test]
fn impossible_changes_are_refused() {
    let case = fixture::cases("hf").expect("fixtures").into_iter();
    let config = case
        .map(|case| load(&case, &Device::flex()).config().clone())
        .find(|config| config.n_group > 1 && config.topk_method == TopkMethod::NoauxTc)
        .expect("a fixture with groups");
    let moe = config.moe_layer_indices()[0];
    let refused = |change: RoutingChange| change.check(&config).expect_err("refused").to_string();
    let off = |experts: &[(usize, usize)]| RoutingChange {
        disabled: experts.iter().copied().collect(),
        ..RoutingChange::default()
    };
    let experts = config.n_routed_experts;
    assert!(refused(off(&[(99, 0)])).contains("layer 99 has no routed experts"));
    assert!(refused(off(&[(moe, experts)])).contains(&format!("there are {experts}")));
    let all: Vec<(usize, usize)> = (1..experts).map(|expert| (moe, expert)).collect();
    assert!(refused(off(&all)).contains("switch fewer off"));
    let kept = |groups| RoutingChange { kept_groups: Some(groups), ..RoutingChange::default() };
    assert!(refused(kept(config.n_group + 1)).contains(&format!("{} groups", config.n_group)));
    assert!(refused(kept(0)).contains("topk_group = 0"));
    let nan = BiasDelta { layer: moe, expert: 0, delta: f32::NAN };
    let nan = RoutingChange { bias: vec![nan], ..RoutingChange::default() };
    assert!(refused(nan).contains("NaN"));
    for (choices, part) in [
        (vec![1, 0], "ascending"),
        (vec![0, 0], "different"),
        (vec![0, experts as u32], "different"),
        (vec![0], "different"),
    ] {
        let error = GivenChoices::new(2, experts, [(1, choices)].into()).expect_err("refused");
        assert!(error.to_string().contains(part), "{error}");
    }
}
