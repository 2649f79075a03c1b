//! The model against transformers' DeepSeek-V3 in PyTorch: every number that a fixture holds.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use burn::module::Module;
use burn::optim::GradientsParams;
use burn::tensor::{Device, Int, Tensor, TensorData};
use burn_deepseek::attention::AttentionForm;
use burn_deepseek::generate::{Decoder, GenerateOptions, Sampling};
use burn_deepseek::moe::sequence_balance_loss;
use burn_deepseek::weights::{self, LoadOptions};
use burn_deepseek::{
    Compute, DeepSeek, EndTokens, LayerRouting, LossWeights, Pass, SequenceCounts, recomputing,
};
use deepseek_tests::fixture::{self, Values};
use deepseek_tests::{devices, table::Report};
use deepseek_train::learner::{AdamW, AdamWSettings, MomentFormat};

/// Absolute on logits (largest about 4).
const LOGITS: f64 = 2e-5;
/// Relative to a tensor's largest magnitude.
const RELATIVE: f64 = 1e-5;

#[test]
fn parity_hf() {
    let mut failures = Vec::new();
    for (device_name, device) in devices::all() {
        println!("device {device_name}");
        for case in fixture::cases("hf").expect("fixtures") {
            let name = case.file_name().expect("a case has a name").to_string_lossy().into_owned();
            match check_case(&case, &device) {
                Ok(report) => {
                    println!("  {name}: {}", if report.passed() { "pass" } else { "FAIL" });
                    print!("{report}");
                    if !report.passed() {
                        failures.push(format!("{name} on {device_name}\n{report}"));
                    }
                }
                Err(error) => {
                    println!("  {name}: FAIL {error:#}");
                    failures.push(format!("{name} on {device_name}: {error:#}"));
                }
            }
        }
    }
    assert!(failures.is_empty(), "{} cases differ:\n{}", failures.len(), failures.join("\n"));
}

/// Both forms of config.json mean the same model, and what is written back means it too.
#[test]
fn parity_hf_config_forms() {
    for case in fixture::cases("hf").expect("fixtures") {
        let read = |file: &str| {
            let text = std::fs::read_to_string(case.join(file)).expect("a case has both configs");
            burn_deepseek::DeepSeekConfig::from_hugging_face_json(&text)
                .unwrap_or_else(|e| panic!("{} {file}: {e}", case.display()))
        };
        let config = read("config.json");
        assert_eq!(config, read("config.v5.json"), "{}", case.display());
        let written = config.to_hugging_face_json("float32");
        assert_eq!(
            burn_deepseek::DeepSeekConfig::from_hugging_face_json(&written).expect("own output"),
            config,
            "{}",
            case.display()
        );
    }
}

/// Saving and loading changes no logit.
#[test]
fn parity_hf_save_and_load() {
    let device = Device::flex();
    for case in fixture::cases("hf").expect("fixtures") {
        let expected = fixture::read(&case.join("expected.safetensors")).expect("a case");
        let folder = tempfile::tempdir().expect("a temporary folder");
        let model =
            weights::load_model(&case, &device, &LoadOptions::default()).expect("a checkpoint");
        weights::save_model(&model, folder.path(), &weights::SaveOptions::default())
            .expect("a writable folder");
        let again = weights::load_model(folder.path(), &device, &LoadOptions::default())
            .expect("our own checkpoint");
        let tokens = tokens(&expected["input_ids"], &device);
        assert_eq!(
            floats(model.forward(tokens.clone())),
            floats(again.forward(tokens)),
            "{}",
            case.display()
        );
    }
}

fn check_case(case: &Path, device: &Device) -> Result<Report> {
    let expected = fixture::read(&case.join("expected.safetensors"))?;
    let model = weights::load_model(case, device, &LoadOptions::default())?;
    let mut report = Report::default();
    check_forward(&model, &expected, &mut report)?;
    if expected.contains_key("greedy.tokens") {
        check_decoding(&model, &expected, &mut report)?;
    }

    let training = model.train();
    check_gradients(&training, device, &expected, &mut report)?;
    if expected.contains_key("mtp.post_norm.losses") {
        check_mtp(&training, &expected, &mut report)?;
    }
    if expected.contains_key("adamw.losses") {
        check_adamw(training, &expected, &case.join("meta.json"), &mut report)?;
    }
    Ok(report)
}

fn check_forward(
    model: &DeepSeek,
    expected: &BTreeMap<String, Values>,
    report: &mut Report,
) -> Result<()> {
    let tokens = tokens(&expected["input_ids"], &model.device());
    let [_, seq] = tokens.dims();
    let mut pass = Pass::traced(model.rotary().table(0, seq, &model.device()), Compute::f32());
    let hidden = model.hidden(tokens, &mut pass, None);
    report.absolute(
        "logits",
        "logits",
        &floats(model.logits(hidden)),
        &expected["logits"].data,
        LOGITS,
    );

    let trace: BTreeMap<_, _> = pass.trace.take().context("a traced pass")?.into_iter().collect();
    for (name, want) in expected {
        if let Some(name) = name.strip_prefix("hidden.") {
            let got =
                trace.get(name).with_context(|| format!("no hidden state is called {name}"))?;
            report.relative("hidden", name, &floats(got.clone()), &want.data, RELATIVE);
        }
    }
    for routing in &pass.routings {
        check_routing(routing, &format!("router.{}", routing.layer), expected, report);
    }
    let routers = expected
        .keys()
        .filter(|name| name.starts_with("router.") && name.ends_with(".logits"))
        .count();
    ensure!(
        routers == 0 || routers == pass.routings.len(),
        "the fixture has {routers} routers, the model {}",
        pass.routings.len()
    );
    check_rope(model, &pass, expected, report);
    Ok(())
}

fn check_rope(
    model: &DeepSeek,
    pass: &Pass,
    expected: &BTreeMap<String, Values>,
    report: &mut Report,
) {
    if !expected.contains_key("rope.inv_freq") {
        return;
    }
    let rotary = model.rotary();
    let inv_freq: Vec<f64> = rotary.inv_freq().iter().map(|&f| f64::from(f)).collect();
    report.relative("rope", "inv_freq", &inv_freq, &expected["rope.inv_freq"].data, 1e-6);
    for (name, got) in [("rope.cos", pass.rope.cos()), ("rope.sin", pass.rope.sin())] {
        // The reference writes each angle twice, for both members of a pair.
        let want = &expected[name];
        let (width, half) = (want.shape[1], want.shape[1] / 2);
        let rows = want.data.chunks_exact(width).take(got.dims()[0]);
        let want: Vec<f64> = rows.flat_map(|row| row[..half].iter().copied()).collect();
        report.absolute("rope", name, &floats(got), &want, 1e-6);
    }
}

fn check_routing(
    routing: &LayerRouting,
    prefix: &str,
    expected: &BTreeMap<String, Values>,
    report: &mut Report,
) {
    let want = |what: &str| expected.get(&format!("{prefix}.{what}"));
    let name = prefix.to_owned();
    if let Some(logits) = want("logits") {
        report.absolute(
            "router logits",
            &name,
            &floats(routing.logits.clone()),
            &logits.data,
            LOGITS,
        );
    }
    if let Some(scores) = want("scores") {
        report.absolute(
            "router scores",
            &name,
            &floats(routing.scores.clone()),
            &scores.data,
            LOGITS,
        );
    }
    if let Some(indices) = want("topk_indices") {
        let got: Vec<u32> = routing.experts.clone().into_data().iter::<u32>().collect();
        report.exact("router choices", &name, &got, &indices.ints());
    }
    if let Some(weights) = want("topk_weights") {
        report.absolute(
            "gate values",
            &name,
            &floats(routing.weights.clone()),
            &weights.data,
            LOGITS,
        );
    }
    if let Some(load) = want("load") {
        let got: Vec<u32> = routing.groups.loads().iter().map(|&load| load as u32).collect();
        report.exact("router loads", &name, &got, &load.ints());
    }
    let selected = SequenceCounts::Host(counts_of_choices(routing));
    for (what, counts) in
        [("seq_aux_unbiased_topk", &routing.unbiased_counts), ("seq_aux_selected", &selected)]
    {
        if let Some(loss) = want(what) {
            let got = floats(sequence_balance_loss(routing, counts));
            report.absolute("sequence loss", &format!("{name}.{what}"), &got, &loss.data, RELATIVE);
        }
    }
}

fn counts_of_choices(routing: &LayerRouting) -> Vec<u32> {
    let experts = routing.groups.experts();
    let mut counts = vec![0; routing.batch * experts];
    let choices: Vec<u32> = routing.experts.clone().into_data().iter::<u32>().collect();
    for (token, chosen) in choices.chunks_exact(routing.groups.top_k()).enumerate() {
        for &expert in chosen {
            counts[token / routing.seq * experts + expert as usize] += 1;
        }
    }
    counts
}

/// Greedy tokens with the cache, in both forms of attention and with speculation, and the last
/// logits.
fn check_decoding(
    model: &DeepSeek,
    expected: &BTreeMap<String, Values>,
    report: &mut Report,
) -> Result<()> {
    let prompt = expected["greedy.prompt"].ints();
    let want = expected["greedy.tokens"].ints();
    for (name, form, speculative) in [
        ("expanded", AttentionForm::Expanded, false),
        ("absorbed", AttentionForm::Absorbed, false),
        ("auto", AttentionForm::Auto, false),
        ("speculative", AttentionForm::Auto, true),
    ] {
        if speculative && model.mtp.is_empty() {
            continue;
        }
        let options = GenerateOptions {
            max_new_tokens: want.len(),
            sampling: Sampling::GREEDY,
            stop: EndTokens::NONE,
            form,
            speculative,
        };
        let got = model.generate(&prompt, &options, |_| std::ops::ControlFlow::Continue(()))?;
        report.exact("greedy tokens", name, &got.tokens, &want);
    }
    for (name, form) in
        [("expanded", AttentionForm::Expanded), ("absorbed", AttentionForm::Absorbed)]
    {
        let mut decoder = Decoder::new(model, form);
        decoder.feed(&prompt);
        let mut hidden = None;
        for &token in &want[..want.len() - 1] {
            hidden = Some(decoder.feed(&[token]));
        }
        let logits = decoder.logits(hidden.context("more than one token")?, 1);
        let got: Vec<f64> = logits[0].iter().map(|&l| f64::from(l)).collect();
        report.absolute("cached logits", name, &got, &expected["greedy.last_logits"].data, LOGITS);
    }
    Ok(())
}

const MAIN_ONLY: LossWeights = LossWeights { mtp: 0.0, sequence_balance: 0.0 };

fn check_gradients(
    model: &DeepSeek,
    device: &Device,
    expected: &BTreeMap<String, Values>,
    report: &mut Report,
) -> Result<()> {
    let (tokens, targets) = shifted(expected, &model.device());
    let losses = model.loss(tokens, targets, &MAIN_ONLY, &Compute::f32());
    report.absolute("loss", "loss", &floats(losses.main.clone()), &expected["loss"].data, RELATIVE);
    let gradients = weights::named_gradients(model, &losses.total.backward());
    compare_gradients(&gradients, "grad.", "gradients", expected, report)?;

    let recomputing = recomputing(model.clone());
    let (tokens, targets) = shifted(expected, &recomputing.device());
    let again = recomputing.loss(tokens, targets, &MAIN_ONLY, &Compute::f32()).total.backward();
    for (name, again) in weights::named_gradients(&recomputing, &again) {
        let values = |data: &TensorData| data.iter::<f64>().collect::<Vec<_>>();
        let (again, first) = (values(&again), values(&gradients[&name]));
        if *device == Device::flex() {
            report.exact("recomputed gradients", &name, &again, &first);
        } else {
            // What runs again may share a kernel with other operations than before.
            report.relative("recomputed gradients", &name, &again, &first, RELATIVE);
        }
    }
    Ok(())
}

fn compare_gradients(
    got: &BTreeMap<String, TensorData>,
    prefix: &str,
    kind: &'static str,
    expected: &BTreeMap<String, Values>,
    report: &mut Report,
) -> Result<()> {
    for (name, want) in expected {
        let Some(name) = name.strip_prefix(prefix) else { continue };
        // An expert without tokens, or a bias that nothing reaches, may have no gradient at all:
        // that is a gradient of zero.
        let gradient = got
            .get(name)
            .map_or_else(|| vec![0.0; want.data.len()], |data| data.iter::<f64>().collect());
        report.relative(kind, name, &gradient, &want.data, RELATIVE);
    }
    let norms = prefix.replace("grad.", "grad_norm.");
    for (name, want) in expected {
        let Some(name) = name.strip_prefix(&norms) else { continue };
        let gradient = got.get(name).with_context(|| format!("no gradient for {name}"))?;
        let norm = gradient.iter::<f64>().map(|g| g * g).sum::<f64>().sqrt();
        report.relative("gradient norms", name, &[norm], &want.data, RELATIVE);
    }
    Ok(())
}

fn check_mtp(
    model: &DeepSeek,
    expected: &BTreeMap<String, Values>,
    report: &mut Report,
) -> Result<()> {
    let device = model.device();
    let input = tokens(&expected["input_ids"], &device);
    let [_, seq] = input.dims();
    let mut pass = Pass::traced(model.rotary().table(0, seq, &device), Compute::f32());
    let hidden = model.hidden(input.clone(), &mut pass, None);
    pass.routings.clear();
    let depths = model.mtp_hidden(input, hidden, &mut pass);
    let trace: BTreeMap<_, _> = pass.trace.take().context("a traced pass")?.into_iter().collect();
    for (k, hidden) in (1..).zip(depths) {
        let layer = model.config().num_hidden_layers + k - 1;
        let prefix = format!("mtp.post_norm.{k}");
        report.absolute(
            "mtp logits",
            &prefix,
            &floats(model.logits(hidden)),
            &expected[&format!("{prefix}.logits")].data,
            LOGITS,
        );
        let pre_norm = trace[&format!("layer.{layer}")].clone();
        report.relative(
            "mtp hidden",
            &prefix,
            &floats(pre_norm),
            &expected[&format!("{prefix}.hidden_pre_norm")].data,
            RELATIVE,
        );
        for routing in pass.routings.iter().filter(|routing| routing.layer == layer) {
            check_routing(routing, &format!("{prefix}.router.{layer}"), expected, report);
        }
    }

    let (tokens, targets) = shifted(expected, &device);
    let losses = model.loss(
        tokens,
        targets,
        &LossWeights { mtp: 0.3, sequence_balance: 0.0 },
        &Compute::f32(),
    );
    let got: Vec<f64> = losses.mtp.iter().flat_map(|loss| floats(loss.clone())).collect();
    report.absolute("mtp losses", "losses", &got, &expected["mtp.post_norm.losses"].data, RELATIVE);
    report.absolute(
        "mtp losses",
        "total",
        &floats(losses.total.clone()),
        &expected["mtp.post_norm.total_loss"].data,
        RELATIVE,
    );
    let gradients = weights::named_gradients(model, &losses.total.backward());
    compare_gradients(&gradients, "mtp.post_norm.grad.", "mtp gradients", expected, report)
}

/// Five steps with clipping: the loss before each step and after the last, the gradients' norms,
/// some weights after the first.
fn check_adamw(
    mut model: DeepSeek,
    expected: &BTreeMap<String, Values>,
    meta: &Path,
    report: &mut Report,
) -> Result<()> {
    let meta: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(meta)?)?;
    let setting = |name: &str| {
        meta["adamw"][name].as_f64().with_context(|| format!("meta.json has no adamw.{name}"))
    };
    let beta =
        |i: usize| meta["adamw"]["betas"][i].as_f64().context("meta.json has no adamw.betas");
    let settings = AdamWSettings {
        beta1: beta(0)?,
        beta2: beta(1)?,
        eps: setting("eps")?,
        weight_decay: setting("weight_decay")?,
        clip_grad_norm: Some(setting("clip_grad_norm")?),
        moments: MomentFormat::F32,
    };
    let lr = setting("lr")?;
    let mut optimizer = AdamW::new(settings);
    let (mut losses, mut norms) = (Vec::new(), Vec::new());
    let steps = expected["adamw.grad_norms"].data.len();
    for step in 0..=steps {
        let (tokens, targets) = shifted(expected, &model.device());
        let loss = model.loss(tokens, targets, &MAIN_ONLY, &Compute::f32());
        losses.extend(floats(loss.total.clone()));
        if step == steps {
            break;
        }
        let grads = GradientsParams::from_grads(loss.total.backward(), &model);
        let norm;
        (model, norm) = optimizer.update(model, grads, 1.0, lr);
        norms.push(norm);
        if step == 0 {
            let weights = weights::named_parameters(&model);
            for (name, want) in expected {
                let Some(name) = name.strip_prefix("adamw.step1.") else { continue };
                let got: Vec<f64> = weights
                    .get(name)
                    .with_context(|| format!("no parameter {name}"))?
                    .iter::<f64>()
                    .collect();
                let gradient = &expected[&format!("grad.{name}")].data;
                report.add(
                    "AdamW weights",
                    name,
                    first_step_error(&got, &want.data, gradient, norm, &settings, lr),
                    1.0,
                );
            }
        }
    }
    report.relative(
        "AdamW losses",
        "losses",
        &losses,
        &expected["adamw.losses"].data,
        2.0 * RELATIVE,
    );
    report.relative(
        "AdamW norms",
        "norms",
        &norms,
        &expected["adamw.grad_norms"].data,
        5.0 * RELATIVE,
    );
    Ok(())
}

/// The worst error of the weights after the first step, in units of what a gradient right to
/// [`RELATIVE`] allows.
///
/// The first step is `lr * g / (|g| + eps)`: the sign of `g` where it is far above eps, but where
/// it is not, an error `d` of the gradient moves the weight by up to `lr * d / (|g| + eps)`. A
/// missing weight decay would be a hundred times the unit.
fn first_step_error(
    got: &[f64],
    want: &[f64],
    gradient: &[f64],
    norm: f64,
    settings: &AdamWSettings,
    lr: f64,
) -> f64 {
    let clip = settings.clip_grad_norm.map_or(1.0, |limit| (limit / norm).min(1.0));
    let error = RELATIVE * clip * gradient.iter().fold(0f64, |max, g| max.max(g.abs()));
    let rounding = 1e-8;
    let units = got.iter().zip(want).zip(gradient).map(|((a, b), g)| {
        let allowed = lr * (error / (clip * g.abs() + settings.eps)).min(2.0) + rounding;
        (a - b).abs() / allowed
    });
    units.fold(0f64, f64::max)
}

/// Tokens and next tokens of a fixture whose labels are its inputs: the last position has nothing
/// to predict.
fn shifted(
    expected: &BTreeMap<String, Values>,
    device: &Device,
) -> (Tensor<2, Int>, Tensor<2, Int>) {
    let labels = &expected["labels"];
    let (batch, seq) = (labels.shape[0], labels.shape[1]);
    let targets: Vec<i32> = labels
        .data
        .chunks_exact(seq)
        .flat_map(|row| row[1..].iter().map(|&t| t as i32).chain([-100]))
        .collect();
    let targets = Tensor::from_data(TensorData::new(targets, [batch, seq]), device);
    (tokens(&expected["input_ids"], device), targets)
}

fn tokens(values: &Values, device: &Device) -> Tensor<2, Int> {
    let ids: Vec<i32> = values.data.iter().map(|&v| v as i32).collect();
    Tensor::from_data(TensorData::new(ids, [values.shape[0], values.shape[1]]), device)
}

fn floats<const D: usize>(tensor: Tensor<D>) -> Vec<f64> {
    tensor.into_data().iter::<f64>().collect()
}
