//! Items in packs of equally many, the packs of nearly equal weight: the heaviest first, each into
//! the lightest pack with room.

/// Where an item went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Slot {
    /// The pack.
    pub pack: usize,
    /// How many were in it before.
    pub position: usize,
}

/// The slot of each item. Of equal weights the first item goes first, of equally light packs the
/// first is taken; packs of one item take the items in their order.
///
/// `packs` divides the number of items. Weights are summed in FP32.
pub(super) fn pack(weights: &[f32], packs: usize) -> Vec<Slot> {
    let room = weights.len() / packs;
    if room == 1 {
        return (0..packs).map(|pack| Slot { pack, position: 0 }).collect();
    }
    let mut slots = vec![Slot::default(); weights.len()];
    let mut filled = vec![(0f32, 0usize); packs];
    for item in heaviest_first(weights) {
        let mut lightest: Option<usize> = None;
        for (pack, &(weight, items)) in filled.iter().enumerate() {
            if items < room && lightest.is_none_or(|best| weight < filled[best].0) {
                lightest = Some(pack);
            }
        }
        let pack = lightest.expect("invariant: there is room for every item");
        let (weight, items) = &mut filled[pack];
        slots[item] = Slot { pack, position: *items };
        *weight += weights[item];
        *items += 1;
    }
    slots
}

/// Items by weight, heaviest first; a stable order.
fn heaviest_first(weights: &[f32]) -> Vec<usize> {
    let mut items: Vec<usize> = (0..weights.len()).collect();
    // Loads are checked to be finite; adding zero makes -0 and 0 the equals that they are.
    items.sort_by(|&a, &b| (weights[b] + 0.0).total_cmp(&(weights[a] + 0.0)));
    items
}
