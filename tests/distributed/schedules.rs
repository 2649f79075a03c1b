//! Every schedule found under `$DSV3_FIXTURES/dualpipe`: actions and messages in order, steps,
//! times, and the totals of each set of costs.

use deepseek_tests::fixture;
use deepseek_train::dualpipe::{
    Action, Chunk, Costs, PipelineSchedule, Planned, Simulation, Transfer, TransferKind, Waiting,
    simulate, validate,
};
use deepseek_train::parallel::PipelineScheduleKind;
use serde_json::{Value, json};

#[test]
fn every_schedule_is_the_other_implementation_s() {
    let files = fixture::files("dualpipe").unwrap();
    println!("{} schedules under {}", files.len(), fixture::root().display());
    for path in files {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let case: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        let kind: PipelineScheduleKind = case["kind"].as_str().unwrap().parse().unwrap();
        let (ranks, chunks) = (count(&case["num_ranks"]), count(&case["num_chunks"]));
        let schedule = PipelineSchedule::new(kind, ranks, chunks)
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        validate(&schedule).unwrap_or_else(|fault| panic!("{name}: {fault}"));
        assert_eq!(schedule.stages, count(&case["stages"]), "{name}: stages");
        assert_eq!(
            json!(kind.bubble(ranks, &Costs::UNIT)),
            case["bubble_formula_F1_B2_W1_FB3"],
            "{name}: formula of the bubble"
        );

        let simulation = simulate(&schedule, &Costs::UNIT, Waiting::AtExchanges).unwrap();
        let expected = case["ranks"].as_array().unwrap();
        assert_eq!(expected.len(), ranks, "{name}: ranks");
        for (rank, expected) in expected.iter().enumerate() {
            assert_eq!(count(&expected["rank"]), rank, "{name}");
            let actions = actions(&schedule, &simulation, rank);
            let wanted = expected["actions"].as_array().unwrap();
            for (position, (action, wanted)) in actions.iter().zip(wanted).enumerate() {
                assert_eq!(action, wanted, "{name}: rank {rank}, action {position}");
            }
            assert_eq!(actions.len(), wanted.len(), "{name}: actions of rank {rank}");
            let computed: Vec<String> = schedule.actions[rank]
                .iter()
                .filter_map(|planned| short(&schedule, rank, &planned.action))
                .collect();
            assert_eq!(json!(computed), expected["compute"], "{name}: rank {rank}");
        }

        let variants = case["sim"].as_object().unwrap();
        assert!(!variants.is_empty(), "{name}: no costs to simulate");
        for (variant, wanted) in variants {
            let costs = costs(wanted);
            let simulation = simulate(&schedule, &costs, Waiting::AtExchanges).unwrap();
            let at = format!("{name}: {variant}");
            assert_eq!(json!(simulation.makespan()), wanted["makespan"], "{at}");
            assert_eq!(json!(simulation.busy()), wanted["busy"], "{at}");
            assert_eq!(json!(simulation.idle()), wanted["bubble"], "{at}");
        }
        println!(
            "    {name}: {} actions, {} sets of costs",
            schedule.actions.iter().map(Vec::len).sum::<usize>(),
            variants.len()
        );
    }
}

fn count(value: &Value) -> usize {
    value.as_u64().unwrap() as usize
}

fn costs(wanted: &Value) -> Costs {
    let cost = |key: &str| wanted[key].as_f64().unwrap();
    Costs {
        forward: cost("F"),
        backward_input: cost("B_input"),
        weights: cost("W"),
        overlapped: cost("FB"),
        communication: 0.0,
    }
}

/// A rank's actions as the files have them, with times.
fn actions(schedule: &PipelineSchedule, simulation: &Simulation, rank: usize) -> Vec<Value> {
    let mut timed = simulation.ranks[rank].iter();
    let actions = schedule.actions[rank].iter().map(|Planned { step, action }| {
        let mut value = match action {
            Action::Forward(chunk) => pass(schedule, rank, "F", chunk),
            Action::Backward { chunk, defer_weights } => {
                backward(schedule, rank, chunk, *defer_weights)
            }
            Action::Weights(chunk) => pass(schedule, rank, "W", chunk),
            Action::Overlapped { forward, backward: chunk } => {
                let (f, b) =
                    (pass(schedule, rank, "F", forward), backward(schedule, rank, chunk, false));
                json!({ "op": "FB", "f": f, "b": b })
            }
            Action::Exchange(transfers) => {
                json!({ "op": "COMM", "ops": transfers.iter().map(message).collect::<Vec<_>>() })
            }
        };
        value["step"] = json!(step);
        if !matches!(action, Action::Exchange(_)) {
            let timed = timed.next().unwrap();
            assert_eq!(&timed.planned.action, action);
            value["t"] = json!([timed.start, timed.end]);
        }
        value
    });
    actions.collect()
}

fn pass(schedule: &PipelineSchedule, rank: usize, op: &str, chunk: &Chunk) -> Value {
    let Chunk { direction, index, stage } = *chunk;
    let phase = schedule.phase(rank, direction);
    json!({ "op": op, "phase": phase, "dir": direction, "chunk": index, "stage": stage })
}

fn backward(schedule: &PipelineSchedule, rank: usize, chunk: &Chunk, defer_weights: bool) -> Value {
    let mut value = pass(schedule, rank, "B", chunk);
    value["zb"] = json!(defer_weights);
    value
}

fn message(transfer: &Transfer) -> Value {
    let op = match transfer.kind {
        TransferKind::SendForward => "send_f",
        TransferKind::ReceiveForward => "recv_f",
        TransferKind::SendBackward => "send_b",
        TransferKind::ReceiveBackward => "recv_b",
    };
    json!({ "op": op, "dir": transfer.direction, "chunk": transfer.index, "peer": transfer.peer })
}

/// What is computed, in a word, with phase and chunk; nothing of an exchange.
fn short(schedule: &PipelineSchedule, rank: usize, action: &Action) -> Option<String> {
    let of = |chunk: &Chunk| format!("{}.{}", schedule.phase(rank, chunk.direction), chunk.index);
    match action {
        Action::Forward(chunk) => Some(format!("F{}", of(chunk))),
        Action::Backward { chunk, defer_weights } => {
            Some(format!("B{}{}", of(chunk), if *defer_weights { "z" } else { "" }))
        }
        Action::Weights(chunk) => Some(format!("W{}", of(chunk))),
        Action::Overlapped { forward, backward } => {
            Some(format!("F{}&B{}", of(forward), of(backward)))
        }
        Action::Exchange(_) => None,
    }
}
