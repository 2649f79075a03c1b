//! What a layer keeps for backward: bytes that are alive after a forward pass, counted by the
//! allocator, against `DeepSeekConfig::kept_activations`.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicIsize, Ordering};

use burn::tensor::{Device, Int, Tensor, TensorData};
use burn_deepseek::config::Keeping;
use burn_deepseek::precision::{Fp8Recipe, KeptActivation};
use burn_deepseek::{
    Compute, DeepSeek, DeepSeekConfig, LossWeights, Precision, in_training, training_device,
};

/// The system's allocator, counting what is alive.
struct Counting;

static ALIVE: AtomicIsize = AtomicIsize::new(0);

// SAFETY: every call goes to the system's allocator as it is; the counter allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALIVE.fetch_add(layout.size() as isize, Ordering::Relaxed);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        ALIVE.fetch_sub(layout.size() as isize, Ordering::Relaxed);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.dealloc(ptr, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const BATCH: usize = 4;
const SEQ: usize = 160;

/// A model whose layers are large beside everything else.
fn config(dense: usize, moe: usize) -> DeepSeekConfig {
    let json = serde_json::json!({
        "model_type": "deepseek_v3", "vocab_size": 64, "hidden_size": 256, "intermediate_size": 640, "moe_intermediate_size": 128,
        "num_hidden_layers": dense + moe, "num_attention_heads": 4, "num_key_value_heads": 4, "n_shared_experts": 1,
        "n_routed_experts": 8, "routed_scaling_factor": 1.0, "kv_lora_rank": 96, "q_lora_rank": 128, "qk_rope_head_dim": 16,
        "v_head_dim": 48, "qk_nope_head_dim": 32, "n_group": 1, "topk_group": 1, "num_experts_per_tok": 2,
        "first_k_dense_replace": dense, "norm_topk_prob": true, "max_position_embeddings": 256, "rms_norm_eps": 1e-6, "num_nextn_predict_layers": 0,
        "rope_theta": 10000.0, "scoring_func": "sigmoid", "topk_method": "noaux_tc", "hidden_act": "silu", "initializer_range": 0.02
    });
    DeepSeekConfig::from_hugging_face_json(&json.to_string()).expect("a model")
}

/// Bytes alive between the forward and the backward pass.
fn alive_after_forward(config: &DeepSeekConfig, precision: Precision, recompute: bool) -> isize {
    let flex = Device::flex();
    let device = training_device(&flex, recompute);
    let model = in_training(DeepSeek::init(config, 1, &flex).expect("a model"), recompute);
    let compute = Compute::new(precision, &flex).expect("Flex has FP8");
    let tokens = |device: &Device| {
        let ids: Vec<i32> = (0..BATCH * SEQ).map(|i| (i * i % 61) as i32).collect();
        Tensor::<2, Int>::from_data(TensorData::new(ids, [BATCH, SEQ]), device)
    };
    let weights = LossWeights { mtp: 0.0, sequence_balance: 0.0 };
    let inputs = tokens(&device);
    let pass = || {
        let before = ALIVE.load(Ordering::Relaxed);
        let losses = model.loss(inputs.clone(), inputs.clone(), &weights, &compute);
        let alive = ALIVE.load(Ordering::Relaxed) - before;
        drop(losses.total.backward());
        alive
    };
    // The least of several: the first quantizes the weights and starts the pool, and in any of them
    // a thread of the pool may get a product larger than it has had, and keeps the memory for
    // packing it.
    (0..5).map(|_| pass()).min().expect("there are five")
}

/// One layer more of a kind, measured and computed; they agree within a fiftieth.
fn check(name: &str, moe: bool, precision: Precision, recompute: bool) -> f64 {
    let (small, large) =
        if moe { (config(1, 1), config(1, 3)) } else { (config(1, 1), config(3, 1)) };
    let measured = (alive_after_forward(&large, precision, recompute)
        - alive_after_forward(&small, precision, recompute)) as f64
        / 2.0;
    let keeping = Keeping { precision, recompute, tokens: BATCH * SEQ };
    let layer = if moe { 1 } else { 0 };
    let computed: u64 =
        small.kept_activations(layer, &keeping).iter().map(|tensor| tensor.bytes).sum();
    let ratio = measured / computed as f64;
    println!("{name}: {measured:.0} bytes a layer, {computed} computed, ratio {ratio:.4}");
    assert!(
        (0.98..1.02).contains(&ratio),
        "{name}: {measured:.0} bytes a layer, {computed} computed: {:#?}",
        small.kept_activations(layer, &keeping)
    );
    measured
}

/// One test, so that nothing else allocates meanwhile.
#[test]
fn memory_kept_by_a_layer_is_what_is_computed() {
    let fp8 = Precision::Fp8(Fp8Recipe::default());
    let fp8_rows = Precision::Fp8(Fp8Recipe { kept: KeptActivation::Rows, ..Fp8Recipe::default() });
    for moe in [false, true] {
        let kind = if moe { "MoE layer" } else { "dense layer" };
        let plain = check(&format!("{kind}, F32"), moe, Precision::F32, false);
        let recomputed = check(&format!("{kind}, F32, recomputed"), moe, Precision::F32, true);
        let codes = check(&format!("{kind}, FP8"), moe, fp8, false);
        let least = check(&format!("{kind}, FP8, recomputed"), moe, fp8, true);
        check(&format!("{kind}, FP8 kept as rows"), moe, fp8_rows, false);
        assert!(recomputed < 0.75 * plain, "{kind}: recomputation saves a quarter");
        assert!(codes < 0.75 * plain, "{kind}: FP8 saves a quarter");
        assert!(least < codes && least < recomputed, "{kind}: both together save most");
    }
}
