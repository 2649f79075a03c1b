//! How many nodes and ranks a token's experts are spread over (2.1.2, 3.2.2).

use burn_deepseek::DeepSeekConfig;
use burn_deepseek::config::TopkMethod;
use burn_deepseek::moe::ExpertSelection;
use serde::Serialize;

use crate::data::seeded::Stream;

/// What of a router decides where tokens go, where every expert is as good as any other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Groups {
    /// Routed experts.
    pub experts: usize,
    /// Experts that a token visits.
    pub visited: usize,
    /// Groups of consecutive experts.
    pub groups: usize,
    /// Groups that a token may choose from.
    pub kept: usize,
}

/// Expected distinct places that hold experts of one token.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Spread {
    /// Nodes.
    pub nodes: f64,
    /// Ranks.
    pub ranks: f64,
}

/// The spread under several rules.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Reach {
    /// Nodes that share the experts of a layer.
    pub nodes: usize,
    /// Ranks that do.
    pub ranks: usize,
    /// Whether the router leaves groups out.
    pub limited: bool,
    /// The exact spread of experts drawn at random from all.
    pub unlimited: Spread,
    /// The exact spread of experts drawn at random from groups drawn at random: the kept groups
    /// then say nothing of where their best experts are.
    pub random_groups: Spread,
    /// The spread by the router's own choice of groups, over 8,192 tokens of random scores; as
    /// `unlimited` where no group is left out.
    pub router: Spread,
    /// The most nodes that the experts of the kept groups can be on.
    pub limit: usize,
}

/// Tokens that the router's choice is sampled over; the standard error of a count of nodes is below
/// 0.01.
const SAMPLES: usize = 1 << 13;
/// Random scores that are not drawn more than this often.
const MOST_SCORES: usize = 1 << 23;

impl Groups {
    /// The router of a model.
    pub fn new(model: &DeepSeekConfig) -> Self {
        let limited = model.topk_method != TopkMethod::Greedy;
        let (groups, kept) = if limited { (model.n_group, model.topk_group) } else { (1, 1) };
        Self { experts: model.n_routed_experts, visited: model.num_experts_per_tok, groups, kept }
    }

    /// This router without a limit on groups.
    pub fn unlimited(self) -> Self {
        Self { groups: 1, kept: 1, ..self }
    }

    /// Expected number of `places`, each of which holds as many consecutive experts, that hold one
    /// of a token's experts.
    ///
    /// Groups are drawn at random, and from them the experts. Let a place have `e` of its experts
    /// in kept groups, K experts being in kept groups altogether: it is missed with probability
    /// `C(K - e, k) / C(K, k)`. How many of the groups that a place overlaps are kept is
    /// hypergeometric; places that overlap groups in part are summed over all ways.
    pub fn expected(&self, places: usize) -> f64 {
        let (place, group) = (self.experts / places, self.experts / self.groups);
        let kept_experts = self.kept * group;
        (0..places)
            .map(|index| {
                let (start, end) = (index * place, (index + 1) * place);
                let overlaps: Vec<usize> = (start / group..end.div_ceil(group))
                    .map(|g| end.min((g + 1) * group) - start.max(g * group))
                    .collect();
                // ways[j][e]: in how many ways j of the overlapped groups are kept, with e of the
                // place's experts in them.
                let mut ways = vec![vec![0.0; place + 1]; overlaps.len() + 1];
                ways[0][0] = 1.0;
                for overlap in &overlaps {
                    for kept in (0..overlaps.len()).rev() {
                        for experts in (0..=place - overlap).rev() {
                            ways[kept + 1][experts + overlap] += ways[kept][experts];
                        }
                    }
                }
                let others = self.groups - overlaps.len();
                let of_kept = |(kept, ways): (usize, &Vec<f64>)| {
                    let rest = if kept <= self.kept {
                        ratio(others, self.kept - kept, self.groups, self.kept)
                    } else {
                        0.0
                    };
                    let hit = |(experts, ways): (usize, &f64)| {
                        ways * (1.0 - missed(kept_experts, experts, self.visited))
                    };
                    rest * ways.iter().enumerate().map(hit).sum::<f64>()
                };
                ways.iter().enumerate().map(of_kept).sum::<f64>()
            })
            .sum()
    }
}

/// `C(n - e, k) / C(n, k)`: that none of k of n experts is among e.
fn missed(n: usize, e: usize, k: usize) -> f64 {
    (0..k).map(|i| (n as f64 - e as f64 - i as f64).max(0.0) / (n - i) as f64).product()
}

/// `C(a, b) / C(n, k)`, 0 where b is more than a.
fn ratio(a: usize, b: usize, n: usize, k: usize) -> f64 {
    if b > a { 0.0 } else { (log_choose(a, b) - log_choose(n, k)).exp() }
}

fn log_choose(n: usize, k: usize) -> f64 {
    (0..k).map(|i| ((n - i) as f64 / (i + 1) as f64).ln()).sum()
}

impl Reach {
    /// The spread in a model whose experts are shared by `ranks` ranks of nodes of `gpus_a_node`
    /// GPUs, which they fill one after the other.
    pub fn new(model: &DeepSeekConfig, ranks: usize, gpus_a_node: usize) -> Self {
        let groups = Groups::new(model);
        let nodes = ranks.div_ceil(gpus_a_node);
        let spread = |groups: Groups| Spread {
            nodes: groups.expected(nodes),
            ranks: groups.expected(ranks),
        };
        let unlimited = spread(groups.unlimited());
        let limited = groups.kept < groups.groups;
        let group = groups.experts / groups.groups;
        // A group that does not fill whole nodes may lie on one node more than its size alone would
        // need.
        let nodes_a_group = (0..groups.groups)
            .map(|g| {
                (((g + 1) * group - 1) * nodes / groups.experts)
                    - (g * group * nodes / groups.experts)
                    + 1
            })
            .max()
            .unwrap_or(1);
        Self {
            nodes,
            ranks,
            limited,
            unlimited,
            random_groups: spread(groups),
            router: if limited { sampled(model, nodes, ranks) } else { unlimited },
            limit: (groups.kept * nodes_a_group).min(nodes).min(groups.visited),
        }
    }
}

/// Lets the router choose for tokens of uniformly random scores and no bias.
fn sampled(model: &DeepSeekConfig, nodes: usize, ranks: usize) -> Spread {
    let selection = ExpertSelection::new(model);
    let experts = model.n_routed_experts;
    let samples = SAMPLES.min(MOST_SCORES / experts).max(1);
    let mut stream = Stream::new(0);
    let scores: Vec<f32> = (0..samples * experts).map(|_| stream.unit() as f32).collect();
    let chosen = selection.choose(&scores, &vec![0.0; experts]);
    let distinct = |places: usize| {
        let of_token = |chosen: &[u32]| {
            let mut visited: Vec<usize> =
                chosen.iter().map(|&expert| expert as usize * places / experts).collect();
            visited.sort_unstable();
            visited.dedup();
            visited.len()
        };
        chosen.chunks(model.num_experts_per_tok).map(of_token).sum::<usize>() as f64
            / samples as f64
    };
    Spread { nodes: distinct(nodes), ranks: distinct(ranks) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::resolve_model;

    /// All subsets of `k` of `items`.
    fn subsets(items: &[usize], k: usize) -> Vec<Vec<usize>> {
        let Some((&first, rest)) = items.split_first() else {
            return if k == 0 { vec![Vec::new()] } else { Vec::new() };
        };
        let with = if k == 0 { Vec::new() } else { subsets(rest, k - 1) };
        with.into_iter()
            .map(|subset| [&[first], subset.as_slice()].concat())
            .chain(subsets(rest, k))
            .collect()
    }

    /// The definition: every choice of groups, every choice of experts in them.
    fn counted(groups: Groups, places: usize) -> f64 {
        let all: Vec<usize> = (0..groups.groups).collect();
        let (mut sum, mut choices) = (0, 0);
        for kept in subsets(&all, groups.kept) {
            let experts: Vec<usize> = (0..groups.experts)
                .filter(|e| kept.contains(&(e * groups.groups / groups.experts)))
                .collect();
            for chosen in subsets(&experts, groups.visited) {
                let mut visited: Vec<usize> =
                    chosen.iter().map(|expert| expert * places / groups.experts).collect();
                visited.dedup(); // chosen experts ascend
                sum += visited.len();
                choices += 1;
            }
        }
        f64::from(u32::try_from(sum).unwrap()) / f64::from(choices)
    }

    /// Places that are groups, parts of groups, several groups, and that cut across groups.
    #[test]
    fn the_expectation_is_that_of_all_choices() {
        for (experts, visited, groups, kept, places) in [
            (8, 2, 4, 2, 4),
            (8, 2, 4, 2, 8),
            (8, 3, 4, 2, 2),
            (8, 4, 4, 2, 1),
            (12, 3, 4, 2, 6),
            (12, 3, 4, 1, 3),
            (12, 3, 6, 4, 4),
            (12, 2, 3, 2, 2),
            (9, 2, 1, 1, 3),
        ] {
            let groups = Groups { experts, visited, groups, kept };
            let (expected, counted) = (groups.expected(places), counted(groups, places));
            assert!(
                (expected - counted).abs() < 1e-12,
                "{groups:?} in {places}: {expected}, not {counted}"
            );
        }
    }

    /// By hand: 8 (1 - C(224, 8) / C(256, 8)) and 4 (1 - C(96, 8) / C(128, 8)) nodes, 64 (1 -
    /// C(252, 8) / C(256, 8)) and 32 (1 - C(124, 8) / C(128, 8)) ranks.
    #[test]
    fn deepseek_v3_over_eight_nodes() {
        let model = resolve_model(Some("deepseek-v3-671b"), None, &[]).unwrap();
        let reach = Reach::new(&model, 64, 8);
        for (spread, nodes, ranks) in
            [(reach.unlimited, 5.294_652, 7.675_750), (reach.random_groups, 3.629_011, 7.359_370)]
        {
            assert!(
                (spread.nodes - nodes).abs() < 1e-6 && (spread.ranks - ranks).abs() < 1e-6,
                "{spread:?}"
            );
        }
        assert_eq!((reach.nodes, reach.ranks, reach.limit), (8, 64, 4));
        // The router keeps groups for their best experts, so more of them are visited than of
        // random ones, and never more than four.
        assert!((3.93..3.98).contains(&reach.router.nodes), "{reach:?}");
        assert!((7.45..7.52).contains(&reach.router.ranks), "{reach:?}");
    }

    #[test]
    fn without_groups_the_router_is_free() {
        let model = resolve_model(Some("deepseek-v2-lite-16b"), None, &[]).unwrap();
        let reach = Reach::new(&model, 8, 8);
        assert!(
            !reach.limited
                && reach.router == reach.unlimited
                && reach.random_groups == reach.unlimited
        );
        assert_eq!((reach.unlimited.nodes, reach.limit), (1.0, 1));
        // 8 (1 - C(56, 6) / C(64, 6)).
        assert!((reach.unlimited.ranks - 4.535_516).abs() < 1e-6, "{reach:?}");
    }
}
