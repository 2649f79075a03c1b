//! Schedules of every kind are proved and cost what the report says; schedules that something
//! happened to are refused.

mod properties;

use super::*;
use crate::parallel::PipelineScheduleKind;

const UNIT: Costs = Costs::UNIT;

fn of(kind: PipelineScheduleKind, ranks: usize, chunks: usize) -> PipelineSchedule {
    PipelineSchedule::new(kind, ranks, chunks).unwrap()
}

fn bubble(kind: PipelineScheduleKind, ranks: usize, chunks: usize) -> f64 {
    let schedule = of(kind, ranks, chunks);
    let [at_exchanges, where_needed] = [Waiting::AtExchanges, Waiting::WhereNeeded]
        .map(|w| simulate(&schedule, &UNIT, w).unwrap().bubble());
    assert_eq!(at_exchanges, where_needed, "{kind} {ranks} {chunks}");
    at_exchanges
}

/// The report's table, from schedules that were carried out, and from its formulas.
#[test]
fn bubbles_of_the_report() {
    for (kind, expected) in [
        (PipelineScheduleKind::OneFOneB, [9.0, 21.0, 45.0]),
        (PipelineScheduleKind::Zb1p, [3.0, 7.0, 15.0]),
        (PipelineScheduleKind::DualPipe, [2.0, 6.0, 14.0]),
        (PipelineScheduleKind::DualPipeV, [6.0, 14.0, 30.0]),
    ] {
        for (ranks, expected) in [4, 8, 16].into_iter().zip(expected) {
            assert_eq!(kind.bubble(ranks, &UNIT), expected, "{kind} {ranks}");
            for chunks in [2 * ranks, 3 * ranks, 5 * ranks] {
                assert_eq!(bubble(kind, ranks, chunks), expected, "{kind} {ranks} {chunks}");
            }
        }
    }
}

/// Parameters 1x and 2x; activations PP and PP + 1, DualPipeV's stages being half as large.
#[test]
fn parameters_and_activations_of_the_report() {
    for ranks in [2, 4, 8, 16] {
        for (kind, copies, held) in [
            (PipelineScheduleKind::OneFOneB, 1, ranks),
            (PipelineScheduleKind::Zb1p, 1, ranks),
            (PipelineScheduleKind::DualPipe, 2, ranks + 1),
            (PipelineScheduleKind::DualPipeV, 1, 2 * ranks + 1),
        ] {
            let schedule = of(kind, ranks, 2 * ranks);
            let stages: usize =
                (0..ranks).map(|rank| schedule.stages_of(rank).iter().flatten().count()).sum();
            assert_eq!(
                (stages, kind.parameter_copies()),
                (copies * schedule.stages, copies),
                "{kind} {ranks}"
            );
            let peak = validate(&schedule).unwrap().peak_activations.into_iter().max();
            assert_eq!((peak, kind.activations(ranks)), (Some(held), held), "{kind} {ranks}");
        }
    }
}

/// Steps 1 to 8 of 8 ranks and 20 chunks, in the units of the published code: a turn of its loop in
/// each step.
#[test]
fn steps_of_eight_ranks_and_twenty_chunks() {
    let schedule = of(PipelineScheduleKind::DualPipe, 8, 20);
    let expected = [
        [6, 1, 3, 3, 3, 1, 3, 1],
        [4, 2, 2, 4, 2, 2, 2, 2],
        [2, 3, 1, 5, 1, 3, 1, 3],
        [0, 4, 0, 6, 0, 4, 0, 4],
    ];
    for rank in 0..8 {
        let count = |step: usize, wanted: fn(&Action) -> bool| {
            schedule.actions[rank]
                .iter()
                .filter(|planned| planned.step == step && wanted(&planned.action))
                .count()
        };
        let forwards = |step| count(step, |action| matches!(action, Action::Forward(_)));
        let backwards = |step| count(step, |action| matches!(action, Action::Backward { .. }));
        let overlapped = |step| count(step, |action| matches!(action, Action::Overlapped { .. }));
        let weights = |step| count(step, |action| matches!(action, Action::Weights(_)));
        // F; F F; B W F; F&B F&B (the first of the ranks in the middle apart, as F B); B F&B; B B;
        // W B; W.
        let apart = forwards(4).min(1);
        let turns = [
            forwards(1),
            forwards(2) / 2,
            weights(3),
            (overlapped(4) + apart) / 2,
            overlapped(5),
            backwards(6) / 2,
            weights(7),
            weights(8),
        ];
        assert_eq!(turns, expected[rank.min(7 - rank)], "rank {rank}");
        assert_eq!([backwards(3), forwards(3)], [turns[2]; 2], "rank {rank}");
        assert_eq!([backwards(5), backwards(7)], [turns[4], turns[6]], "rank {rank}");
    }
}

/// Messages that take time make a schedule longer, and an F&B that takes less makes it shorter.
#[test]
fn costs_decide() {
    let schedule = of(PipelineScheduleKind::DualPipe, 4, 8);
    let makespan = |costs: Costs, waiting| simulate(&schedule, &costs, waiting).unwrap().makespan();
    for waiting in [Waiting::AtExchanges, Waiting::WhereNeeded] {
        assert_eq!(makespan(UNIT, waiting), 26.0);
        assert!(makespan(Costs { communication: 0.25, ..UNIT }, waiting) > 26.0);
        assert!(makespan(Costs { overlapped: 2.0, ..UNIT }, waiting) < 26.0);
    }
    // Two forward and two backward chunks through two ranks, with a hop between F and F and between
    // B and B.
    let two = of(PipelineScheduleKind::OneFOneB, 2, 1);
    let costs = Costs {
        forward: 1.0,
        backward_input: 2.0,
        weights: 3.0,
        overlapped: 0.0,
        communication: 10.0,
    };
    let simulation = simulate(&two, &costs, Waiting::AtExchanges).unwrap();
    let times: Vec<Vec<(f64, f64)>> = simulation
        .ranks
        .iter()
        .map(|rank| rank.iter().map(|timed| (timed.start, timed.end)).collect())
        .collect();
    assert_eq!(times, [[(0.0, 1.0), (27.0, 32.0)], [(11.0, 12.0), (12.0, 17.0)]]);
    assert_eq!(
        (simulation.busy(), simulation.idle(), simulation.bubble()),
        (vec![6.0, 6.0], vec![26.0, 26.0], 26.0)
    );
}

#[test]
fn numbers_without_a_schedule_say_which_rule_they_break() {
    for (kind, ranks, chunks, said) in [
        (PipelineScheduleKind::DualPipe, 3, 8, "even number of ranks"),
        (PipelineScheduleKind::DualPipe, 4, 9, "even number of micro-batches"),
        (PipelineScheduleKind::DualPipe, 4, 6, "at least 8 micro-batches"),
        (PipelineScheduleKind::DualPipe, 0, 6, "at least 2 ranks"),
        (PipelineScheduleKind::DualPipeV, 3, 5, "at least 6 micro-batches"),
        (PipelineScheduleKind::DualPipeV, 0, 5, "at least 1 ranks"),
        (PipelineScheduleKind::OneFOneB, 0, 1, "at least 1 ranks"),
        (PipelineScheduleKind::Zb1p, 4, 0, "at least 1 micro-batches"),
    ] {
        let error = PipelineSchedule::new(kind, ranks, chunks).unwrap_err().to_string();
        assert!(
            error.contains(said) && error.contains(kind.name()),
            "{kind} {ranks} {chunks}: {error}"
        );
    }
}

/// One fault of each kind, and what is said of it.
#[test]
fn each_rule_is_found_where_it_is_broken() {
    let whole = of(PipelineScheduleKind::DualPipe, 2, 4);
    let fault = |change: &dyn Fn(&mut PipelineSchedule)| {
        let mut schedule = whole.clone();
        change(&mut schedule);
        validate(&schedule).expect_err("a schedule that something happened to")
    };
    let chunk = |direction, index, stage| Chunk { direction, index, stage };
    // Rank 0: F0.0 X F1.0 F0.1 B1.0 X F1.1&B0.0 B1.1 X B0.1 W0.1.
    let positions: Vec<bool> = whole.actions[0]
        .iter()
        .map(|planned| matches!(planned.action, Action::Exchange(_)))
        .collect();
    assert_eq!(
        positions,
        [false, true, false, false, false, true, false, false, true, false, false]
    );
    let found = fault(&|s| drop(s.actions.pop()));
    assert_eq!(found.rule, Rule::Ranks { found: 1, ranks: 2 });
    let found = fault(&|s| drop(s.actions[0].remove(10)));
    assert_eq!(
        found,
        Fault {
            rank: 0,
            position: 10,
            rule: Rule::Missing { pass: Pass::Weights, chunk: chunk(0, 1, 0) }
        }
    );
    let found = fault(&|s| s.actions[0].swap(9, 10));
    assert_eq!(found, Fault { rank: 0, position: 9, rule: Rule::NothingDeferred(chunk(0, 1, 0)) });
    let found = fault(&|s| s.actions[0].swap(2, 4));
    assert_eq!(found, Fault { rank: 0, position: 2, rule: Rule::BackwardFirst(chunk(1, 0, 1)) });
    let found = fault(&|s| s.actions[0].swap(1, 2));
    assert_eq!(
        found,
        Fault {
            rank: 0,
            position: 1,
            rule: Rule::InputMissing { pass: Pass::Forward, chunk: chunk(1, 0, 1) }
        }
    );
    let found = fault(&|s| s.actions[0].swap(0, 1));
    assert!(
        matches!(found, Fault { rank: 0, position: 0, rule: Rule::SentTooEarly(_) }),
        "{found}"
    );
    let found = fault(&|s| {
        let twice = s.actions[0][0].clone();
        s.actions[0].insert(3, twice);
    });
    assert_eq!(
        found,
        Fault {
            rank: 0,
            position: 3,
            rule: Rule::Twice { pass: Pass::Forward, chunk: chunk(0, 0, 0) }
        }
    );
    let found = fault(&|s| s.actions[0][0].action = Action::Forward(chunk(0, 0, 1)));
    assert_eq!(found.rule, Rule::NotHere(chunk(0, 0, 1)));
    let found = fault(&|s| s.actions[0][0].action = Action::Forward(chunk(2, 0, 0)));
    assert_eq!(found.rule, Rule::NotHere(chunk(2, 0, 0)));
    let post = |change: fn(&mut Vec<Transfer>)| {
        fault(&|s| match &mut s.actions[0][5].action {
            Action::Exchange(transfers) => change(transfers),
            other => panic!("{other:?}"),
        })
    };
    assert!(matches!(post(|transfers| transfers[0].peer = 0).rule, Rule::NoSuchTransfer(_)));
    assert!(matches!(post(|transfers| transfers[0].index = 7).rule, Rule::NoSuchTransfer(_)));
    assert!(matches!(post(|transfers| transfers.push(transfers[0])).rule, Rule::TransferTwice(_)));
    let found = post(|transfers| {
        transfers.remove(0);
    });
    assert!(matches!(found, Fault { rank: 1, rule: Rule::Unmatched(_), .. }), "{found}");
    assert!(matches!(post(|transfers| transfers.swap(0, 1)).rule, Rule::Crossed { .. }));

    // Two ranks that each wait for the other before they send what it waits for.
    let mut whole = of(PipelineScheduleKind::DualPipe, 2, 4);
    for actions in &mut whole.actions {
        let Action::Exchange(transfers) = actions[1].action.clone() else { panic!("{actions:?}") };
        let (sends, receives) =
            transfers.into_iter().partition(|transfer| transfer.kind == TransferKind::SendForward);
        let step = actions[1].step;
        actions.splice(
            1..2,
            [receives, sends]
                .map(|transfers| Planned { step, action: Action::Exchange(transfers) }),
        );
    }
    let found = validate(&whole).unwrap_err();
    assert_eq!(
        found,
        Fault { rank: 0, position: 1, rule: Rule::Deadlock { waiting: vec![(0, 1), (1, 1)] } }
    );
    assert_eq!(
        found.to_string(),
        "rank 0, action 1: deadlock; waiting for messages are rank 0 at action 1, rank 1 at \
         action 1"
    );

    // Weight gradients in another order than that of their B.
    let mut zb1p = of(PipelineScheduleKind::Zb1p, 2, 4);
    let weights: Vec<usize> = (0..zb1p.actions[1].len())
        .filter(|&at| matches!(zb1p.actions[1][at].action, Action::Weights(_)))
        .collect();
    let last = weights[weights.len() - 2..].to_vec();
    zb1p.actions[1].swap(last[0], last[1]);
    let rule = Rule::WeightsOutOfOrder { chunk: chunk(0, 3, 1), longest: chunk(0, 2, 1) };
    assert_eq!(validate(&zb1p).unwrap_err(), Fault { rank: 1, position: last[0], rule });
}
