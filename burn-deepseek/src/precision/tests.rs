//! The table of formats, held against the report's.

use super::*;

#[test]
fn the_report_s_table() {
    let precision = Precision::Fp8(Fp8Recipe::default());
    for operation in Operation::ALL {
        let expected = match operation {
            Operation::Embedding | Operation::Norm | Operation::Router => "FP32",
            Operation::Attention | Operation::Head => "BF16",
            Operation::ExpertGateUp => "E4M3 1x128 2^n | E4M3 128x128",
            _ => "E4M3 1x128 | E4M3 128x128",
        };
        assert_eq!(precision.rule(operation).describe(), expected, "{operation:?}");
    }
    let Rule::Fp8(after_attention) = precision.rule(Operation::AttentionOutput) else {
        panic!("o_proj is in FP8")
    };
    assert_eq!(after_attention.kept, KeptActivation::E5m6);
    let Rule::Fp8(down) = precision.rule(Operation::ExpertDown) else {
        panic!("experts are in FP8")
    };
    assert_eq!(down.gradients.scale, ScaleFormat::PowerOfTwo);
}

#[test]
fn three_parts_are_for_what_has_weights() {
    for operation in Operation::ALL {
        let expected = match operation {
            Operation::Embedding | Operation::Norm | Operation::Router | Operation::Attention => {
                "FP32"
            }
            _ => "FP32 as 3 BF16",
        };
        assert_eq!(Precision::Bf16x3.rule(operation).describe(), expected, "{operation:?}");
    }
    assert!(Precision::Bf16x3.is_f32() && !Precision::Bf16.is_f32());
}

#[test]
fn f32_is_f32_everywhere() {
    assert!(
        Operation::ALL
            .iter()
            .all(|&operation| Precision::F32.rule(operation) == Rule::Plain(ProductFormat::F32))
    );
}
