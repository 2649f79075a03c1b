//! Codes and scales of activations and weights, the hard tiles, and every code there is.

use anyhow::{Result, ensure};
use burn::tensor::bf16;
use cubecl_kernels::definition::{
    AMAX_FLOOR, CODES_A_WORD, Fp8Format, QuantizeOptions, Quantized, ScaleFormat, TILE, decode_fp8,
    encode_fp8, tiles, words,
};
use deepseek_tests::table::Report;

use super::implementation::Implementation;
use super::{SCALES, Tensors, dims, options, tensor};

/// The codes of `rows` packed rows of `cols`, without padding; both codes of NaN as one.
pub fn unpack(codes: &[u32], rows: usize, cols: usize) -> Vec<u8> {
    let code = |r: usize, c: usize| {
        (codes[r * words(cols) + c / CODES_A_WORD] >> (8 * (c % CODES_A_WORD))) as u8
    };
    same_nan(&(0..rows * cols).map(|i| code(i / cols, i % cols)).collect::<Vec<_>>())
}

fn same_nan(codes: &[u8]) -> Vec<u8> {
    codes.iter().map(|&code| if code == 0xFF { 0x7F } else { code }).collect()
}

/// Bits, those of any NaN the same.
pub fn bits(x: &[f32]) -> Vec<u32> {
    x.iter().map(|x| if x.is_nan() { f32::NAN.to_bits() } else { x.to_bits() }).collect()
}

fn transpose<T: Copy>(x: &[T], rows: usize, cols: usize) -> Vec<T> {
    (0..cols).flat_map(|c| (0..rows).map(move |r| x[r * cols + c])).collect()
}

/// Records row tiles of `[rows, cols]` against the codes `q` and the scales `s` of a case.
pub fn check_rows(
    ours: &Quantized,
    case: &Tensors,
    q: &str,
    s: &str,
    report: &mut Report,
) -> Result<()> {
    let [rows, cols] = dims(tensor(case, q)?)?;
    report.exact(
        "codes",
        q,
        &unpack(&ours.codes, rows, cols),
        &same_nan(&tensor(case, q)?.bytes()),
    );
    report.exact("scales", s, &bits(&ours.scales), &bits(&tensor(case, s)?.floats()));
    Ok(())
}

/// Compares column tiles, whose codes and scales the case has in the order of the matrix:
/// `[rows, cols]`, `[tiles(rows), cols]`.
pub fn check_columns(
    ours: &Quantized,
    case: &Tensors,
    q: &str,
    s: &str,
    report: &mut Report,
) -> Result<()> {
    let [rows, cols] = dims(tensor(case, q)?)?;
    let wanted = transpose(&same_nan(&tensor(case, q)?.bytes()), rows, cols);
    report.exact("transposed codes", q, &unpack(&ours.codes, cols, rows), &wanted);
    let wanted = transpose(&tensor(case, s)?.floats(), tiles(rows), cols);
    report.exact("transposed scales", s, &bits(&ours.scales), &bits(&wanted));
    Ok(())
}

/// `act_*`: row tiles of `x`, of `x` rounded to BF16, and back.
pub fn check_activations(
    implementation: &dyn Implementation,
    case: &Tensors,
    report: &mut Report,
) -> Result<()> {
    let dims = dims(tensor(case, "x")?)?;
    let x = tensor(case, "x")?.floats();
    let rounded = tensor(case, "x_bf16_rounded")?.floats();
    let half: Vec<bf16> = rounded.iter().map(|&x| bf16::from_f32(x)).collect();
    ensure!(
        half.iter().zip(&rounded).all(|(half, x)| half.to_f32() == *x),
        "x_bf16_rounded is not BF16"
    );
    for (name, scale) in SCALES {
        let ours = implementation.quantize_rows(&x, dims, &options(scale))?;
        check_rows(&ours, case, &format!("q_{name}"), &format!("s_{name}"), report)?;
        let back = bits(&implementation.dequantize_rows(&ours, dims)?);
        report.exact(
            "dequantized",
            name,
            &back,
            &bits(&tensor(case, &format!("dequant_{name}"))?.floats()),
        );
        let both = implementation.quantize_both(&x, dims, &options(scale))?;
        report.exact("rows of both", name, &[both.0], &[ours]);
        report.exact(
            "columns of both",
            name,
            &[both.1],
            &[implementation.quantize_columns(&x, dims, &options(scale))?],
        );

        let (q, s) = (format!("q_bf16in_{name}"), format!("s_bf16in_{name}"));
        check_rows(
            &implementation.quantize_rows(&rounded, dims, &options(scale))?,
            case,
            &q,
            &s,
            report,
        )?;
        let ours = implementation.quantize_rows_bf16(&half, dims, &options(scale))?;
        check_rows(&ours, case, &q, &s, report)?;
    }
    Ok(())
}

/// `weight_*`: blocks of `w` in both orientations, and back.
pub fn check_weights(
    implementation: &dyn Implementation,
    case: &Tensors,
    report: &mut Report,
) -> Result<()> {
    let dims = dims(tensor(case, "w")?)?;
    let ([n, k], w) = (dims, tensor(case, "w")?.floats());
    for (name, scale) in SCALES {
        let ours = implementation.quantize_blocks(&w, dims, &options(scale))?;
        let (q, s) = (format!("q_{name}"), format!("s_{name}"));
        let wanted = same_nan(&tensor(case, &q)?.bytes());
        report.exact("codes", &q, &unpack(&ours.codes, n, k), &wanted);
        report.exact(
            "transposed codes",
            &q,
            &unpack(&ours.transposed, k, n),
            &transpose(&wanted, n, k),
        );
        report.exact("scales", &s, &bits(&ours.scales), &bits(&tensor(case, &s)?.floats()));
        let back = bits(&implementation.dequantize_blocks(&ours, dims)?);
        report.exact(
            "dequantized",
            name,
            &back,
            &bits(&tensor(case, &format!("dequant_{name}"))?.floats()),
        );
    }
    Ok(())
}

/// `tiles`: named rows of one tile each, as rows and as columns; and rows with an infinity and with
/// a NaN.
///
/// The case also has codes by another rule, `x * (1 / scale)`, and with another floor of amax. They
/// show how far such a rule is from the division: at most one step, and only where amax is below
/// the floor.
pub fn check_tiles(
    implementation: &dyn Implementation,
    case: &Tensors,
    names: &str,
    report: &mut Report,
) -> Result<()> {
    let [rows, cols] = dims(tensor(case, "x")?)?;
    let (names, x): (Vec<&str>, _) = (names.split(',').collect(), tensor(case, "x")?.floats());
    ensure!(names.len() == rows && cols == TILE, "{} names for {rows} rows of {cols}", names.len());
    for (name, scale) in SCALES {
        let (q, s) = (
            tensor(case, &format!("q_{name}_div"))?.bytes(),
            tensor(case, &format!("s_{name}_div"))?.floats(),
        );
        let together = implementation.quantize_rows(&x, [rows, cols], &options(scale))?;
        check_rows(&together, case, &format!("q_{name}_div"), &format!("s_{name}_div"), report)?;
        let other = tensor(case, &format!("q_{name}_mul"))?.bytes();
        let floored = tensor(case, &format!("q_{name}_div_eps1e-12"))?.bytes();
        for (r, row) in names.iter().enumerate() {
            let range = r * TILE..(r + 1) * TILE;
            let (x, q) = (&x[range.clone()], same_nan(&q[range.clone()]));
            let ours = implementation.quantize_rows(x, [1, TILE], &options(scale))?;
            report.exact("codes of a row", row, &unpack(&ours.codes, 1, TILE), &q);
            report.exact("scale of a row", row, &bits(&ours.scales), &bits(&s[r..r + 1]));
            let ours = implementation.quantize_columns(x, [TILE, 1], &options(scale))?;
            report.exact("codes of a column", row, &unpack(&ours.codes, 1, TILE), &q);
            report.exact("scale of a column", row, &bits(&ours.scales), &bits(&s[r..r + 1]));

            let steps = q
                .iter()
                .zip(&other[range.clone()])
                .map(|(&a, &b)| f64::from(a.abs_diff(b)))
                .fold(0.0, f64::max);
            report.add("steps from x * (1/s)", row, steps, 1.0);
            if x.iter().any(|x| x.abs() >= AMAX_FLOOR) {
                report.exact("codes, lower floor", row, &same_nan(&floored[range]), &q);
            }
        }
    }
    let exponents: Vec<u8> =
        tensor(case, "s_pow2_div")?.floats().iter().map(|s| (s.to_bits() >> 23) as u8).collect();
    report.exact("exponents", "s_pow2_e8m0", &exponents, &tensor(case, "s_pow2_e8m0")?.bytes());
    for special in ["inf", "nan"] {
        let x = tensor(case, &format!("x_{special}"))?.floats();
        for (suffix, scale) in [("", ScaleFormat::F32), ("_pow2", ScaleFormat::PowerOfTwo)] {
            let ours = implementation.quantize_rows(&x, [1, TILE], &options(scale))?;
            check_rows(
                &ours,
                case,
                &format!("q_{special}{suffix}"),
                &format!("s_{special}{suffix}"),
                report,
            )?;
        }
    }
    Ok(())
}

/// `special_cast`: the value of every code, and the codes of numbers that are hard to round, at a
/// scale of 1.
pub fn check_special(
    implementation: &dyn Implementation,
    case: &Tensors,
    report: &mut Report,
) -> Result<()> {
    let decoded = tensor(case, "decode_f32")?.floats();
    let every: Vec<u32> =
        (0..64u32).map(|w| u32::from_le_bytes([0, 1, 2, 3].map(|i| (4 * w + i) as u8))).collect();
    let ours = implementation
        .dequantize_rows(&Quantized { codes: every, scales: vec![1.0; 2] }, [1, 256])?;
    report.exact("decoded", "decode_f32", &bits(&ours), &bits(&decoded));
    let definition: Vec<f32> = (0..=255).map(|code| decode_fp8(code, Fp8Format::E4M3)).collect();
    report.exact("decoded by definition", "decode_f32", &bits(&definition), &bits(&decoded));

    for (input, output) in [
        ("cast_input", "cast_saturate"),
        ("random_input", "random_saturate"),
        ("cast_input", "cast_torch"),
    ] {
        let (x, wanted) = (tensor(case, input)?.floats(), same_nan(&tensor(case, output)?.bytes()));
        let codes: Vec<u8> = x.iter().map(|&x| encode_fp8(x, Fp8Format::E4M3)).collect();
        report.exact("encoded by definition", output, &same_nan(&codes), &wanted);

        // Tiles of scale 1: each begins with the largest value, and nothing in it is larger.
        let (x, wanted): (Vec<f32>, Vec<u8>) = x
            .iter()
            .zip(&wanted)
            .filter(|(x, _)| x.abs() <= 448.0)
            .map(|(&x, &code)| (x, code))
            .unzip();
        let mut tiles: Vec<f32> = x
            .chunks(TILE - 1)
            .flat_map(|x| std::iter::once(448.0).chain(x.iter().copied()))
            .collect();
        let count = tiles.len().div_ceil(TILE);
        tiles.resize(count * TILE, 0.0);
        for (name, dims) in [("one row", [1, count * TILE]), ("rows", [count, TILE])] {
            let ours = implementation.quantize_rows(&tiles, dims, &QuantizeOptions::default())?;
            report.exact("scales of 1", name, &ours.scales, &vec![1.0; count]);
            let codes = unpack(&ours.codes, count, TILE);
            let codes: Vec<u8> = codes
                .chunks(TILE)
                .flat_map(|tile| tile[1..].iter().copied())
                .take(wanted.len())
                .collect();
            report.exact("encoded", output, &codes, &wanted);
        }
    }

    // What saturating means: beyond the largest value the other rule gives NaN, up to its rounding
    // the two agree.
    let x = tensor(case, "cast_input")?.floats();
    let (ours, other) =
        (tensor(case, "cast_saturate")?.bytes(), tensor(case, "cast_nan_on_overflow")?.bytes());
    let within = |codes: &[u8]| {
        same_nan(
            &x.iter()
                .zip(codes)
                .filter(|(x, _)| x.abs() <= 464.0)
                .map(|(_, &code)| code)
                .collect::<Vec<_>>(),
        )
    };
    report.exact("saturation", "cast_nan_on_overflow", &within(&ours), &within(&other));
    Ok(())
}
