//! Decoding with experts where a placement has them: what comes out is the plain model's, and the
//! GPUs' loads are more even.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;

use burn::module::Module;
use burn::tensor::{Device, Int, Tensor, TensorData};
use burn_deepseek::attention::AttentionForm;
use burn_deepseek::generate::{Decoder, GenerateOptions, Sampling};
use burn_deepseek::precision::Fp8Recipe;
use burn_deepseek::{Compute, DeepSeek, DeepSeekConfig, EndTokens, Precision};
use deepseek_tests::devices;
use deepseek_train::config::RunConfig;
use deepseek_train::parallel::eplb::{Balance, LayerPlacement, rebalance_experts};
use deepseek_train::parallel::{PlacedExperts, PlacementError};

const EXPERTS: usize = 8;
const GPUS: usize = 4;
/// One place more on each GPU than its share of the experts.
const REPLICAS: usize = 12;
const NEW_TOKENS: usize = 40;

type Placement = BTreeMap<usize, LayerPlacement>;

fn config() -> DeepSeekConfig {
    let text = format!(
        "[model]\nvocab_size = 260\nhidden_size = 40\nintermediate_size = \
         40\nmoe_intermediate_size = 20\nnum_hidden_layers = 3\n\
         num_attention_heads = 2\nn_shared_experts = 1\nn_routed_experts = \
         {EXPERTS}\nnum_experts_per_tok = 2\nfirst_k_dense_replace = 1\n\
         q_lora_rank = 16\nkv_lora_rank = 16\nqk_nope_head_dim = 8\nqk_rope_head_dim = \
         8\nv_head_dim = 8\n\
         max_position_embeddings = 256\nnum_nextn_predict_layers = 1\ninitializer_range = 0.3\n\
         [train]\nseq_len = 32\nmicro_batch = 1\nsteps = 1\n[schedule]\nlr = 1e-3\nglobal_batch = \
         1\n"
    );
    RunConfig::from_toml(&text, "test").unwrap().model
}

/// A model whose tokens prefer the first experts, so that the GPU that has them would compute most
/// of the rows.
fn model(device: &Device) -> DeepSeek {
    let mut model = DeepSeek::init(&config(), 11, device).unwrap().no_grad();
    let bias: Vec<f32> = (0..EXPERTS).map(|expert| 0.3 - 0.1 * expert as f32).collect();
    model.routers_mut().for_each(|(_, router)| router.set_bias(&bias));
    model
}

/// Long enough that its rows are divided among the replicas of the busiest experts.
fn prompt() -> Vec<u32> {
    (0..90u32).map(|i| i * i % 251).collect()
}

/// Each expert once, in order.
fn in_order() -> Placement {
    (1..4)
        .map(|layer| {
            (layer, LayerPlacement::from_phy2log((0..EXPERTS).collect(), EXPERTS, GPUS).unwrap())
        })
        .collect()
}

/// By the loads of the prompt's tokens, which are not those that are generated after it.
fn by_loads(model: &DeepSeek) -> Placement {
    let tokens: Vec<i32> = prompt().iter().map(|&token| token as i32).collect();
    let count = tokens.len();
    let tokens = Tensor::<2, Int>::from_data(TensorData::new(tokens, [1, count]), &model.device());
    let mut pass = model.pass(0, count, &Compute::f32());
    let hidden = model.hidden(tokens.clone(), &mut pass, None);
    model.mtp_hidden(tokens, hidden, &mut pass);
    let floats = |loads: Vec<u64>| loads.into_iter().map(|load| load as f32).collect();
    let loads: Vec<Vec<f32>> =
        pass.routings.iter().map(|routing| floats(routing.groups.loads())).collect();
    let placement = rebalance_experts(&loads, REPLICAS, 1, 1, GPUS).unwrap();
    assert!(
        placement.layers.iter().all(|layer| layer.log2phy()[0].len() > 1),
        "the busiest expert is there more than once: {placement:?}"
    );
    pass.routings.iter().map(|routing| routing.layer).zip(placement.layers).collect()
}

fn options(speculative: bool) -> GenerateOptions {
    GenerateOptions {
        max_new_tokens: NEW_TOKENS,
        sampling: Sampling::GREEDY,
        stop: EndTokens::NONE,
        form: AttentionForm::Auto,
        speculative,
    }
}

fn place(
    device: &Device,
    placement: &Placement,
    others: &[Device],
) -> (DeepSeek, Arc<PlacedExperts>) {
    let mut model = model(device);
    let experts = PlacedExperts::place(&mut model, placement, others, &Compute::f32()).unwrap();
    (model, experts)
}

fn generate(model: &DeepSeek, compute: &Compute, speculative: bool) -> Vec<u32> {
    let listener = |_| ControlFlow::Continue(());
    model.generate_with(&prompt(), &options(speculative), compute, listener).unwrap().tokens
}

/// Logits of tokens fed in pieces, so that experts have from one row to dozens.
fn logits(model: &DeepSeek, compute: &Compute) -> Vec<Vec<f32>> {
    let mut decoder = Decoder::with_compute(model, AttentionForm::Auto, compute);
    let (prompt, mut logits) = (prompt(), Vec::new());
    for count in [90, 6, 7, 9, 11, 14, 18, 23, 1, 1, 2, 1, 3, 1] {
        let hidden = decoder.feed(&prompt[..count]);
        logits.extend(decoder.logits(hidden, count));
    }
    logits
}

#[test]
fn tokens_are_those_of_the_plain_model_on_every_device() {
    for (name, device) in devices::all() {
        let plain = model(&device);
        let expected = generate(&plain, &Compute::f32(), false);
        assert!(
            expected.iter().any(|&token| token != expected[0]),
            "{name}: a model that says one thing only proves little: {expected:?}"
        );
        for (kind, placement) in [("in order", in_order()), ("by loads", by_loads(&plain))] {
            let (model, experts) = place(&device, &placement, &vec![device.clone(); GPUS - 1]);
            for speculative in [false, true] {
                assert_eq!(
                    generate(&model, &experts.compute(), speculative),
                    expected,
                    "{name}, {kind}, speculative {speculative}"
                );
            }
        }
    }
}

/// Rows are computed alone, and on Flex by the same instructions wherever they are, in experts that
/// are not narrower than these.
#[test]
fn logits_are_the_plain_model_s_bit_for_bit_on_flex() {
    let device = Device::flex();
    let plain = model(&device);
    for precision in [Precision::F32, Precision::Fp8(Fp8Recipe::default())] {
        let compute = Compute::new(precision, &device).unwrap();
        let expected = logits(&plain, &compute);
        for placement in [in_order(), by_loads(&plain)] {
            let others = vec![device.clone(); GPUS - 1];
            let mut placed = model(&device);
            let experts = PlacedExperts::place(&mut placed, &placement, &others, &compute).unwrap();
            for turn in 0..3 {
                assert!(
                    logits(&placed, &experts.compute()) == expected,
                    "{precision:?}, turn {turn} of {placement:?}"
                );
            }
        }
    }
}

/// The model on one backend and experts on another: only rows travel.
#[cfg(feature = "wgpu")]
#[test]
fn experts_may_be_on_another_backend() {
    let [(_, flex), (_, wgpu)] =
        <[_; 2]>::try_from(devices::all().into_iter().take(2).collect::<Vec<_>>()).unwrap();
    for (home, away) in [(&flex, &wgpu), (&wgpu, &flex)] {
        let plain = model(home);
        let (model, experts) =
            place(home, &by_loads(&plain), &[away.clone(), home.clone(), away.clone()]);
        let (got, expected) = (logits(&model, &experts.compute()), logits(&plain, &Compute::f32()));
        let worst = got
            .iter()
            .flatten()
            .zip(expected.iter().flatten())
            .map(|(a, b)| (a - b).abs())
            .fold(0.0, f32::max);
        assert!(worst < 1e-4, "{worst}");
    }
}

#[test]
fn loads_are_more_even_by_measured_loads_than_in_order() {
    let device = Device::flex();
    let plain = model(&device);
    let ratios = |placement: &Placement| {
        let (model, experts) = place(&device, placement, &vec![device.clone(); GPUS - 1]);
        generate(&model, &experts.compute(), true);
        let floats = |rows: Vec<u64>| rows.into_iter().map(|rows| rows as f64).collect::<Vec<_>>();
        let ratios: Vec<f64> = experts
            .gpu_rows()
            .into_values()
            .map(|rows| Balance::of(&floats(rows)).ratio())
            .collect();
        assert_eq!(ratios.len(), 3, "two layers and an MTP module");
        ratios
    };
    let (before, after) = (ratios(&in_order()), ratios(&by_loads(&plain)));
    println!(
        "max load / mean load of {GPUS} GPUs, layer by layer: {before:.3?} in order, {after:.3?} \
         placed"
    );
    for (before, after) in before.iter().zip(&after) {
        assert!(
            *before > 1.5 && *after < 1.4 && after < before,
            "{before} in order, {after} placed"
        );
    }
}

#[test]
fn a_placement_of_another_model_is_refused() {
    let device = Device::flex();
    let whole = logits(&model(&device), &Compute::f32());
    let refused = |placement: &Placement, others: usize| {
        let mut model = model(&device);
        let error = PlacedExperts::place(
            &mut model,
            placement,
            &vec![device.clone(); others],
            &Compute::f32(),
        )
        .unwrap_err();
        assert!(logits(&model, &Compute::f32()) == whole, "the model is as it was");
        error
    };
    assert_eq!(refused(&BTreeMap::new(), 3), PlacementError::MissingLayer { layer: 1 });
    assert_eq!(refused(&in_order(), 1), PlacementError::Devices { layer: 1, gpus: 4, devices: 2 });
    let smaller = in_order()
        .into_keys()
        .map(|layer| (layer, LayerPlacement::from_phy2log(vec![0, 1, 2, 0], 3, 4).unwrap()))
        .collect();
    assert_eq!(refused(&smaller, 3), PlacementError::Experts { layer: 1, placed: 3, experts: 8 });
    let mut dense = DeepSeek::init(
        &DeepSeekConfig { first_k_dense_replace: 3, num_nextn_predict_layers: 0, ..config() },
        1,
        &device,
    )
    .unwrap();
    assert_eq!(
        PlacedExperts::place(&mut dense, &in_order(), &[], &Compute::f32()).unwrap_err(),
        PlacementError::Dense
    );
}
