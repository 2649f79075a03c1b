//! Products of codes, and the codes that go into them.

use anyhow::Result;
use cubecl_kernels::metric::calc_diff;
use deepseek_tests::table::Report;

use super::casts::{bits, check_columns, check_rows, unpack};
use super::implementation::{Implementation, product};
use super::{SCALES, Tensors, dims, options, tensor};

/// How far a product may be from the same product of the same codes.
const SAME_CODES: f64 = 1e-6;
/// Against that product rounded to BF16.
const ROUNDED: f64 = 1e-5;
/// Against the product of the numbers before the cast.
const UNQUANTIZED: f64 = 1e-3;

/// `gemm_*`: `c [m, n] = a [m, k] b [n, k]^T`.
pub fn check_gemm(
    implementation: &dyn Implementation,
    case: &Tensors,
    report: &mut Report,
) -> Result<()> {
    let ([m, k], [n, _]) = (dims(tensor(case, "a")?)?, dims(tensor(case, "b")?)?);
    let (a, b) = (tensor(case, "a")?.floats(), tensor(case, "b")?.floats());
    for (scale_name, scale) in SCALES {
        let qa = implementation.quantize_rows(&a, [m, k], &options(scale))?;
        check_rows(&qa, case, &format!("qa_{scale_name}"), &format!("sa_{scale_name}"), report)?;
        let qb = implementation.quantize_blocks(&b, [n, k], &options(scale))?;
        report.exact(
            "codes",
            "qb",
            &unpack(&qb.codes, n, k),
            &tensor(case, &format!("qb_{scale_name}"))?.bytes(),
        );
        report.exact(
            "scales",
            "sb",
            &bits(&qb.scales),
            &bits(&tensor(case, &format!("sb_{scale_name}"))?.floats()),
        );

        let c = implementation.forward(&qa, &qb, [m, n, k])?;
        for (kind, name, limit) in [
            ("product, f64 sums", format!("c_{scale_name}_f64acc"), SAME_CODES),
            ("product", format!("c_{scale_name}"), SAME_CODES),
            ("product, BF16", format!("c_{scale_name}_bf16"), ROUNDED),
            ("unquantized", "c_exact".to_owned(), UNQUANTIZED),
        ] {
            report.add(kind, &name, calc_diff(&c, &tensor(case, &name)?.data).abs(), limit);
        }
    }
    Ok(())
}

/// `linear_*`: `y = x w^T` with weight `[n, k]`, and both gradients.
pub fn check_linear(
    implementation: &dyn Implementation,
    case: &Tensors,
    report: &mut Report,
) -> Result<()> {
    let ([m, k], [n, _]) = (dims(tensor(case, "x")?)?, dims(tensor(case, "w")?)?);
    let (x, w, dy) =
        (tensor(case, "x")?.floats(), tensor(case, "w")?.floats(), tensor(case, "dy")?.floats());
    let unquantized = [
        ("y", product([m, n, k], |i, l| x[i * k + l], |j, l| w[j * k + l])),
        ("dx", product([m, k, n], |i, l| dy[i * n + l], |j, l| w[l * k + j])),
        ("dw", product([n, k, m], |i, l| dy[l * n + i], |j, l| x[l * k + j])),
    ];
    for (scale_name, scale) in SCALES {
        let options = options(scale);
        let (x_rows, x_columns) = implementation.quantize_both(&x, [m, k], &options)?;
        let (dy_rows, dy_columns) = implementation.quantize_both(&dy, [m, n], &options)?;
        let blocks = implementation.quantize_blocks(&w, [n, k], &options)?;
        let tensor_names =
            |what: &str| (format!("q{what}_{scale_name}"), format!("s{what}_{scale_name}"));
        let (q, s) = tensor_names("dy_rows");
        check_rows(&dy_rows, case, &q, &s, report)?;
        for (ours, what) in [(&x_columns, "x_cols"), (&dy_columns, "dy_cols")] {
            let (q, s) = tensor_names(what);
            check_columns(ours, case, &q, &s, report)?;
        }

        let size = [m, n, k];
        let ours = [
            implementation.forward(&x_rows, &blocks, size)?,
            implementation.input_gradient(&dy_rows, &blocks, size)?,
            implementation.weight_gradient(&dy_columns, &x_columns, size)?,
        ];
        for (ours, (what, unquantized)) in ours.iter().zip(&unquantized) {
            let name = format!("{what}_{scale_name}");
            report.add(
                "product",
                &name,
                calc_diff(ours, &tensor(case, &name)?.data).abs(),
                SAME_CODES,
            );
            report.add("unquantized", &name, calc_diff(ours, unquantized).abs(), UNQUANTIZED);
        }
    }
    Ok(())
}
