//! The formats as constants, for which the loops over codes are compiled.

/// E4M3.
pub(super) const E4M3: usize = 0;
/// E5M2.
pub(super) const E5M2: usize = 1;
/// E5M6.
pub(super) const E5M6: usize = 2;

/// Calls a function compiled for each FP8 format.
macro_rules! for_format {
    ($format:expr, $name:ident $args:tt) => {
        match $format {
            $crate::definition::Fp8Format::E4M3 => {
                $name::<{ $crate::host::quantize::format::E4M3 }> $args
            }
            $crate::definition::Fp8Format::E5M2 => {
                $name::<{ $crate::host::quantize::format::E5M2 }> $args
            }
        }
    };
}
pub(super) use for_format;

/// How much larger than `|x / scale|` the encoder of FP8 is given it: `2^7` or `2^15`.
///
/// It makes a biased FP32 exponent agree with the format's, modulo 2 to its exponent bits.
pub(super) const fn enlarged(format: usize) -> f32 {
    if format == E4M3 { 128.0 } else { 32768.0 }
}
