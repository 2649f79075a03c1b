//! Tokens that choose experts as DeepSeek-V3's do, by chance: 8 of 256, in at most 4 of 8 groups.

use burn_deepseek::definition::ExpertGroups;
use rand::seq::index::sample;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Experts of a layer.
pub(super) const EXPERTS: usize = 256;
/// Experts of a token.
pub(super) const TOP_K: usize = 8;
/// Ranks that share the experts.
pub(super) const RANKS: usize = 16;
/// And those of them that a node has: a node has the experts of one group.
pub(super) const RANKS_A_NODE: usize = 2;
/// Groups of experts, and how many of them a token may use.
const GROUPS: usize = 8;
const GROUPS_A_TOKEN: usize = 4;

const _: () = assert!(RANKS == GROUPS * RANKS_A_NODE && EXPERTS.is_multiple_of(RANKS));

/// Where the tokens go.
pub(super) struct Routing {
    /// The decision.
    pub groups: ExpertGroups,
}

impl Routing {
    /// A routing drawn from a seed, the same each time.
    pub fn random(tokens: usize, seed: u64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let choices: Vec<u32> = (0..tokens).flat_map(|_| token(&mut rng)).collect();
        Self { groups: ExpertGroups::new(&choices, TOP_K, EXPERTS) }
    }
}

/// The experts of a token.
fn token(rng: &mut impl Rng) -> Vec<u32> {
    const A_GROUP: usize = EXPERTS / GROUPS;
    let groups = sample(rng, GROUPS, GROUPS_A_TOKEN).into_vec();
    let places = sample(rng, GROUPS_A_TOKEN * A_GROUP, TOP_K);
    places
        .into_iter()
        .map(|place| (groups[place / A_GROUP] * A_GROUP + place % A_GROUP) as u32)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_has_different_experts_in_few_groups() {
        let groups = Routing::random(50, 3).groups;
        let plan = groups.plan();
        let mut seen = vec![Vec::new(); 50];
        for group in 0..GROUPS {
            for token in plan.tokens_of(group, GROUPS).unwrap() {
                seen[token as usize].push(group);
            }
        }
        assert!(seen.iter().all(|groups| (1..=GROUPS_A_TOKEN).contains(&groups.len())));
        for row in plan.offsets().windows(2) {
            let tokens = &plan.token_of_row()[row[0]..row[1]];
            assert!(tokens.windows(2).all(|pair| pair[0] < pair[1]), "a token has an expert once");
        }
    }
}
