//! Whether this process may use BF16 tiles: what the processor has, and what Linux allows.

use std::arch::x86_64::{__cpuid, __cpuid_count, _xgetbv};
use std::ffi::{c_long, c_ulong};
use std::sync::LazyLock;

/// Says whether tiles may be used, or why not.
///
/// The first call asks the kernel, for all threads at once, those to come included.
pub(in super::super) fn permission() -> Result<(), String> {
    static PERMISSION: LazyLock<Result<(), String>> =
        LazyLock::new(|| present().map_err(String::from).and_then(|()| request()));
    PERMISSION.clone()
}

/// CPUID names BF16 tiles of the size assumed here and the vectors beside them, and the system
/// saves their state.
fn present() -> Result<(), &'static str> {
    // AMX-BF16, AMX-TILE
    const BITS: u32 = 1 << 22 | 1 << 24;
    if __cpuid(0).eax < 0x1D || __cpuid_count(7, 0).edx & BITS != BITS {
        return Err("this processor has no BF16 tiles");
    }
    let vectors = is_x86_feature_detected!("avx512bf16")
        && is_x86_feature_detected!("avx512vbmi")
        && is_x86_feature_detected!("avx512bw");
    if !vectors {
        return Err("there is no AVX512-BF16 or VBMI beside the tiles");
    }
    // Bytes of a tile and how many tiles, bytes of a row, rows.
    let palette = __cpuid_count(0x1D, 1);
    let size = [palette.eax >> 16, palette.ebx >> 16, palette.ebx & 0xFFFF, palette.ecx & 0xFFFF];
    if size != [1024, 8, 64, 16] {
        return Err("this processor's tiles are of another size");
    }
    // SAFETY: AVX-512 has been found, which the instruction comes before.
    if unsafe { _xgetbv(0) } >> 17 & 3 != 3 {
        return Err("the system does not save the state of tiles");
    }
    Ok(())
}

/// Asks for the state of the tiles, which Linux (from 5.16) gives only to those who ask. Refused
/// where a thread has an alternate signal stack on which that state has no room.
fn request() -> Result<(), String> {
    unsafe extern "C" {
        fn syscall(number: c_long, ...) -> c_long;
    }
    const ARCH_PRCTL: c_long = 158;
    const ARCH_REQ_XCOMP_PERM: c_long = 0x1023;
    const TILE_DATA: c_ulong = 18;
    // SAFETY: the call touches no memory of this process.
    if unsafe { syscall(ARCH_PRCTL, ARCH_REQ_XCOMP_PERM, TILE_DATA) } == 0 {
        return Ok(());
    }
    Err(format!("Linux refuses tiles: {}", std::io::Error::last_os_error()))
}
