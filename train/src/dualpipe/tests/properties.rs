//! Schedules of any numbers of ranks and chunks, with any costs, and with anything wrong in them.

use proptest::prelude::*;
use proptest::sample::Index;

use super::*;

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
        let [forward, backward_input, weights, overlapped, communication] =
            times.map(|time| f64::from(time) / 8.0);
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
    #![proptest_config(ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::with_cases(128)
    })]

    #[test]
    fn every_legal_schedule_is_proved(schedule in legal(), costs in costs()) {
        let proof = validate(&schedule).unwrap();
        let held = schedule.kind.activations(schedule.ranks);
        prop_assert!(
            proof.peak_activations.iter().all(|&peak| (1..=held).contains(&peak)),
            "{proof:?}"
        );
        let work = |rank: usize| -> f64 {
            schedule.actions[rank].iter().map(|planned| costs.of(&planned.action)).sum()
        };
        for waiting in [Waiting::AtExchanges, Waiting::WhereNeeded] {
            let simulation = simulate(&schedule, &costs, waiting).unwrap();
            dependencies_hold(&schedule, &costs, &simulation);
            for (rank, (busy, idle)) in
                simulation.busy().into_iter().zip(simulation.idle()).enumerate()
            {
                prop_assert_eq!(
                    busy,
                    work(rank) - costs.communication * exchanges(&schedule, rank) as f64
                );
                prop_assert!(idle >= 0.0 && busy + idle == simulation.makespan());
            }
        }
    }

    /// Combinations of all numbers: there is a schedule that is proved, or a rule is named.
    #[test]
    fn every_combination_has_a_schedule_or_a_rule(
        kind in 0..4usize,
        ranks in 0..10usize,
        chunks in 0..40usize,
    ) {
        let kind = PipelineScheduleKind::ALL[kind];
        let paired = kind == PipelineScheduleKind::DualPipe;
        let least =
            if matches!(kind, PipelineScheduleKind::DualPipe | PipelineScheduleKind::DualPipeV) {
                2 * ranks
            } else {
                1
            };
        let legal =
            ranks > 0 && chunks >= least && !(paired && (ranks % 2 == 1 || chunks % 2 == 1));
        match PipelineSchedule::new(kind, ranks, chunks) {
            Ok(schedule) => prop_assert!(legal && validate(&schedule).is_ok()),
            Err(error) => {
                prop_assert!(!legal && error.to_string().contains(kind.name()), "{error}")
            }
        }
    }

    #[test]
    fn a_schedule_that_lacks_an_action_is_refused(
        schedule in legal(),
        rank in any::<Index>(),
        at in any::<Index>(),
    ) {
        let mut schedule = schedule;
        let actions = rank.get_mut(&mut schedule.actions);
        actions.remove(at.index(actions.len()));
        prop_assert!(validate(&schedule).is_err());
    }

    #[test]
    fn a_schedule_with_an_action_twice_is_refused(
        schedule in legal(),
        rank in any::<Index>(),
        at in any::<Index>(),
        to in any::<Index>(),
    ) {
        let mut schedule = schedule;
        let actions = rank.get_mut(&mut schedule.actions);
        let twice = at.get(actions).clone();
        actions.insert(to.index(actions.len() + 1), twice);
        prop_assert!(validate(&schedule).is_err());
    }

    /// Some exchanged actions are a schedule still: then every dependency holds.
    #[test]
    fn a_schedule_with_two_actions_exchanged_is_refused_or_right(
        schedule in legal(),
        costs in costs(),
        rank in any::<Index>(),
        one in any::<Index>(),
        other in any::<Index>(),
    ) {
        let mut schedule = schedule;
        let actions = rank.get_mut(&mut schedule.actions);
        let length = actions.len();
        actions.swap(one.index(length), other.index(length));
        if validate(&schedule).is_ok() {
            for waiting in [Waiting::AtExchanges, Waiting::WhereNeeded] {
                dependencies_hold(
                    &schedule,
                    &costs,
                    &simulate(&schedule, &costs, waiting).unwrap(),
                );
            }
        }
    }

    /// B before its F and W before its B are never right.
    #[test]
    fn a_chunk_s_passes_exchanged_are_refused(
        schedule in legal(),
        rank in any::<Index>(),
        which in any::<Index>(),
    ) {
        let mut schedule = schedule;
        let actions = rank.get_mut(&mut schedule.actions);
        let at = |chunk: &Chunk, pass: Pass| {
            actions.iter().position(|planned| match &planned.action {
                Action::Forward(other) | Action::Overlapped { forward: other, .. }
                    if pass == Pass::Forward =>
                {
                    other == chunk
                }
                Action::Backward { chunk: other, .. }
                | Action::Overlapped { backward: other, .. }
                    if pass == Pass::Backward =>
                {
                    other == chunk
                }
                Action::Weights(other) if pass == Pass::Weights => other == chunk,
                _ => false,
            })
        };
        let pairs: Vec<(usize, usize)> = actions
            .iter()
            .filter_map(|planned| match &planned.action {
                Action::Backward { chunk, .. } | Action::Overlapped { backward: chunk, .. } => {
                    at(chunk, Pass::Forward).zip(at(chunk, Pass::Backward))
                }
                Action::Weights(chunk) => at(chunk, Pass::Backward).zip(at(chunk, Pass::Weights)),
                _ => None,
            })
            .collect();
        let (first, second) = *which.get(&pairs);
        prop_assert!(first < second);
        actions.swap(first, second);
        prop_assert!(validate(&schedule).is_err());
    }

    /// One message less, or posted a second time somewhere else.
    #[test]
    fn messages_lost_or_doubled_are_refused(
        schedule in legal(),
        which in any::<Index>(),
        doubled in any::<bool>(),
        to in any::<Index>(),
    ) {
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
        let Action::Exchange(transfers) = &mut schedule.actions[rank][position].action else {
            unreachable!()
        };
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
