//! Products of three BF16 parts: near FP32 on a tile unit, and refused where there is none.

use crate::bounded::Bounded;
use crate::workplace::{Finished, Workplace, number};

const THIRDS: &str = "--set precision.products=bf16x3";

/// A run on Flex whose products take the given path.
fn train(place: &Workplace, isa: &str, more: &str) -> Finished {
    let arguments = format!("train --config ./tiny.toml --device flex --steps 4 {more}");
    let output = place.command(&arguments).env("CUBECL_KERNELS_ISA", isa).ended();
    Finished::of(&arguments, output)
}

#[test]
fn three_parts_train_as_fp32_does() {
    let place = Workplace::new();
    train(&place, "amx-emulated", "--run-dir f32").ok();
    train(&place, "amx-emulated", &format!("--run-dir thirds {THIRDS}")).ok();
    let losses = |run: &str| -> Vec<f64> {
        let steps = place.metrics(run).into_iter().filter(|line| line["kind"] == "step");
        steps.map(|line| number(&line, "loss")).collect()
    };
    let (f32, thirds) = (losses("f32"), losses("thirds"));
    assert_eq!((f32.len(), thirds.len()), (4, 4));
    assert_ne!(f32, thirds, "the products are others");
    for (f32, thirds) in f32.iter().zip(&thirds) {
        assert!((thirds / f32 - 1.0).abs() < 1e-5, "{thirds} against {f32}");
    }
}

#[test]
fn three_parts_need_a_tile_unit_and_fp32() {
    let place = Workplace::new();
    let problem = ["precision.products = \"bf16x3\"", "tile unit", "f32"];
    train(&place, "baseline", THIRDS).failed(2, &problem);
    let problem = ["precision.products = \"bf16x3\" needs precision.format = \"f32\""];
    train(&place, "amx-emulated", &format!("{THIRDS} --set precision.format=fp8"))
        .failed(2, &problem);
}
