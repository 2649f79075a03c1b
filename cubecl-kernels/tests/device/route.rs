//! Choices and tables against plain host forms, bit for bit.

use crate::client::{client, upload, upload_words, words};
use crate::oracle::random;
use cubecl::prelude::Client;
use cubecl_kernels::KernelError;
use cubecl_kernels::definition::{DispatchPlan, GroupScore, GroupedColumns, RouteShape};
use cubecl_kernels::reference;
use cubecl_kernels::route::{RouteTables, choose_experts, route, route_choices};

const V3: RouteShape = RouteShape {
    tokens: 0,
    experts: 256,
    top_k: 8,
    groups: 8,
    kept_groups: 4,
    group_score: GroupScore::BestTwo,
};

#[track_caller]
fn assert_choices(name: &str, client: &Client, scores: &[f32], bias: &[f32], shape: &RouteShape) {
    let expected = reference::route(scores, bias, shape);
    let (on_device, bias) = (upload(client, scores), upload(client, bias));
    let choices = choose_experts(client, &on_device, Some(&bias), shape).unwrap();
    let actual = words(client, &choices, shape.slots());
    if let Some(slot) = actual.iter().zip(&expected).position(|(a, e)| a != e) {
        let token = slot / shape.top_k;
        let own = |all: &[u32]| all[token * shape.top_k..][..shape.top_k].to_vec();
        let scores = &scores[token * shape.experts..][..shape.experts];
        panic!("{name}, token {token} of {scores:?}: {:?}, not {:?}", own(&actual), own(&expected));
    }
}

/// Few values, so that most rows have ties, among experts as among groups.
fn ties(seed: u64, count: usize) -> Vec<f32> {
    random(seed, count).into_iter().map(|x| (x * 4.0).round() / 8.0).collect()
}

#[test]
fn a_million_rows_with_ties() {
    let client = client();
    let (limited, best) = (GroupScore::BestTwo, GroupScore::Best);
    let mut rows = 0;
    for (seed, (tokens, experts, top_k, groups, kept_groups, group_score)) in [
        (20_000, 256, 8, 8, 4, limited),
        (20_000, 160, 6, 8, 3, best),
        (60_000, 64, 6, 1, 1, limited),
        (100_000, 16, 4, 4, 2, limited),
        (150_000, 16, 2, 8, 2, best),
        (250_000, 8, 3, 4, 3, limited),
        (200_000, 8, 8, 8, 1, limited),
        (200_000, 5, 1, 1, 1, best),
    ]
    .into_iter()
    .enumerate()
    {
        let shape = RouteShape { tokens, experts, top_k, groups, kept_groups, group_score };
        let (scores, bias) = (ties(seed as u64, tokens * experts), ties(99, experts));
        assert_choices(&format!("{shape:?}"), &client, &scores, &bias, &shape);
        rows += tokens;
    }
    assert_eq!(rows, 1_000_000);
}

/// Rows without a tie, and the scores of a model: sigmoids with small biases.
#[test]
fn rows_without_ties() {
    let client = client();
    let shape = RouteShape { tokens: 3000, ..V3 };
    let scores: Vec<f32> = random(5, shape.tokens * shape.experts)
        .iter()
        .map(|x| 1.0 / (1.0 + (-4.0 * x).exp()))
        .collect();
    let bias: Vec<f32> = random(6, shape.experts).iter().map(|x| 0.01 * x).collect();
    assert_choices("sigmoids", &client, &scores, &bias, &shape);
}

/// Every pair of hard numbers as score and bias of the first expert, among a few others.
#[test]
fn hard_numbers() {
    let client = client();
    let hard = [
        f32::NAN,
        -f32::NAN,
        f32::INFINITY,
        f32::NEG_INFINITY,
        0.0,
        -0.0,
        f32::MAX,
        f32::MIN,
        f32::MIN_POSITIVE,
        1.0,
        -1.0,
    ];
    for group_score in [GroupScore::BestTwo, GroupScore::Best] {
        for (experts, top_k, groups, kept_groups) in
            [(4, 2, 1, 1), (4, 2, 2, 1), (4, 3, 4, 2), (6, 5, 3, 2), (1, 1, 1, 1)]
        {
            for bias in hard {
                let mut scores = Vec::new();
                for (i, first) in hard.into_iter().enumerate() {
                    for second in hard {
                        let others = [second, 0.0, hard[(i + 3) % hard.len()], -0.0, 1.0];
                        scores.push(first);
                        scores.extend(&others[..experts - 1]);
                    }
                }
                let tokens = hard.len() * hard.len();
                let shape = RouteShape { tokens, experts, top_k, groups, kept_groups, group_score };
                let mut biases = vec![0.0; experts];
                biases[0] = bias;
                assert_choices(&format!("{shape:?} {bias}"), &client, &scores, &biases, &shape);
            }
        }
    }
}

#[test]
fn no_bias_is_one_of_zeros() {
    let client = client();
    let shape = RouteShape { tokens: 50, kept_groups: 8, ..V3 };
    let scores = ties(1, shape.tokens * shape.experts);
    let expected = reference::route(&scores, &vec![0.0; shape.experts], &shape);
    let choices = choose_experts(&client, &upload(&client, &scores), None, &shape).unwrap();
    assert_eq!(words(&client, &choices, shape.slots()), expected);
}

#[track_caller]
fn assert_tables(client: &Client, tables: &RouteTables, choices: &[u32]) {
    let RouteShape { experts, top_k, .. } = tables.shape;
    let plan = DispatchPlan::new(choices, top_k, experts).unwrap();
    let read = |handle, count| words(client, handle, count);
    let layout = GroupedColumns::new("test", plan.offsets(), plan.rows()).unwrap();
    let table: Vec<u32> = [plan.offsets(), &layout.words, &layout.tiles]
        .into_iter()
        .flatten()
        .map(|&x| x as u32)
        .collect();
    assert_eq!(read(&tables.choices, plan.rows()), choices);
    assert_eq!(read(&tables.loads, experts), plan.counts());
    assert_eq!(read(&tables.table, table.len()), table);
    assert_eq!(read(&tables.row_of_slot, plan.rows()), plan.row_of_slot());
    assert_eq!(read(&tables.token_of_row, plan.rows()), plan.token_of_row());
    let slot_of_row = read(&tables.slot_of_row, plan.rows());
    for (slot, &row) in plan.row_of_slot().iter().enumerate() {
        assert_eq!(slot_of_row[row as usize], slot as u32);
    }
}

/// Loads of every kind: even, all on one expert, experts without a token, runs that end in the
/// middle, no token at all.
#[test]
fn tables_are_those_of_the_host() {
    let client = client();
    for (tokens, experts, top_k) in
        [(0, 4, 2), (1, 1, 1), (3, 4, 2), (128, 8, 2), (129, 8, 2), (1000, 64, 6), (700, 257, 3)]
    {
        let shape = RouteShape {
            tokens,
            experts,
            top_k,
            groups: 1,
            kept_groups: 1,
            group_score: GroupScore::Best,
        };
        let scores = ties(tokens as u64, tokens * experts);
        let bias = random(4, experts);
        let (on_device, on_device_bias) = (upload(&client, &scores), upload(&client, &bias));
        let tables = route(&client, &on_device, Some(&on_device_bias), &shape).unwrap();
        assert_tables(&client, &tables, &reference::route(&scores, &bias, &shape));

        let one: Vec<u32> = (0..tokens * top_k).map(|slot| (slot % top_k) as u32).collect();
        let tables = route_choices(&client, upload_words(&client, &one), &shape).unwrap();
        assert_tables(&client, &tables, &one);
    }
}

#[test]
fn wrong_arguments_are_named() {
    let client = client();
    let (scores, bias) = (upload(&client, &[0.0; 12]), upload(&client, &[0.0; 4]));
    let shape = RouteShape { tokens: 3, experts: 4, top_k: 2, groups: 1, kept_groups: 1, ..V3 };
    let run = |shape| route(&client, &scores, Some(&bias), &shape).map(drop);
    assert!(run(shape).is_ok());
    let more = RouteShape { tokens: 4, ..shape };
    assert!(matches!(run(more), Err(KernelError::Length { argument: "scores", .. })));
    let wide = RouteShape { tokens: 2, experts: 6, ..shape };
    assert!(matches!(run(wide), Err(KernelError::Length { argument: "bias", .. })));
    let many = RouteShape { tokens: 0, experts: 128, top_k: 65, ..shape };
    assert!(matches!(run(many), Err(KernelError::Invalid { argument: "top_k", .. })));
    let uneven = RouteShape { groups: 3, ..shape };
    assert!(matches!(run(uneven), Err(KernelError::Invalid { argument: "groups", .. })));
    let choices = upload_words(&client, &[0; 5]);
    let error = route_choices(&client, choices, &shape).unwrap_err();
    assert!(matches!(error, KernelError::Length { argument: "choices", .. }), "{error}");
}
