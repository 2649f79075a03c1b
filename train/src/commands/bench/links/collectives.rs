//! An all-to-all of parcels as messages, and by the library's own call: by itself, and on two lanes
//! at once that ranks enter in different orders, as two micro-batches that overlap do.

use burn::tensor::Tensor;
use serde_json::{Value, json};

use super::super::Repetitions;
use super::messages::named;
use super::party::Party;
use crate::failure::{Context, Result};
use crate::fold::Columns;
use crate::parallel::{Joint, Packed, Subject};

/// Bytes that a rank has for each rank.
const SIZES: [usize; 4] = [1 << 10, 1 << 14, 1 << 18, 1 << 22];

/// All-to-alls of one size: microseconds on one lane, and of both together.
#[derive(Clone, Copy, Debug)]
pub(super) struct AllToAll {
    bytes: usize,
    messages_us: [f64; 2],
    collective_us: [f64; 2],
}

/// Times them; nothing where no library joins the ranks.
pub(super) fn measure(party: &Party, reps: Repetitions) -> Result<Vec<AllToAll>> {
    if party.processes.is_none() {
        return Ok(Vec::new());
    }
    let all_to_all = |bytes: usize| {
        let parcel = Tensor::<1>::full([bytes / size_of::<f32>()], 0.5, party.device());
        let time = |lanes: usize, collective: bool| {
            party.timed(reps, |round| match (lanes, collective) {
                (1, true) => by_call(party, 0, &parcel),
                (1, false) => by_messages(party, 0, round, &parcel),
                _ => on_both_lanes(party, |lane| match collective {
                    true => by_call(party, lane, &parcel),
                    false => by_messages(party, lane, round, &parcel),
                }),
            })
        };
        Ok(AllToAll {
            bytes,
            messages_us: [time(1, false)?, time(2, false)?],
            collective_us: [time(1, true)?, time(2, true)?],
        })
    };
    SIZES.into_iter().map(all_to_all).collect()
}

/// Makes a call of the library with all ranks.
pub(super) fn together(party: &Party, lane: usize, joint: Joint) -> Result<Joint> {
    let processes = party.processes.as_ref();
    let home = processes.and_then(|processes| processes.together(lane, joint));
    home.context("the library that joins the processes has ended")
}

/// A thread a lane; every other rank enters the second one first.
fn on_both_lanes(party: &Party, work: impl Fn(usize) -> Result<()> + Sync) -> Result<()> {
    let (first, work) = (party.rank % 2, &work);
    std::thread::scope(|scope| {
        let threads = [first, 1 - first].map(|lane| scope.spawn(move || work(lane)));
        threads.into_iter().try_for_each(|thread| {
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    })
}

fn by_messages(party: &Party, lane: usize, round: usize, parcel: &Tensor<1>) -> Result<()> {
    let subject = || Subject::Activations { micro_batch: round, stage: lane };
    for other in party.others() {
        party.send(other, subject(), parcel.clone());
    }
    for other in party.others() {
        drop(std::hint::black_box(party.receive(other, subject())?));
    }
    Ok(())
}

/// The same tensors, packed and unpacked as messages are.
fn by_call(party: &Party, lane: usize, parcel: &Tensor<1>) -> Result<()> {
    let parcels = (0..party.ranks)
        .map(|rank| if rank == party.rank { Vec::new() } else { parcel.packed() })
        .collect();
    let Joint::Parcels(parcels) = together(party, lane, Joint::Parcels(parcels))? else {
        unreachable!("invariant: parcels come of parcels")
    };
    for other in party.others() {
        let come = Tensor::<1>::unpacked(&parcels[other], party.device());
        drop(std::hint::black_box(come.context("a parcel has come otherwise than it was sent")?));
    }
    Ok(())
}

/// A row a size.
pub(super) fn text(all: &[AllToAll], width: usize) -> String {
    if all.is_empty() {
        return String::new();
    }
    let mut table = Columns::new([
        "<all-to-all, a rank to each",
        "messages, us",
        "collective, us",
        "two lanes, us",
        "collective, us ",
    ]);
    for AllToAll { bytes, messages_us, collective_us } in all {
        let times = [messages_us[0], collective_us[0], messages_us[1], collective_us[1]];
        let cells = times.map(|us| format!("{us:.1}"));
        table.row(std::iter::once(named(*bytes)).chain(cells));
    }
    table.text(width)
}

/// The same for programs.
pub(super) fn results(all: &[AllToAll]) -> Value {
    let row = |AllToAll { bytes, messages_us, collective_us }: &AllToAll| {
        json!({
            "bytes": bytes,
            "messages_us": messages_us[0], "collective_us": collective_us[0],
            "two_lanes_messages_us": messages_us[1], "two_lanes_collective_us": collective_us[1],
        })
    };
    all.iter().map(row).collect()
}
