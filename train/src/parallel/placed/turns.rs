//! Which replica of an expert computes which rows: whichever has computed fewest.

use burn_deepseek::definition::ExpertGroups;

use crate::parallel::eplb::LayerPlacement;

/// Rows of an expert that a replica gets at least, where those of one pass are divided.
///
/// A replica reads all of its weights however few rows it has. And Flex computes small products (up
/// to 4 rows, or up to 256 numbers) in ways of their own, whose last bits are others: with no parts
/// that small but where the whole is, a row has the same bits wherever it is computed. (In experts
/// narrower than 33 a part of so few rows may still be small.)
const ROWS_A_REPLICA: usize = 8;

/// The rows that each place of a layer's experts has computed.
#[derive(Clone, Debug)]
pub(super) struct Turns {
    rows: Vec<u64>,
}

impl Turns {
    pub fn new(placement: &LayerPlacement) -> Self {
        Self { rows: vec![0; placement.phy2log().len()] }
    }

    /// Rows of each place so far.
    pub fn rows(&self) -> &[u64] {
        &self.rows
    }

    /// The place that each slot of `groups` is computed in. Of an expert's replicas those with the
    /// fewest rows so far are taken, the first of equals; how many, is decided by the number of its
    /// rows.
    pub fn take(&mut self, placement: &LayerPlacement, groups: &ExpertGroups) -> Vec<u32> {
        let mut place_of_row = Vec::with_capacity(groups.rows());
        for (bounds, replicas) in groups.offsets().windows(2).zip(placement.log2phy()) {
            let count = bounds[1] - bounds[0];
            if count == 0 {
                continue;
            }
            let parts = (count / ROWS_A_REPLICA).clamp(1, replicas.len());
            let mut replicas = replicas.clone();
            replicas.sort_by_key(|&place| self.rows[place]);
            for (part, &place) in replicas[..parts].iter().enumerate() {
                let rows = count / parts + usize::from(part < count % parts);
                self.rows[place] += rows as u64;
                place_of_row.extend(std::iter::repeat_n(place as u32, rows));
            }
        }
        groups.row_of_slot().iter().map(|&row| place_of_row[row as usize]).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two GPUs with two places each: expert 0 has three of them, expert 1 the other.
    fn placement() -> LayerPlacement {
        LayerPlacement::from_phy2log(vec![0, 1, 0, 0], 2, 2).unwrap()
    }

    #[test]
    fn single_rows_go_to_the_replicas_in_turn() {
        let (placement, mut turns) = (placement(), Turns::new(&placement()));
        let taken: Vec<Vec<u32>> =
            (0..4).map(|_| turns.take(&placement, &ExpertGroups::new(&[0, 1], 2, 2))).collect();
        assert_eq!(taken, [[0, 1], [2, 1], [3, 1], [0, 1]]);
        assert_eq!(turns.rows(), [2, 4, 1, 1]);
    }

    #[test]
    fn many_rows_are_divided_and_few_are_not() {
        let (placement, mut turns) = (placement(), Turns::new(&placement()));
        let rows = |turns: &mut Turns, count: usize| {
            let taken = turns.take(&placement, &ExpertGroups::new(&vec![0; count], 1, 2));
            [0, 2, 3].map(|place| taken.iter().filter(|&&taken| taken == place).count())
        };
        assert_eq!(rows(&mut turns, 15), [15, 0, 0]);
        assert_eq!(rows(&mut turns, 17), [0, 9, 8]);
        assert_eq!(rows(&mut turns, 26), [8, 9, 9]);
        assert_eq!(turns.rows(), [23, 0, 18, 17]);
        assert_eq!(turns.take(&placement, &ExpertGroups::new(&[], 1, 2)), [] as [u32; 0]);
    }
}
