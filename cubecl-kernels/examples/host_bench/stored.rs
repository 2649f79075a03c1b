//! Products with weights as a checkpoint stores them, beside those of the same weight in FP32, at a
//! projection of DeepSeek-V2-Lite.

use cubecl_kernels::definition::{LinearShape, ProductFormat, StoredMatrix, StoredRows, tiles};
use cubecl_kernels::host;
use half::bf16;

use crate::case::random;
use crate::{Work, bench};

pub fn linear() {
    let (inputs, outputs) = (2048, 11_264);
    let w = random(2, inputs * outputs);
    let values: Vec<bf16> = w.iter().map(|&x| bf16::from_f32(x)).collect();
    let codes: Vec<u8> = w.iter().map(|&x| (x * 120.0) as i8 as u8).collect();
    let scales = random(3, tiles(outputs) * tiles(inputs));
    let forms = [
        ("bf16", StoredRows::Bf16(&values)),
        ("fp8", StoredRows::E4m3 { codes: &codes, scales: &scales }),
    ];
    for rows in [1, 4, 64] {
        let (x, shape) = (random(1, rows * inputs), LinearShape { rows, inputs, outputs });
        for (name, stored) in forms {
            let stored = StoredMatrix::new(inputs, [(outputs, stored)]).unwrap();
            bench(
                &format!("stored_linear {rows} {name} | f32"),
                Work::Flop(2 * rows * inputs * outputs),
                || host::stored_linear(&x, &stored, rows).unwrap(),
                || host::linear(&x, &w, &shape, ProductFormat::F32).unwrap(),
            );
        }
    }
}
