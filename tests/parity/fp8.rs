//! FP8 against PyTorch: codes and scales bit for bit, products by [`calc_diff`], every case found.
//!
//! The checks know an [`Implementation`] only: the plain form, and tensors on each device.

mod casts;
mod implementation;
mod products;

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, bail};
use cubecl_kernels::definition::{QuantizeOptions, ScaleFormat};
use deepseek_tests::devices;
use deepseek_tests::fixture::{self, Values};
use deepseek_tests::table::Report;

use implementation::{Implementation, OnDevice, Plain};

/// The tensors of a case.
type Tensors = BTreeMap<String, Values>;

/// The two ways to round scales, and what they are called in the names of tensors.
const SCALES: [(&str, ScaleFormat); 2] =
    [("f32", ScaleFormat::F32), ("pow2", ScaleFormat::PowerOfTwo)];

#[test]
fn parity_fp8() {
    let mut implementations: Vec<Box<dyn Implementation>> = vec![Box::new(Plain)];
    implementations.extend(
        devices::all().into_iter().map(|(name, device)| Box::new(OnDevice { name, device }) as _),
    );
    let mut failures = Vec::new();
    for implementation in implementations.iter().map(Box::as_ref) {
        println!("implementation {}", implementation.name());
        for case in fixture::files("fp8").expect("fixtures") {
            let name = case.file_stem().expect("a file has a name").to_string_lossy().into_owned();
            match check_case(implementation, &name, &case) {
                Ok(report) => {
                    println!("  {name}: {}", if report.passed() { "pass" } else { "FAIL" });
                    print!("{report}");
                    if !report.passed() {
                        failures.push(format!("{name}, {}\n{report}", implementation.name()));
                    }
                }
                Err(error) => {
                    println!("  {name}: FAIL {error:#}");
                    failures.push(format!("{name}, {}: {error:#}", implementation.name()));
                }
            }
        }
    }
    assert!(failures.is_empty(), "{} cases differ:\n{}", failures.len(), failures.join("\n"));
}

/// Checks one case by the kind that its name begins with.
fn check_case(implementation: &dyn Implementation, name: &str, path: &Path) -> Result<Report> {
    let case = &fixture::read(path)?;
    let mut report = Report::default();
    match name.split('_').next().unwrap_or_default() {
        "act" => casts::check_activations(implementation, case, &mut report)?,
        "weight" => casts::check_weights(implementation, case, &mut report)?,
        "tiles" => {
            let rows =
                fixture::metadata(path)?.remove("rows").context("the metadata name no rows")?;
            casts::check_tiles(implementation, case, &rows, &mut report)?;
        }
        "special" => casts::check_special(implementation, case, &mut report)?,
        "gemm" => products::check_gemm(implementation, case, &mut report)?,
        "linear" => products::check_linear(implementation, case, &mut report)?,
        _ => bail!(
            "no check is known for a case of this name: act_*, weight_*, tiles, special_cast, \
             gemm_* and linear_* are"
        ),
    }
    Ok(report)
}

/// The report's recipe with this rounding of scales.
fn options(scale: ScaleFormat) -> QuantizeOptions {
    QuantizeOptions { scale, ..QuantizeOptions::default() }
}

fn tensor<'a>(case: &'a Tensors, name: &str) -> Result<&'a Values> {
    case.get(name).with_context(|| format!("the case has no tensor {name}"))
}

/// A tensor's two dimensions.
fn dims(values: &Values) -> Result<[usize; 2]> {
    values
        .shape
        .as_slice()
        .try_into()
        .with_context(|| format!("a shape of {:?} has not two dimensions", values.shape))
}
