//! Device code in PTX: division by a scale and rounding to FP8, for devices of NVIDIA whose compute
//! capability is 8.9 or more.

use crate::definition::Fp8Format;
use cubecl::prelude::*;

// Numbers come and go as bits: a result of PTX is a variable, and a variable would be handed to other
// PTX as its address, where the result of a reinterpretation is a value.

/// `1 / x`, rounded to nearest.
#[cube]
pub(super) fn rounded_reciprocal(x_bits: u32) -> u32 {
    let x = f32::reinterpret(x_bits);
    let inverse: f32;
    gpu_asm!(
        "rcp.rn.f32 {inverse}, {x};",
        x = in(_) x, inverse = out(_) inverse, options(pure, nomem),
    );
    u32::reinterpret(inverse)
}

/// `x / -negative` from the rounded reciprocal of `-negative`: the product, and what is left of `x`
/// after it. Where the result is beside a tie of an FP8 format it is the nearest FP32 to the
/// quotient, for every divisor; elsewhere it may be the one beside that, which has the same code.
#[cube]
pub(super) fn quotient(x_bits: u32, negative_bits: u32, inverse_bits: u32) -> u32 {
    let x = f32::reinterpret(x_bits);
    let negative = f32::reinterpret(negative_bits);
    let inverse = f32::reinterpret(inverse_bits);
    let result: f32;
    gpu_asm!(
        "{{\n.reg .f32 near, rest;\n",
        "mul.rn.f32 near, {x}, {inverse};\n",
        "fma.rn.f32 rest, near, {negative}, {x};\n",
        "fma.rn.f32 near, rest, {inverse}, near;\n",
        // Minus zero has lost its sign.
        "copysign.f32 {result}, {x}, near;\n}}",
        x = in(_) x, negative = in(_) negative, inverse = in(_) inverse, result = out(_) result,
        options(pure, nomem),
    );
    u32::reinterpret(result)
}

/// The codes nearest to four numbers, ties to even, saturating; NaN becomes 0x7F. The first is in
/// the lowest byte.
#[cube]
pub(super) fn convert_quad(a: u32, b: u32, c: u32, d: u32, #[comptime] format: Fp8Format) -> u32 {
    let (a, b) = (f32::reinterpret(a), f32::reinterpret(b));
    let (c, d) = (f32::reinterpret(c), f32::reinterpret(d));
    let word: u32;
    if comptime!(matches!(format, Fp8Format::E4M3)) {
        gpu_asm!(
            "{{\n.reg .b16 low, high;\n",
            "cvt.rn.satfinite.e4m3x2.f32 low, {b}, {a};\n",
            "cvt.rn.satfinite.e4m3x2.f32 high, {d}, {c};\n",
            "mov.b32 {word}, {{low, high}};\n}}",
            a = in(_) a, b = in(_) b, c = in(_) c, d = in(_) d, word = out(_) word,
            options(pure, nomem),
        );
    } else {
        gpu_asm!(
            "{{\n.reg .b16 low, high;\n",
            "cvt.rn.satfinite.e5m2x2.f32 low, {b}, {a};\n",
            "cvt.rn.satfinite.e5m2x2.f32 high, {d}, {c};\n",
            "mov.b32 {word}, {{low, high}};\n}}",
            a = in(_) a, b = in(_) b, c = in(_) c, d = in(_) d, word = out(_) word,
            options(pure, nomem),
        );
    }
    word
}
