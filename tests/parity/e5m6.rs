//! E5M6 as DeepSeek's published kernels pack it: bytes, scales and values of every case found, bit
//! for bit.

use std::collections::BTreeMap;

use anyhow::{Context, Result, anyhow, ensure};
use burn::backend::Dispatch;
use burn::tensor::{Device, Int, Tensor, TensorData, bf16};
use burn_deepseek::backend::fp8::Fp8Kernels;
use cubecl_kernels::definition::{E5m6, ScaleFormat, e5m6_words};
use cubecl_kernels::{host, reference};
use deepseek_tests::devices;
use deepseek_tests::fixture::{self, Values};
use deepseek_tests::table::Report;

/// The two ways to round scales, and what they are called in the names of tensors.
const SCALES: [(&str, ScaleFormat); 2] =
    [("f32", ScaleFormat::F32), ("pow2", ScaleFormat::PowerOfTwo)];

#[test]
fn parity_e5m6() {
    let mut failures = Vec::new();
    for path in fixture::files("e5m6").expect("fixtures") {
        let name = path.file_stem().expect("a file has a name").to_string_lossy().into_owned();
        match fixture::read(&path).and_then(|case| check(&case)) {
            Ok(report) => {
                println!("{name}\n{report}");
                if !report.passed() {
                    failures.push(format!("{name}\n{report}"));
                }
            }
            Err(error) => failures.push(format!("{name}: {error:#}")),
        }
    }
    assert!(failures.is_empty(), "{} cases differ:\n{}", failures.len(), failures.join("\n"));
}

fn check(case: &BTreeMap<String, Values>) -> Result<Report> {
    let tensor = |name: &str| case.get(name).with_context(|| format!("no tensor {name}"));
    let x = tensor("x")?;
    let [rows, cols]: [usize; 2] =
        x.shape.as_slice().try_into().context("x has not two dimensions")?;
    ensure!(cols % 8 == 0, "{cols} columns do not fill whole words");
    let x = x.floats();
    let half: Vec<bf16> = x.iter().map(|&x| bf16::from_f32(x)).collect();
    let is_half = half.iter().zip(&x).all(|(half, x)| half.to_f32().to_bits() == x.to_bits());
    let mut report = Report::default();
    for (suffix, scale) in SCALES {
        let wanted = Wanted {
            packed: tensor(&format!("packed_{suffix}"))?.bytes(),
            scales: tensor(&format!("s_{suffix}"))?.floats(),
            values: tensor(&format!("dequant_{suffix}"))?.floats(),
        };
        let ours = reference::quantize_e5m6(&x, rows, cols, scale);
        let values = reference::dequantize_e5m6(&ours.codes, &ours.scales, rows, cols);
        wanted.compare("plain", suffix, &ours, &values, &mut report);
        let ours = host::quantize_e5m6(&x, rows, cols, scale)?;
        let values = host::dequantize_e5m6(&ours.codes, &ours.scales, rows, cols)?;
        wanted.compare("host", suffix, &ours, &values, &mut report);
        if is_half {
            let ours = host::quantize_e5m6(&half, rows, cols, scale)?;
            wanted.compare("host, BF16", suffix, &ours, &values, &mut report);
        }
        // What a model keeps has scales that are powers of two.
        if scale == ScaleFormat::PowerOfTwo {
            for (name, device) in devices::all() {
                let (ours, values) = on_device(&x, [rows, cols], &device)?;
                wanted.compare(name, suffix, &ours, &values, &mut report);
            }
        }
    }
    Ok(report)
}

/// What a case has.
struct Wanted {
    packed: Vec<u8>,
    scales: Vec<f32>,
    values: Vec<f32>,
}

impl Wanted {
    fn compare(&self, who: &str, suffix: &str, ours: &E5m6, values: &[f32], report: &mut Report) {
        let name = format!("{who}, {suffix}");
        let packed: Vec<u8> = ours.codes.iter().flat_map(|word| word.to_le_bytes()).collect();
        let bits = |x: &[f32]| x.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
        report.exact("packed", &name, &packed, &self.packed);
        report.exact("scales", &name, &bits(&ours.scales), &bits(&self.scales));
        report.exact("values", &name, &bits(values), &bits(&self.values));
    }
}

fn on_device(x: &[f32], [rows, cols]: [usize; 2], device: &Device) -> Result<(E5m6, Vec<f32>)> {
    let x = Tensor::<2>::from_data(TensorData::new(x.to_vec(), [rows, cols]), device);
    let kept = Dispatch::e5m6_quantize(x.into_dispatch());
    let codes = Tensor::<2, Int>::from_dispatch(kept.codes.clone()).into_data();
    let scales = Tensor::<2>::from_dispatch(kept.scales.clone()).into_data();
    let values = Tensor::<2>::from_dispatch(Dispatch::e5m6_dequantize(kept, cols)).into_data();
    let e5m6 = E5m6 {
        codes: codes.try_to_vec().map_err(|error| anyhow!("{error:?}"))?,
        scales: scales.try_to_vec().map_err(|error| anyhow!("{error:?}"))?,
    };
    ensure!(e5m6.codes.len() == rows * e5m6_words(cols), "{} words", e5m6.codes.len());
    Ok((e5m6, values.try_to_vec().map_err(|error| anyhow!("{error:?}"))?))
}
