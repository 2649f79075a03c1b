//! Placements of small examples worked out by hand, arguments that are refused, and what holds for
//! any loads.

use proptest::prelude::*;

use super::*;

fn layer(
    loads: &[f32],
    replicas: usize,
    groups: usize,
    nodes: usize,
    gpus: usize,
) -> LayerPlacement {
    rebalance_experts(&[loads.to_vec()], replicas, groups, nodes, gpus).unwrap().layers.remove(0)
}

fn error(loads: &[&[f32]], [replicas, groups, nodes, gpus]: [usize; 4]) -> String {
    let loads: Vec<Vec<f32>> = loads.iter().map(|loads| loads.to_vec()).collect();
    rebalance_experts(&loads, replicas, groups, nodes, gpus).unwrap_err().to_string()
}

/// 9 is split in 4.5 twice, then 5 is the highest and is split in 2.5; heaviest first into the
/// lightest GPU with room.
#[test]
fn the_busiest_experts_are_there_twice() {
    let placement = layer(&[9.0, 5.0, 1.0, 3.0], 6, 1, 1, 2);
    assert_eq!(placement.logcnt().collect::<Vec<_>>(), [2, 2, 1, 1]);
    // 4.5 and 3 on the first GPU, 4.5, 2.5 and 2.5 on the second, which is full then; 1 on the
    // first.
    assert_eq!(placement.phy2log(), [0, 3, 2, 0, 1, 1]);
    assert_eq!(placement.log2phy(), [vec![0, 3], vec![4, 5], vec![2], vec![1]]);
    assert_eq!(placement.gpu_loads(&[9.0, 5.0, 1.0, 3.0]), [8.5, 9.5]);
    assert_eq!(unplaced_gpu_loads(&[9.0, 5.0, 1.0, 3.0], 2), [14.0, 4.0]);
}

/// Expert 1 is on the second GPU twice: its later replica and expert 3, the swap that evens out most.
/// Loads were 8.5 and 9.5; 2.5 goes over and 3 or 1 comes back: 8 and 10, or 10 and 8.
#[test]
fn replicas_on_one_gpu_are_parted() {
    let loads = [9.0, 5.0, 1.0, 3.0];
    let placement = layer(&loads, 6, 1, 1, 2);
    assert_eq!(placement.duplicates(), [Duplicate { gpu: 1, expert: 1, replicas: 2 }]);
    let spread = placement.spread(&loads, 1);
    assert_eq!(spread.duplicates(), []);
    assert_eq!(spread.phy2log(), [0, 1, 2, 0, 1, 3]);
    assert_eq!(spread.log2phy(), [vec![0, 3], vec![4, 1], vec![2], vec![5]]);
    assert_eq!(spread.gpu_loads(&loads), [8.0, 10.0]);
    // Three replicas cannot be on two GPUs without two of them on one.
    let crowded = layer(&[9.0, 1.0, 1.0], 6, 1, 1, 2);
    assert_eq!(crowded.logcnt().collect::<Vec<_>>(), [4, 1, 1]);
    assert_eq!(crowded.spread(&[9.0, 1.0, 1.0], 1).duplicates().len(), 2);
}

/// Groups 0 and 3 together, 1 and 2 together; within a node the first of equals goes first.
#[test]
fn groups_stay_on_their_node() {
    let loads = [4.0, 4.0, 3.0, 3.0, 2.0, 2.0, 1.0, 1.0];
    let placement = rebalance_experts(&[loads.to_vec()], 12, 4, 2, 4).unwrap();
    assert_eq!(placement.policy, Policy::Hierarchical);
    let placement = &placement.layers[0];
    assert!(
        placement.phy2log()[..6].iter().all(|expert| [0, 1, 6, 7].contains(expert)),
        "{placement:?}"
    );
    assert!(
        placement.phy2log()[6..].iter().all(|expert| [2, 3, 4, 5].contains(expert)),
        "{placement:?}"
    );
    assert_eq!(placement.logcnt().collect::<Vec<_>>(), [2, 2, 2, 2, 1, 1, 1, 1]);
}

#[test]
fn groups_that_nodes_cannot_share_are_no_groups() {
    let placement = rebalance_experts(&[vec![8.0, 1.0, 1.0, 1.0]], 6, 3, 2, 2).unwrap();
    assert_eq!(placement.policy, Policy::Global);
    assert_eq!(placement.layers[0], layer(&[8.0, 1.0, 1.0, 1.0], 6, 1, 1, 2));
}

#[test]
fn equal_and_absent_loads_keep_the_order() {
    assert_eq!(layer(&[0.0; 4], 4, 1, 1, 4).phy2log(), [0, 1, 2, 3]);
    assert_eq!(layer(&[2.0; 4], 4, 1, 1, 2).phy2log(), [0, 2, 1, 3]);
    assert_eq!(layer(&[-0.0, 0.0, 0.0, -0.0], 4, 1, 1, 2), layer(&[0.0; 4], 4, 1, 1, 2));
    assert_eq!(
        layer(&[0.0; 2], 5, 1, 1, 1).logcnt().collect::<Vec<_>>(),
        [4, 1],
        "the first of equals"
    );
}

#[test]
fn impossible_arguments_are_refused() {
    let right = [4, 2, 1, 2];
    assert_eq!(
        error(&[], right),
        "there are no loads; give those of the experts of at least one layer"
    );
    assert_eq!(
        error(&[&[]], right),
        "there are no loads; give those of the experts of at least one layer"
    );
    assert_eq!(
        error(&[&[1.0, 2.0], &[1.0]], right),
        "layer 1 of the loads has 1 experts, but layer 0 has 2; all must have as many"
    );
    for (load, text) in [(f32::NAN, "NaN"), (-1.0, "-1"), (f32::INFINITY, "inf")] {
        let expected = format!(
            "expert 1 of layer 0 of the loads has the load {text}; a load is a finite number of at \
             least 0"
        );
        assert_eq!(error(&[&[1.0, load]], right), expected);
    }
    let expected =
        "the loads of layer 0 add up to more than FP32 holds; divide them all by the same number";
    assert_eq!(error(&[&[f32::MAX, f32::MAX]], right), expected);
    for (index, argument) in ["replicas", "groups", "nodes", "gpus"].into_iter().enumerate() {
        let mut arguments = right;
        arguments[index] = 0;
        assert_eq!(error(&[&[1.0, 2.0]], arguments), format!("{argument} must be at least 1"));
    }
    let six: &[f32] = &[1.0; 6];
    assert_eq!(
        error(&[six], [4, 2, 1, 2]),
        "4 replicas are too few for 6 experts; each needs at least one"
    );
    let expected = format!(
        "{} replicas of a layer's experts are more than the 65536 that can be placed",
        usize::MAX
    );
    assert_eq!(error(&[six], [usize::MAX, 1, 1, 1]), expected);
    assert_eq!(
        error(&[six], [8, 4, 2, 4]),
        "6 experts cannot be divided evenly among 4 groups; take a multiple of 4"
    );
    assert_eq!(
        error(&[six], [8, 2, 2, 1]),
        "1 GPUs cannot be divided evenly among 2 nodes; take a multiple of 2"
    );
    assert_eq!(
        error(&[six], [8, 3, 3, 6]),
        "8 replicas cannot be divided evenly among 6 GPUs; take a multiple of 6"
    );
    assert_eq!(
        error(&[six], [8, 3, 2, 3]),
        "8 replicas cannot be divided evenly among 3 GPUs; take a multiple of 3"
    );
}

#[test]
fn a_list_of_replicas_is_checked() {
    let from = |list: &[usize], experts, gpus| {
        LayerPlacement::from_phy2log(list.to_vec(), experts, gpus).map_err(|e| e.to_string())
    };
    assert_eq!(from(&[0, 1, 1, 2], 3, 2).unwrap().log2phy(), [vec![0], vec![1, 2], vec![3]]);
    for gpus in [0, 3] {
        assert_eq!(
            from(&[0, 1], 2, gpus),
            Err(format!("2 replicas cannot be spread evenly over {gpus} GPUs"))
        );
    }
    assert_eq!(
        from(&[0, 3], 2, 1),
        Err("replica 1 is of expert 3, but there are 2 experts".into())
    );
    assert_eq!(from(&[0, 0], 2, 1), Err("expert 1 has no replica".into()));
    assert_eq!(from(&[0, 2], usize::MAX, 1), Err("expert 1 has no replica".into()));
    assert_eq!(from(&[], 0, 0), Err("0 replicas cannot be spread evenly over 0 GPUs".into()));
}

prop_compose! {
    /// Loads with many ties and zeros among them, and numbers that can be divided as they must.
    fn legal()(
        groups_a_node in 1..4usize,
        nodes in 1..4usize,
        group_size in 1..5usize,
        gpus_a_node in 1..4usize,
        spare in 0..4usize,
    )(
        loads in proptest::collection::vec(
            prop_oneof![Just(0f32), (1..6u32).prop_map(|load| load as f32), 0f32..1e6],
            groups_a_node * nodes * group_size,
        ),
        arguments in Just([groups_a_node * nodes, nodes, gpus_a_node * nodes, spare]),
    ) -> (Vec<f32>, [usize; 4]) {
        let [groups, nodes, gpus, spare] = arguments;
        let replicas = (loads.len().div_ceil(gpus) + spare) * gpus;
        (loads, [replicas, groups, nodes, gpus])
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::with_cases(512)
    })]

    #[test]
    fn every_placement_is_one((loads, [replicas, groups, nodes, gpus]) in legal()) {
        let placement = layer(&loads, replicas, groups, nodes, gpus);
        prop_assert_eq!(placement.phy2log().len(), replicas);
        prop_assert_eq!(placement.logcnt().sum::<usize>(), replicas);
        prop_assert!(placement.logcnt().all(|count| count > 0));
        for (expert, places) in placement.log2phy().iter().enumerate() {
            prop_assert!(places.iter().all(|&place| placement.phy2log()[place] == expert));
        }
        // A node has whole groups, and as many as every other.
        for places in placement.phy2log().chunks(replicas / nodes) {
            let group = |expert: &usize| expert * groups / loads.len();
            let mut here: Vec<usize> = places.iter().map(group).collect();
            here.sort_unstable();
            here.dedup();
            prop_assert_eq!(here.len(), groups / nodes);
        }
        // The loads of GPUs are all of the load, and none has less than the busiest replica where
        // that is.
        let gpu_loads = placement.gpu_loads(&loads);
        let (total, placed): (f64, f64) =
            (loads.iter().map(|&load| f64::from(load)).sum(), gpu_loads.iter().sum());
        prop_assert!((total - placed).abs() <= 1e-5 * total, "{} of {}", placed, total);
        prop_assert!(Balance::of(&gpu_loads).ratio() <= gpus as f64 * (1.0 + 1e-5));
        let read =
            LayerPlacement::from_phy2log(placement.phy2log().to_vec(), loads.len(), gpus).unwrap();
        prop_assert_eq!(read.gpu_loads(&loads), gpu_loads);
    }

    /// Swaps within nodes: as many replicas of each expert, on the nodes that they were on, and no
    /// pair on a GPU that another GPU of the node could have taken.
    #[test]
    fn spreading_parts_what_can_be_parted((loads, [replicas, groups, nodes, gpus]) in legal()) {
        let placement = layer(&loads, replicas, groups, nodes, gpus);
        let spread = placement.spread(&loads, nodes);
        prop_assert_eq!(
            spread.logcnt().collect::<Vec<_>>(),
            placement.logcnt().collect::<Vec<_>>()
        );
        let of_node = |placement: &LayerPlacement| -> Vec<Vec<usize>> {
            let sorted = |places: &[usize]| {
                let mut places = places.to_vec();
                places.sort_unstable();
                places
            };
            placement.phy2log().chunks(replicas / nodes).map(sorted).collect()
        };
        prop_assert_eq!(of_node(&spread), of_node(&placement));
        prop_assert!(spread.duplicates().len() <= placement.duplicates().len());
        for (expert, places) in spread.log2phy().iter().enumerate() {
            prop_assert!(places.iter().all(|&place| spread.phy2log()[place] == expert));
        }
        let room = spread.places_a_gpu();
        let on = |gpu: usize| &spread.phy2log()[gpu * room..(gpu + 1) * room];
        for Duplicate { gpu, expert, .. } in spread.duplicates() {
            let of_node = gpus / nodes;
            let node = gpu / of_node * of_node;
            for other in node..node + of_node {
                prop_assert!(
                    on(other).contains(&expert)
                        || on(other).iter().all(|theirs| on(gpu).contains(theirs)),
                    "{:?}", spread
                );
            }
        }
    }

    /// Moving a replica from any expert to another does not lower the busiest replica's load: nor
    /// does any set of such moves.
    #[test]
    fn no_other_numbers_of_replicas_are_better(
        loads in proptest::collection::vec(0..50u32, 1..12),
        spare in 0..12usize,
    ) {
        let loads: Vec<f32> = loads.into_iter().map(|load| load as f32).collect();
        let (_, counts) = replicate(&loads, loads.len() + spare);
        let busiest =
            loads.iter().zip(&counts).map(|(&load, &count)| share(load, count)).fold(0.0, f32::max);
        // To stay under that load an expert needs so many; together they would need more than there
        // are.
        let needed =
            |load: f32| (1..).find(|&count| load == 0.0 || share(load, count) < busiest).unwrap();
        let needed: usize = loads.iter().map(|&load| needed(load)).sum();
        prop_assert!(busiest == 0.0 || needed > loads.len() + spare, "{:?} of {:?}", counts, loads);
    }

    /// Nothing but the proportions of loads counts.
    #[test]
    fn loads_may_be_in_any_unit((loads, [replicas, groups, nodes, gpus]) in legal()) {
        let eighths: Vec<f32> = loads.iter().map(|load| load / 8.0).collect();
        prop_assert_eq!(
            layer(&loads, replicas, groups, nodes, gpus),
            layer(&eighths, replicas, groups, nodes, gpus)
        );
    }

    #[test]
    fn no_arguments_make_it_panic(
        loads in proptest::collection::vec(
            proptest::collection::vec(proptest::num::f32::ANY, 0..5),
            0..3,
        ),
        arguments in proptest::array::uniform4(
            prop_oneof![0..9usize, Just(usize::MAX), any::<usize>()],
        ),
    ) {
        let [replicas, groups, nodes, gpus] = arguments;
        if let Ok(placement) = rebalance_experts(&loads, replicas, groups, nodes, gpus) {
            prop_assert_eq!(placement.layers.len(), loads.len());
        }
    }
}
