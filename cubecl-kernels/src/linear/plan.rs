//! How the units of a cube are laid over a product by tiles in registers.

use super::direct::UNITS;
use crate::device::tile::EACH;

/// Units of a cube along the columns of `C`, so that the fewest are without work; of equals the
/// squarest.
pub(super) fn across(m: usize, n: usize) -> u32 {
    let each = EACH as usize;
    let covered = |across: u32| {
        let (rows, columns) = ((UNITS / across) as usize * each, across as usize * each);
        m.next_multiple_of(rows).saturating_mul(n.next_multiple_of(columns))
    };
    // From the squarest on: a later one must be better to be taken.
    let mut best = 8;
    for across in [4, 16, 2, 32, 1] {
        if covered(across) < covered(best) {
            best = across;
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use super::across;

    #[test]
    fn narrow_results_have_their_units_along_the_rows() {
        assert_eq!(across(2048, 8), 1);
        assert_eq!(across(2048, 256), 8);
        assert_eq!(across(8, 4096), 32);
        assert_eq!(across(1, 1), 8);
        assert_eq!(across(2048, 96), 4);
    }
}
