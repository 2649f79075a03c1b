//! Decoding of a model that has learnt something: every way to the same tokens.

#![allow(clippy::unwrap_used)] // these are tests; clippy does not see that of their helpers

mod stored;

use std::ops::ControlFlow;
use std::sync::OnceLock;

use burn::data::dataloader::batcher::Batcher;
use burn::module::Module;
use burn::optim::GradientsParams;
use burn::tensor::Device;
use burn_deepseek::attention::AttentionForm;
use burn_deepseek::generate::{Decoder, GenerateOptions, Generation, Sampling};
use burn_deepseek::{Compute, DeepSeek, DeepSeekConfig, EndTokens, LossWeights};
use deepseek_train::config::RunConfig;
use deepseek_train::data::{BYTES_EOD, DataConfig, TokenBatcher, TokenData};
use deepseek_train::learner::{AdamW, AdamWSettings, LanguageModel, MomentFormat};

const SEQ_LEN: usize = 32;
const NEW_TOKENS: usize = 24;

/// A model of one or two MTP modules after enough steps on the built-in corpus that it prefers some
/// words to others, and the corpus.
fn trained(depths: usize) -> &'static (DeepSeek, TokenData) {
    static MODELS: [OnceLock<(DeepSeek, TokenData)>; 2] = [const { OnceLock::new() }; 2];
    MODELS[depths - 1].get_or_init(|| train(depths))
}

fn train(depths: usize) -> (DeepSeek, TokenData) {
    let config = model(depths);
    let data = DataConfig { builtin_bytes: 40_000, ..DataConfig::default() }
        .open(SEQ_LEN, config.vocab_size)
        .unwrap();
    let weights = LossWeights { mtp: 0.3, sequence_balance: 1e-4 };
    let settings = AdamWSettings {
        beta1: 0.9,
        beta2: 0.95,
        eps: 1e-8,
        weight_decay: 0.1,
        clip_grad_norm: Some(1.0),
        moments: MomentFormat::F32,
    };
    let mut model = LanguageModel::new(
        DeepSeek::init(&config, 7, &Device::flex()).unwrap(),
        weights,
        1,
        Compute::f32(),
    )
    .train();
    let mut optimizer = AdamW::new(settings);
    let device = Device::flex().autodiff();
    let mut last = f64::INFINITY;
    for step in 0..100 {
        let windows = (4 * step..4 * (step + 1)).map(|sample| data.train.window(sample)).collect();
        let (loss, measured) = model.forward(TokenBatcher::new(SEQ_LEN).batch(windows, &device));
        let grads = GradientsParams::from_grads(loss.backward(), &model);
        (model, _) = optimizer.update(model, grads, 1.0, 1e-2);
        last = measured.read().loss;
    }
    assert!(last < 2.6, "nothing was learnt: loss {last}");
    (model.valid().model.no_grad(), data)
}

fn model(depths: usize) -> DeepSeekConfig {
    let text = format!(
        "[model]\nvocab_size = 260\nhidden_size = 32\nintermediate_size = \
         64\nmoe_intermediate_size = 16\nnum_hidden_layers = 2\n\
         num_attention_heads = 2\nn_shared_experts = 1\nn_routed_experts = 4\nnum_experts_per_tok \
         = 2\nfirst_k_dense_replace = 1\n\
         q_lora_rank = 16\nkv_lora_rank = 16\nqk_nope_head_dim = 8\nqk_rope_head_dim = \
         8\nv_head_dim = 8\n\
         max_position_embeddings = 128\nnum_nextn_predict_layers = {depths}\ninitializer_range = \
         0.05\n\
         [train]\nseq_len = {SEQ_LEN}\nmicro_batch = 1\nsteps = 1\n[schedule]\nlr = \
         1e-3\nglobal_batch = 1\n"
    );
    RunConfig::from_toml(&text, "test").unwrap().model
}

const GREEDY: GenerateOptions = GenerateOptions {
    max_new_tokens: NEW_TOKENS,
    sampling: Sampling::GREEDY,
    stop: EndTokens::NONE,
    form: AttentionForm::Auto,
    speculative: false,
};

fn generate(model: &DeepSeek, prompt: &[u32], options: &GenerateOptions) -> Generation {
    let mut seen = Vec::new();
    let generation = model
        .generate(prompt, options, |token| {
            seen.push(token);
            ControlFlow::Continue(())
        })
        .unwrap();
    // Nobody is shown the token that ends the text.
    let shown = generation.tokens.len() - usize::from(generation.stopped_by.is_some());
    assert_eq!(seen, generation.tokens[..shown]);
    generation
}

/// Beginnings of held-out windows, of one token and more.
fn prompts(data: &TokenData) -> Vec<Vec<u32>> {
    let windows: Vec<Vec<u32>> =
        (0..6).map(|sample| data.train.window(sample + 10_000).tokens).collect();
    windows
        .into_iter()
        .zip([1, 2, 3, 8, 20, 31])
        .map(|(tokens, len)| tokens[..len].to_vec())
        .collect()
}

/// Drafts change how many tokens a pass decides, and nothing else.
fn speculation_changes_nothing(depths: usize) {
    let (model, data) = trained(depths);
    let (mut drafted, mut accepted) = (0, 0);
    for prompt in prompts(data) {
        for sampling in [Sampling::GREEDY, Sampling { temperature: 0.7, top_p: 0.9, seed: 3 }] {
            let plain = generate(model, &prompt, &GenerateOptions { sampling, ..GREEDY });
            assert_eq!(
                (plain.tokens.len(), plain.passes, plain.drafted),
                (NEW_TOKENS, NEW_TOKENS - 1, 0)
            );
            for form in [AttentionForm::Auto, AttentionForm::Absorbed, AttentionForm::Expanded] {
                let fast = generate(
                    model,
                    &prompt,
                    &GenerateOptions { sampling, form, speculative: true, ..GREEDY },
                );
                assert_eq!(fast.tokens, plain.tokens, "prompt {prompt:?}, {sampling:?}, {form:?}");
                assert!(fast.accepted <= fast.drafted);
                assert_eq!(
                    fast.passes + fast.accepted,
                    NEW_TOKENS - 1,
                    "every pass decides one token and those accepted"
                );
                (drafted, accepted) = (drafted + fast.drafted, accepted + fast.accepted);
            }
        }
    }
    println!("{depths} MTP modules: {accepted} of {drafted} drafts accepted");
    assert!(
        accepted > 0 && accepted < drafted,
        "{accepted} of {drafted}: both outcomes have to be seen"
    );
}

#[test]
fn speculation_with_one_mtp_module_changes_nothing() {
    speculation_changes_nothing(1);
}

#[test]
fn speculation_with_two_mtp_modules_changes_nothing() {
    speculation_changes_nothing(2);
}

#[test]
fn naive_and_absorbed_decoding_agree() {
    let (model, data) = trained(1);
    for prompt in prompts(data) {
        let of = |form| generate(model, &prompt, &GenerateOptions { form, ..GREEDY }).tokens;
        assert_eq!(of(AttentionForm::Expanded), of(AttentionForm::Absorbed), "{prompt:?}");
        assert_eq!(of(AttentionForm::Expanded), of(AttentionForm::Auto), "{prompt:?}");
    }
}

/// The cache holds all that the prefix is needed for: fed in pieces, with a rejected draft between
/// them, it gives the same logits.
#[test]
fn pieces_give_the_logits_of_the_whole() {
    let (model, data) = trained(1);
    let tokens = data.train.window(3).tokens;
    for form in [AttentionForm::Expanded, AttentionForm::Absorbed, AttentionForm::Auto] {
        let mut whole = Decoder::new(model, form);
        let hidden = whole.feed(&tokens);
        let expected = whole.logits(hidden, tokens.len());
        let mut pieces = Decoder::new(model, form);
        let mut at = 0;
        for size in [5, 1, 1, 9, 2, 1, tokens.len() - 19] {
            pieces.feed(&[1, 2, 3]);
            pieces.truncate(at);
            let hidden = pieces.feed(&tokens[at..at + size]);
            for (row, got) in pieces.logits(hidden, size).iter().enumerate() {
                let worst = got
                    .iter()
                    .zip(&expected[at + row])
                    .map(|(a, b)| (a - b).abs())
                    .fold(0.0, f32::max);
                assert!(worst < 1e-4, "{form:?} row {}: {worst}", at + row);
            }
            at += size;
        }
        assert_eq!(pieces.len(), tokens.len());
    }
}

/// A token that ends the text ends it in the middle of accepted drafts too, and is the last of it;
/// of several the first to come.
#[test]
fn the_end_of_a_text_is_the_same_with_drafts() {
    let (model, data) = trained(1);
    let mut ended = 0;
    for prompt in prompts(data) {
        let options = GenerateOptions { max_new_tokens: 60, ..GREEDY };
        let whole = generate(model, &prompt, &options).tokens;
        let [space, e] = [b' ', b'e'].map(u32::from);
        for stop in [vec![BYTES_EOD], vec![space], vec![BYTES_EOD, e, space]] {
            let end = whole.iter().position(|token| stop.contains(token));
            let expected = &whole[..end.map_or(whole.len(), |end| end + 1)];
            for speculative in [false, true] {
                let got = generate(
                    model,
                    &prompt,
                    &GenerateOptions {
                        stop: stop.iter().copied().collect(),
                        speculative,
                        ..options
                    },
                );
                assert_eq!(got.tokens, expected, "{prompt:?}, stop {stop:?}, {speculative}");
                assert_eq!(got.stopped_by, end.map(|end| whole[end]));
            }
            ended += usize::from(end.is_some());
        }
    }
    assert!(ended > 0, "no text has ended");
}

#[test]
fn a_listener_may_break_off() {
    let model = DeepSeek::init(&model(1), 1, &Device::flex()).unwrap().no_grad();
    for speculative in [false, true] {
        let mut count = 0;
        let stop_at_3 = |_| {
            count += 1;
            if count == 3 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        let generation = model
            .generate(&[BYTES_EOD], &GenerateOptions { speculative, ..GREEDY }, stop_at_3)
            .unwrap();
        assert_eq!(generation.tokens.len(), 3);
    }
}
