//! The tile unit in plain Rust, the same to the bit: so that all around it is tested on machines
//! without one.

use super::{BLOCK, Block, Promotion, STEP_WORDS, Segment, Tiles};

/// The tile unit, emulated.
pub(in super::super) struct Emulated;

impl Tiles for Emulated {
    fn new() -> Self {
        Self
    }

    // Into functions that have FMA: without it `mul_add` is a call.
    #[inline(always)]
    unsafe fn run(&self, block: Option<&Block>, promotion: Option<&Promotion>) {
        // SAFETY: the caller vouches for what both describe.
        unsafe {
            if let Some(promotion) = promotion {
                promote(promotion);
            }
            if let Some(block) = block {
                multiply(block);
            }
        }
    }
}

/// # Safety
/// What `x` describes can be read and written, and does not overlap.
#[inline(always)]
unsafe fn promote(x: &Promotion) {
    for r in 0..BLOCK {
        // SAFETY: the caller vouches for 32 numbers of each row.
        unsafe {
            let from = *x.from.byte_add(r * x.from_pitch).cast::<[f32; BLOCK]>();
            let (sums, columns) = (&(*x.sums).0[r], &*x.column_scales);
            let row = (*x.row_scales)[r];
            let mut to = [0.0; BLOCK];
            for c in 0..BLOCK {
                to[c] = (row * columns[c]).mul_add(sums[c], from[c]);
            }
            *x.to.byte_add(r * x.to_pitch).cast() = to;
        }
    }
}

/// # Safety
/// What `x` describes can be read and written, and does not overlap.
#[inline(always)]
unsafe fn multiply(x: &Block) {
    // SAFETY: the caller vouches for the steps of both operands, up to a segment that has none, and
    // for the sums.
    unsafe {
        let sums = &mut (*x.sums).0;
        *sums = [[0.0; BLOCK]; BLOCK];
        let mut segment = Segment { left: x.left, right: x.right, steps: x.steps };
        let mut next = x.next;
        while segment.steps > 0 {
            let left = &*segment.left.cast::<[[u32; STEP_WORDS]; BLOCK]>();
            let right = &*segment.right.cast::<[[u32; BLOCK]; STEP_WORDS]>();
            let mut columns = [[[0.0f32; BLOCK]; 2]; STEP_WORDS];
            for (columns, words) in columns.iter_mut().zip(right) {
                for c in 0..BLOCK {
                    [columns[0][c], columns[1][c]] = halves(words[c]);
                }
            }
            for (row, sums) in left.iter().zip(sums.iter_mut()) {
                // Even and odd entries apart, from zero; then both together; then onto the sum.
                let mut parts = [[0.0f32; BLOCK]; 2];
                for (&word, columns) in row.iter().zip(&columns) {
                    let row = halves(word);
                    for half in 0..2 {
                        for c in 0..BLOCK {
                            parts[half][c] =
                                flush(row[half].mul_add(columns[half][c], parts[half][c]));
                        }
                    }
                }
                for c in 0..BLOCK {
                    sums[c] = flush(sums[c] + flush(parts[0][c] + parts[1][c]));
                }
            }
            segment = Segment {
                left: segment.left.add(BLOCK * STEP_WORDS),
                right: segment.right.add(STEP_WORDS * BLOCK),
                steps: segment.steps - 1,
            };
            if segment.steps == 0 {
                (segment, next) = (*next, next.add(1));
            }
        }
    }
}

/// Both numbers of a pair, the lower one first.
#[inline(always)]
fn halves(word: u32) -> [f32; 2] {
    [flush(f32::from_bits(word << 16)), flush(f32::from_bits(word & 0xFFFF_0000))]
}

/// Subnormal numbers count as zero, in and out.
#[inline(always)]
fn flush(x: f32) -> f32 {
    let bits = x.to_bits();
    f32::from_bits(if bits & 0x7F80_0000 == 0 { bits & 0x8000_0000 } else { bits })
}
