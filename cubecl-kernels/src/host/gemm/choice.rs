//! Which path products take: AMX where it is permitted, else the faster of `vdpbf16ps` and FP32.
//!
//! The two are timed rather than looked up: `vdpbf16ps` has twice FP32's rate on AMD's processors
//! and half of it on Intel's, and under a hypervisor a processor's name says little.

use std::sync::LazyLock;

use super::path::GemmPath;
#[cfg(target_arch = "x86_64")]
use super::rates::pairs_beside_fp32;
use super::tile_unit::permission;
use crate::definition::KernelError;
use crate::host::simd::{FORCED_ISA, forced_isa};

/// Which path products take, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice {
    /// The path of products of many rows. Beside a tile unit products of few take
    /// [`GemmPath::Avx512Bf16`] instead, where packing decides, and not the products themselves;
    /// not where a path was asked for.
    pub path: GemmPath,
    /// Why this one: a part of a sentence.
    pub why: String,
}

impl GemmPath {
    /// Gives the path that products take, by what this processor does or as
    /// `CUBECL_KERNELS_ISA` asks, and why. It is found at the first call, which takes some 50 us
    /// and asks the operating system for permission to use tiles; a program may make it at its
    /// start.
    ///
    /// Few rows may take another path than many ([`Choice`]).
    ///
    /// # Errors
    /// [`KernelError::Invalid`] where `CUBECL_KERNELS_ISA` names no path, or none of this machine;
    /// products then take the path that they would take without it.
    pub fn choice() -> Result<Choice, KernelError> {
        forced_isa().map_or_else(|| Ok(fitting().clone()), asked_for)
    }
}

/// What fits this processor, whatever is asked for.
pub(super) fn fitting() -> &'static Choice {
    static FITTING: LazyLock<Choice> = LazyLock::new(|| fit(permission()));
    &FITTING
}

/// The path of this name, which was asked for.
fn asked_for(name: &str) -> Result<Choice, KernelError> {
    let path = GemmPath::named(name).filter(|path| path.is_available());
    path.map(|path| Choice { path, why: format!("{FORCED_ISA} asks for it") }).ok_or(
        KernelError::Invalid {
            op: "host products",
            argument: FORCED_ISA,
            requirement: "must be amx, amx-emulated, avx512-bf16, avx512, avx2 or baseline, and \
                          what this machine has",
        },
    )
}

fn fit(permission: Result<(), String>) -> Choice {
    let has = |path: GemmPath| path.is_available();
    let without_tiles = match permission {
        Ok(()) if has(GemmPath::Amx) => {
            let why = "this processor has BF16 tiles, and the system permits them".into();
            return Choice { path: GemmPath::Amx, why };
        }
        Ok(()) => "AMX needs AVX-512".into(),
        Err(why) => why,
    };
    #[cfg(target_arch = "x86_64")]
    if has(GemmPath::Avx512Bf16) {
        let ratio = pairs_beside_fp32();
        let (path, verb) =
            if ratio > 1.0 { (GemmPath::Avx512Bf16, "is") } else { (GemmPath::Avx512, "is only") };
        let why = format!("vdpbf16ps {verb} {ratio:.1} times FP32 here; {without_tiles}");
        return Choice { path, why };
    }
    let path = [GemmPath::Avx512, GemmPath::Avx2].into_iter().find(|&path| has(path));
    let why = format!("the widest FP32 here, and there is no vdpbf16ps; {without_tiles}");
    Choice { path: path.unwrap_or(GemmPath::Baseline), why }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_chosen_once_and_says_why() {
        let fitting = fitting();
        assert!(fitting.path.is_available());
        assert_ne!(fitting.path, GemmPath::AmxEmulated, "tests alone use it");
        assert!(!fitting.why.is_empty());
        // The suite also runs with paths asked for.
        let choice = GemmPath::choice().unwrap();
        match forced_isa() {
            Some(name) => {
                assert_eq!(choice.path.name(), name);
                assert_eq!(choice.why, "CUBECL_KERNELS_ISA asks for it");
            }
            None => assert_eq!(choice, *fitting),
        }
    }

    #[test]
    fn a_refusal_leaves_the_vectors_and_is_told() {
        let choice = fit(Err("Linux refuses tiles: no room".into()));
        assert!(!choice.path.has_tiles());
        assert!(choice.why.ends_with("; Linux refuses tiles: no room"), "{}", choice.why);
    }

    #[test]
    fn a_name_that_is_none_is_refused() {
        for name in ["", "AMX", "sse4"] {
            let error = asked_for(name).unwrap_err().to_string();
            assert!(error.starts_with("host products: `CUBECL_KERNELS_ISA` must be amx, "));
        }
        assert_eq!(asked_for("baseline").unwrap().path, GemmPath::Baseline);
    }
}
