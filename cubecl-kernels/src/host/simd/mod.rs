//! Run-time choice of instruction set, and the vector arithmetic that the host operations share.
//!
//! A kernel is written once as plain loops over 16 lanes. [`multiversion!`] compiles it for
//! AVX-512, for AVX2 with FMA and for the target's baseline, and picks one when called. Inside, `S`
//! names the version: elementwise loops vectorise by themselves with [`madd`], sums are kept in
//! `S::V` registers (left to itself the compiler scatters them).

use std::sync::LazyLock;

mod arithmetic;
mod fp8;
mod prefetch;
mod registers;
mod transpose;
#[cfg(target_arch = "x86_64")]
mod transpose_avx512;

pub(crate) use arithmetic::{axpy, bf16_bits, dot, exp, max, round_to_bf16};
pub(crate) use fp8::plain as plain_fp8;
#[cfg(target_arch = "x86_64")]
pub(crate) use fp8::{factor, halves, halves_of_32, widen, widen8};
pub(crate) use prefetch::{LINE_BYTES, prefetch, prefetch_later};
#[cfg(target_arch = "x86_64")]
pub(crate) use registers::{Avx2, Avx512};
pub(crate) use registers::{BYTES, LANES, Plain, Simd, lane_sum, madd};
#[cfg(target_arch = "x86_64")]
pub(crate) use transpose::transpose8;
#[cfg(target_arch = "x86_64")]
pub(crate) use transpose_avx512::transpose as transpose_avx512;

/// The instruction sets with a version of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Isa {
    /// AVX-512 F, BW, DQ, VL.
    #[cfg(target_arch = "x86_64")]
    Avx512,
    /// AVX2, FMA and F16C.
    #[cfg(target_arch = "x86_64")]
    Avx2,
    /// What the target always has.
    Baseline,
}

/// The environment's variable that asks for the path of products, and keeps everything else to its
/// instruction set.
pub(crate) const FORCED_ISA: &str = "CUBECL_KERNELS_ISA";

/// What [`FORCED_ISA`] says, where it says something.
pub(crate) fn forced_isa() -> Option<&'static str> {
    static FORCED: LazyLock<Option<String>> = LazyLock::new(|| {
        let name = std::env::var_os(FORCED_ISA)?.to_string_lossy().into_owned();
        (!name.is_empty()).then_some(name)
    });
    FORCED.as_deref()
}

/// The best instruction set of this machine, or the lesser one that [`FORCED_ISA`] keeps it to.
#[inline]
pub(crate) fn isa() -> Isa {
    static ISA: LazyLock<Isa> = LazyLock::new(|| match forced_isa() {
        Some("baseline") => Isa::Baseline,
        #[cfg(target_arch = "x86_64")]
        Some("avx2") if best_isa() != Isa::Baseline => Isa::Avx2,
        _ => best_isa(),
    });
    *ISA
}

fn best_isa() -> Isa {
    #[cfg(target_arch = "x86_64")]
    {
        if is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512dq")
            && is_x86_feature_detected!("avx512vl")
            && is_x86_feature_detected!("fma")
        {
            return Isa::Avx512;
        }
        if is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("fma")
            && is_x86_feature_detected!("f16c")
        {
            return Isa::Avx2;
        }
    }
    Isa::Baseline
}

/// Defines a function compiled for every [`Isa`] and dispatched at run time.
///
/// The body sees a type `S:` [`Simd`]. At most one constant generic of type `usize` may follow the
/// name.
macro_rules! multiversion {
    ($(#[$meta:meta])* $vis:vis fn $name:ident $(<const $generic:ident: usize>)? (
        $($arg:ident: $ty:ty),* $(,)?
    ) $(-> $ret:ty)? $body:block) => {
        $(#[$meta])*
        #[allow(clippy::too_many_arguments)]
        $vis fn $name $(<const $generic: usize>)? ($($arg: $ty),*) $(-> $ret)? {
            #[inline(always)]
            #[allow(clippy::extra_unused_type_parameters)]
            fn body<S: $crate::host::simd::Simd $(, const $generic: usize)?>(
                $($arg: $ty),*
            ) $(-> $ret)? $body

            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
                fn avx512 $(<const $generic: usize>)? ($($arg: $ty),*) $(-> $ret)? {
                    body::<$crate::host::simd::Avx512 $(, $generic)?>($($arg),*)
                }
                #[target_feature(enable = "avx2,fma,f16c")]
                fn avx2 $(<const $generic: usize>)? ($($arg: $ty),*) $(-> $ret)? {
                    body::<$crate::host::simd::Avx2 $(, $generic)?>($($arg),*)
                }
                use $crate::host::simd::{Isa, isa};
                match isa() {
                    // SAFETY: `isa` has just found AVX-512 F, BW, DQ, VL and FMA on this machine.
                    Isa::Avx512 => return unsafe { avx512 $(::<$generic>)? ($($arg),*) },
                    // SAFETY: `isa` has just found AVX2, FMA and F16C on this machine.
                    Isa::Avx2 => return unsafe { avx2 $(::<$generic>)? ($($arg),*) },
                    Isa::Baseline => {}
                }
            }
            body::<$crate::host::simd::Plain $(, $generic)?>($($arg),*)
        }
    };
}
pub(crate) use multiversion;
