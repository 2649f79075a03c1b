//! A tile unit (AMX): multiplies blocks of BF16 pairs, and promotes the sums of the block before.
//!
//! `amx` is the unit, `permission` asks whether it may be used, `signal_stack` gives its threads
//! room for its state; `emulated` is the same in plain Rust, to the bit.

use std::ptr;

#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod amx;
mod emulated;
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod permission;
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod signal_stack;
#[cfg(test)]
mod tests;

#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
pub(super) use amx::Amx;
pub(super) use emulated::Emulated;
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
pub(super) use permission::permission;

/// Says why there is no tile unit.
#[cfg(not(all(target_arch = "x86_64", target_os = "linux")))]
pub(super) fn permission() -> Result<(), String> {
    Err("AMX is used on Linux on x86-64 alone".into())
}

/// Rows and columns of a block.
pub(super) const BLOCK: usize = 32;
/// Entries along the depth that one instruction sums over.
pub(super) const STEP: usize = 32;
/// Words of a row's step.
pub(super) const STEP_WORDS: usize = STEP / 2;

/// The sums of one block.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub(super) struct Sums(pub(super) [[f32; BLOCK]; BLOCK]);

/// `sums = left right^T` of 32 rows and columns and `steps` times 32 of depth, and of what comes
/// after them.
#[derive(Clone, Copy)]
pub(super) struct Block {
    /// `[step][row][16]` pairs, from the start of a cache line.
    pub(super) left: *const u32,
    /// `[step][16][column]` pairs, from the start of a cache line.
    pub(super) right: *const u32,
    pub(super) steps: usize,
    /// Further parts of the depth, which lie elsewhere: up to one without steps.
    pub(super) next: *const Segment,
    pub(super) sums: *mut Sums,
}

/// A part of a block's depth, as in [`Block`].
#[derive(Clone, Copy)]
#[repr(C)]
pub(super) struct Segment {
    pub(super) left: *const u32,
    pub(super) right: *const u32,
    pub(super) steps: usize,
}

impl Segment {
    /// What comes after the last one.
    pub(super) const END: Self = Self { left: ptr::null(), right: ptr::null(), steps: 0 };
    /// No further ones.
    pub(super) const NONE: *const Self = &Self::END;
}

/// `to = from + row_scales column_scales sums` of a block. From one row to the next there are
/// `pitch` bytes.
#[derive(Clone, Copy)]
pub(super) struct Promotion {
    pub(super) sums: *const Sums,
    pub(super) row_scales: *const [f32; BLOCK],
    pub(super) column_scales: *const [f32; BLOCK],
    pub(super) from: *const f32,
    pub(super) from_pitch: usize,
    pub(super) to: *mut f32,
    pub(super) to_pitch: usize,
}

impl Promotion {
    /// Nothing to promote.
    pub(super) const NONE: Self = Self {
        sums: ptr::null(),
        row_scales: &ZERO,
        column_scales: &ZERO,
        from: ptr::null(),
        from_pitch: 0,
        to: ptr::null_mut(),
        to_pitch: 0,
    };
}

/// The scales where nothing is promoted.
static ZERO: [f32; BLOCK] = [0.0; BLOCK];

/// A thread's tile unit.
pub(super) trait Tiles {
    /// Configures it; it is released when dropped.
    ///
    /// Until then nothing else on the thread may use tiles, so nothing may be called that waits
    /// for the pool: another task would come in.
    fn new() -> Self;

    /// Multiplies one block, and meanwhile promotes the sums of another.
    ///
    /// # Safety
    /// What both describe can be read and written, and does not overlap; the instruction set of the
    /// unit is there.
    unsafe fn run(&self, block: Option<&Block>, promotion: Option<&Promotion>);
}
