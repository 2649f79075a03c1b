//! Floating-point operations of a step, and the path on which most of them run.

use burn_deepseek::Precision;
use burn_deepseek::backend::GemmPath;

use crate::config::RunConfig;
use crate::device::SelectedDevice;
use crate::plan::Work;

/// Operations of a GFLOP.
pub(super) const GIGA: f64 = 1e9;

/// Operations of the products of a step over so many tokens, forward and backward, attention over
/// its causal half included, and the MTP modules where they run. Each product of the forward pass
/// has two of its size in the backward pass; what is computed twice counts once.
pub(in super::super) fn operations(config: &RunConfig, mtp: bool, tokens: usize) -> f64 {
    let mut model = config.model.clone();
    if !mtp {
        model.num_nextn_predict_layers = 0;
    }
    let work = Work::new(&model, &config.precision.precision(), config.train.seq_len);
    work.total().training() * tokens as f64
}

/// The path of most of a step's products; none where they are not computed by this crate's own
/// operations on the CPU.
pub(in super::super) fn products_path(
    config: &RunConfig,
    selected: &SelectedDevice,
) -> Option<GemmPath> {
    if selected.name != "flex" {
        return None;
    }
    match config.precision.precision() {
        Precision::F32 => Some(GemmPath::of_fp32()),
        // Six BF16 products in the place of one: no rate of an instruction is their peak.
        Precision::Bf16x3 => None,
        Precision::Bf16 | Precision::Fp8(_) => GemmPath::choice().ok().map(|choice| choice.path),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ConfigRequest;

    fn bench(set: &[&str]) -> RunConfig {
        let set = set.iter().map(ToString::to_string).collect();
        ConfigRequest { config: Some("bench".into()), set, ..ConfigRequest::default() }
            .resolve()
            .unwrap()
    }

    /// By hand for the model of `bench` and sequences of 255 tokens, which see 128 keys on average.
    #[test]
    fn a_step_of_the_bench_is_counted_by_hand() {
        let config = bench(&["train.seq_len=255"]);
        // q_a, q_b, kv_a, kv_b, o.
        let attention = 256 * 96 + 96 * 4 * 48 + 256 * 80 + 64 * 4 * 64 + 4 * 32 * 256;
        let (dense, expert) = (3 * 256 * 512, 3 * 256 * 128);
        let layers = 4 * attention + dense + 3 * (3 * expert + 8 * 256);
        let head = 256 * 4096;
        let pairs = 4 * 4 * (48 + 32) * 128;
        let expected = 6.0 * f64::from(layers + head + pairs) * 1000.0;
        assert_eq!(operations(&config, false, 1000), expected);
    }

    #[test]
    fn modules_of_mtp_count_where_they_run() {
        let config = bench(&["model.num_nextn_predict_layers=1"]);
        let (with, without) = (operations(&config, true, 10), operations(&config, false, 10));
        assert_eq!(without, operations(&bench(&[]), true, 10));
        // eh_proj, the head and a layer of experts at least.
        assert!(with - without > 60.0 * f64::from(2 * 256 * 256 + 256 * 4096), "{with} {without}");
    }

    #[test]
    fn products_take_a_path_of_this_machine_or_none() {
        let flex = SelectedDevice::flex();
        let path = |set: &[&str]| products_path(&bench(set), &flex).unwrap();
        assert_eq!(path(&[]), GemmPath::of_fp32());
        assert_eq!(path(&["precision.format=fp8"]), GemmPath::choice().unwrap().path);
        let gpu = SelectedDevice { name: "wgpu:0".into(), on_cpu: false, ..flex };
        assert_eq!(products_path(&bench(&[]), &gpu), None);
    }
}
