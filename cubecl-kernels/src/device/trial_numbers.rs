//! Numbers that kernels are tried on.

/// `count` numbers between -1 and 1 from a seed, most of them none of BF16.
pub(crate) fn trial_numbers(seed: u32, count: usize) -> Vec<f32> {
    let mut state = seed;
    (0..count)
        .map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1 << 23) as f32 - 1.0
        })
        .collect()
}
