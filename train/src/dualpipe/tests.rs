//! Schedules of every kind are proved and cost what the report says; schedules that something
//! happened to are refused.

use proptest::prelude::*;
use proptest::sample::Index;

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
        "rank 0, action 1: deadlock; waiting for messages are rank 0 at action 1, rank 1 at action 1"
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

prop_compose! {
    /// A legal combination.
    fn legal()(kind in 0..4usize, ranks in 1..9usize, more in 0..12usize) -> PipelineSchedule {
        let kind = PipelineScheduleKind::ALL[kind];
        match kind {
            PipelineScheduleKind::DualPipe => of(kind, 2 * ranks, 4 * ranks + 2 * more),
            PipelineScheduleKind::DualPipeV => of(kind, ranks, 2 * ranks + more),
            _ => of(kind, ranks, 1 + more),
        }
    }
}

prop_compose! {
    /// Times that are exact in binary, so that sums are.
    fn costs()(times in proptest::array::uniform5(0..17u8)) -> Costs {
        let [forward, backward_input, weights, overlapped, communication] = times.map(|time| f64::from(time) / 8.0);
        Costs { forward, backward_input, weights, overlapped, communication }
    }
}

/// Every dependency in time, looked for without what the proof or the simulation know.
fn dependencies_hold(schedule: &PipelineSchedule, costs: &Costs, simulation: &Simulation) {
    let mut ends = std::collections::HashMap::new();
    let mut needs = Vec::new();
    for (rank, timed) in simulation.ranks.iter().enumerate() {
        for pair in timed.windows(2) {
            assert!(pair[1].start >= pair[0].end);
        }
        for Timed { planned, start, end } in timed {
            let mut forward = |chunk: &Chunk| {
                let micro_batch = schedule.micro_batch(*chunk);
                assert_eq!(ends.insert(('F', micro_batch, chunk.stage), (rank, *end)), None);
                needs.extend(
                    chunk
                        .stage
                        .checked_sub(1)
                        .map(|stage| (rank, *start, ('F', micro_batch, stage))),
                );
            };
            let chunk = match &planned.action {
                Action::Forward(chunk) => {
                    forward(chunk);
                    continue;
                }
                Action::Overlapped { forward: chunk, backward } => {
                    forward(chunk);
                    backward
                }
                Action::Backward { chunk, .. } => chunk,
                Action::Weights(chunk) => {
                    let micro_batch = schedule.micro_batch(*chunk);
                    assert_eq!(ends.insert(('W', micro_batch, chunk.stage), (rank, *end)), None);
                    needs.push((rank, *start, ('B', micro_batch, chunk.stage)));
                    continue;
                }
                Action::Exchange(_) => panic!("an exchange among {timed:?}"),
            };
            let micro_batch = schedule.micro_batch(*chunk);
            assert_eq!(ends.insert(('B', micro_batch, chunk.stage), (rank, *end)), None);
            needs.push((rank, *start, ('F', micro_batch, chunk.stage)));
            if chunk.stage + 1 < schedule.stages {
                needs.push((rank, *start, ('B', micro_batch, chunk.stage + 1)));
            }
        }
    }
    for (rank, start, what) in needs {
        let (from, end) = ends[&what];
        let hop = if from == rank { 0.0 } else { costs.communication };
        assert!(
            start >= end + hop,
            "rank {rank} at {start} needs {what:?}, which rank {from} ends at {end}"
        );
    }
    let passes = |pass: char| ends.keys().filter(|key| key.0 == pass).count();
    assert_eq!([passes('F'), passes('B')], [schedule.chunks * schedule.stages; 2]);
}

fn exchanges(schedule: &PipelineSchedule, rank: usize) -> usize {
    schedule.actions[rank]
        .iter()
        .filter(|planned| matches!(planned.action, Action::Exchange(_)))
        .count()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(128) })]

    #[test]
    fn every_legal_schedule_is_proved(schedule in legal(), costs in costs()) {
        let proof = validate(&schedule).unwrap();
        let held = schedule.kind.activations(schedule.ranks);
        prop_assert!(proof.peak_activations.iter().all(|&peak| (1..=held).contains(&peak)), "{proof:?}");
        let work = |rank: usize| -> f64 { schedule.actions[rank].iter().map(|planned| costs.of(&planned.action)).sum() };
        for waiting in [Waiting::AtExchanges, Waiting::WhereNeeded] {
            let simulation = simulate(&schedule, &costs, waiting).unwrap();
            dependencies_hold(&schedule, &costs, &simulation);
            for (rank, (busy, idle)) in simulation.busy().into_iter().zip(simulation.idle()).enumerate() {
                prop_assert_eq!(busy, work(rank) - costs.communication * exchanges(&schedule, rank) as f64);
                prop_assert!(idle >= 0.0 && busy + idle == simulation.makespan());
            }
        }
    }

    /// Combinations of all numbers: there is a schedule that is proved, or a rule is named.
    #[test]
    fn every_combination_has_a_schedule_or_a_rule(kind in 0..4usize, ranks in 0..10usize, chunks in 0..40usize) {
        let kind = PipelineScheduleKind::ALL[kind];
        let paired = kind == PipelineScheduleKind::DualPipe;
        let least = if matches!(kind, PipelineScheduleKind::DualPipe | PipelineScheduleKind::DualPipeV) { 2 * ranks } else { 1 };
        let legal = ranks > 0 && chunks >= least && !(paired && (ranks % 2 == 1 || chunks % 2 == 1));
        match PipelineSchedule::new(kind, ranks, chunks) {
            Ok(schedule) => prop_assert!(legal && validate(&schedule).is_ok()),
            Err(error) => prop_assert!(!legal && error.to_string().contains(kind.name()), "{error}"),
        }
    }

    #[test]
    fn a_schedule_that_lacks_an_action_is_refused(schedule in legal(), rank in any::<Index>(), at in any::<Index>()) {
        let mut schedule = schedule;
        let actions = rank.get_mut(&mut schedule.actions);
        actions.remove(at.index(actions.len()));
        prop_assert!(validate(&schedule).is_err());
    }

    #[test]
    fn a_schedule_with_an_action_twice_is_refused(schedule in legal(), rank in any::<Index>(), at in any::<Index>(), to in any::<Index>()) {
        let mut schedule = schedule;
        let actions = rank.get_mut(&mut schedule.actions);
        let twice = at.get(actions).clone();
        actions.insert(to.index(actions.len() + 1), twice);
        prop_assert!(validate(&schedule).is_err());
    }

    /// Some exchanged actions are a schedule still: then every dependency holds.
    #[test]
    fn a_schedule_with_two_actions_exchanged_is_refused_or_right(
        schedule in legal(), costs in costs(), rank in any::<Index>(), one in any::<Index>(), other in any::<Index>()
    ) {
        let mut schedule = schedule;
        let actions = rank.get_mut(&mut schedule.actions);
        let length = actions.len();
        actions.swap(one.index(length), other.index(length));
        if validate(&schedule).is_ok() {
            for waiting in [Waiting::AtExchanges, Waiting::WhereNeeded] {
                dependencies_hold(&schedule, &costs, &simulate(&schedule, &costs, waiting).unwrap());
            }
        }
    }

    /// B before its F and W before its B are never right.
    #[test]
    fn a_chunk_s_passes_exchanged_are_refused(schedule in legal(), rank in any::<Index>(), which in any::<Index>()) {
        let mut schedule = schedule;
        let actions = rank.get_mut(&mut schedule.actions);
        let at = |chunk: &Chunk, pass: Pass| actions.iter().position(|planned| match &planned.action {
            Action::Forward(other) | Action::Overlapped { forward: other, .. } if pass == Pass::Forward => other == chunk,
            Action::Backward { chunk: other, .. } | Action::Overlapped { backward: other, .. } if pass == Pass::Backward => other == chunk,
            Action::Weights(other) if pass == Pass::Weights => other == chunk,
            _ => false,
        });
        let pairs: Vec<(usize, usize)> = actions.iter().filter_map(|planned| match &planned.action {
            Action::Backward { chunk, .. } | Action::Overlapped { backward: chunk, .. } => at(chunk, Pass::Forward).zip(at(chunk, Pass::Backward)),
            Action::Weights(chunk) => at(chunk, Pass::Backward).zip(at(chunk, Pass::Weights)),
            _ => None,
        }).collect();
        let (first, second) = *which.get(&pairs);
        prop_assert!(first < second);
        actions.swap(first, second);
        prop_assert!(validate(&schedule).is_err());
    }

    /// One message less, or posted a second time somewhere else.
    #[test]
    fn messages_lost_or_doubled_are_refused(schedule in legal(), which in any::<Index>(), doubled in any::<bool>(), to in any::<Index>()) {
        let mut schedule = schedule;
        let mut places = Vec::new();
        for (rank, actions) in schedule.actions.iter().enumerate() {
            for (position, planned) in actions.iter().enumerate() {
                if let Action::Exchange(transfers) = &planned.action {
                    places.extend((0..transfers.len()).map(|index| (rank, position, index)));
                }
            }
        }
        prop_assume!(!places.is_empty()); // a single rank has nobody to write to
        let (rank, position, index) = *which.get(&places);
        let Action::Exchange(transfers) = &mut schedule.actions[rank][position].action else { unreachable!() };
        let transfer = transfers[index];
        if doubled {
            let to = to.index(transfers.len() + 1);
            transfers.insert(to, transfer);
        } else {
            transfers.remove(index);
        }
        prop_assert!(validate(&schedule).is_err());
    }
}
