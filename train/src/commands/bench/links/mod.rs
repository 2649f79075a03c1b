//! `deepseek bench links`: the way between ranks, as threads of this process or as processes that
//! mpirun or srun has started, and what a rank computes: a machine as `plan cluster` knows one.

mod collectives;
mod exchange;
mod file;
mod messages;
mod party;
mod rates;
mod reduction;

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use burn::tensor::Device;
use serde_json::json;
use sysinfo::System;

use self::collectives::AllToAll;
use self::exchange::{Exchange, Rows};
use self::file::Machine;
use self::messages::Message;
use self::party::Party;
use self::rates::Rates;
use self::reduction::Reduction;
use super::{KERNEL_REPS, REPS, Repetitions};
use crate::cli::BenchLinksArgs;
use crate::commands::train::{formats_of, host};
use crate::config::{ConfigRequest, RunConfig};
use crate::device::SelectedDevice;
use crate::exit::Outcome;
use crate::failure::{Context, Failure, Result, UsageError};
use crate::fold::{fold, width};
use crate::metrics::total_bytes;
use crate::oversize::check_training;
use crate::parallel::{Packed, Post, PostError, Processes};
use crate::schedule::Position;
use crate::stdout::write_stdout;

/// Sequences of the steps that ranks take alone, at most.
const MOST_SEQUENCES: usize = 8;

/// What is to be measured, and on what.
struct Prepared {
    config: RunConfig,
    /// The run on one rank, with one sequence in a micro-batch and with all of them.
    alone: [RunConfig; 2],
    selected: SelectedDevice,
}

/// All that was measured.
struct Measured {
    messages: Vec<Message>,
    exchanges: Vec<Exchange>,
    reductions: Vec<Reduction>,
    all_to_alls: Vec<AllToAll>,
    rates: Rates,
}

/// Measures, and prints what was measured.
pub(super) fn run(args: &BenchLinksArgs) -> Result<Outcome> {
    match Processes::join()? {
        Some(processes) if processes.number == 0 => lead(args, &processes),
        Some(processes) => follow(args, &processes),
        None => on_threads(args),
    }
}

/// Rank 0 of several processes.
fn lead(args: &BenchLinksArgs, processes: &Arc<Processes>) -> Result<Outcome> {
    let prepared = Prepared::new(args, processes.count)?;
    let mut hosts = vec![host()];
    for (rank, answer) in (1..).zip(processes.answers(1)?) {
        let name = String::unpacked(&answer, &Device::flex());
        hosts.push(name.context(format!("rank {rank} is another release of deepseek"))?);
    }
    let ranks_a_node = ranks_a_node(args, &hosts)?;
    (1..processes.count).for_each(|rank| processes.tell(rank, ranks_a_node.packed()));
    let party = prepared.party(
        processes.number,
        (processes.count, ranks_a_node),
        processes.post.clone(),
        Some(processes.clone()),
    );
    let measured = prepared.measure(args, &party)?;
    prepared.tell(args, &party, &measured)
}

/// Another rank: it says nothing, and measures what rank 0 measures.
fn follow(args: &BenchLinksArgs, processes: &Arc<Processes>) -> Result<Outcome> {
    let over = Outcome::done(serde_json::Value::Null);
    let prepared = match Prepared::new(args, processes.count) {
        Ok(prepared) => {
            processes.answer(processes.number, Ok(host().packed()));
            prepared
        }
        Err(failure) => {
            processes.answer(processes.number, Err(failure)); // rank 0's to tell
            let _ = processes.next_task(processes.number)?;
            return Ok(over);
        }
    };
    let Some(task) = processes.next_task(processes.number)? else { return Ok(over) };
    let ranks_a_node = usize::unpacked(&task, &Device::flex())
        .context("rank 0 is another release of deepseek; start the same one everywhere")?;
    let party = prepared.party(
        processes.number,
        (processes.count, ranks_a_node),
        processes.post.clone(),
        Some(processes.clone()),
    );
    prepared.measure(args, &party)?;
    Ok(over)
}

/// Ranks that are threads of this process.
fn on_threads(args: &BenchLinksArgs) -> Result<Outcome> {
    let prepared = Prepared::new(args, args.ranks)?;
    let ranks_a_node = ranks_a_node(args, &vec![host(); args.ranks])?;
    let post = Arc::new(Post::new(prepared.timeout()));
    let party = |rank| prepared.party(rank, (args.ranks, ranks_a_node), post.clone(), None);
    let measured = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..args.ranks)
            .map(|rank| {
                let (party, prepared) = (party(rank), &prepared);
                scope.spawn(move || {
                    let measured = prepared.measure(args, &party);
                    if measured.is_err() {
                        party.post.fail(rank); // the others wait no longer
                    }
                    measured
                })
            })
            .collect();
        let join = |thread: std::thread::ScopedJoinHandle<'_, Result<Measured>>| {
            thread.join().unwrap_or_else(|_| Err(Failure::new("a rank's thread has stopped")))
        };
        let mut of_ranks: Vec<Result<Measured>> = threads.into_iter().map(join).collect();
        // What befell a rank itself, rather than that it was told of another's failure.
        let is_news = |measured: &Result<Measured>| {
            measured.as_ref().is_err_and(|failure| {
                !matches!(failure.downcast_ref(), Some(PostError::Failed { .. }))
            })
        };
        let told = of_ranks.iter().position(is_news).unwrap_or(0);
        of_ranks.swap_remove(told)
    })?;
    prepared.tell(args, &party(0), &measured)
}

/// Consecutive ranks of a node: as asked for, else those of one machine.
fn ranks_a_node(args: &BenchLinksArgs, hosts: &[String]) -> Result<usize, UsageError> {
    let ranks = hosts.len();
    let size = args
        .ranks_per_node
        .unwrap_or_else(|| hosts.iter().take_while(|host| **host == hosts[0]).count());
    let fills = ranks.is_multiple_of(size)
        && (args.ranks_per_node.is_some()
            || hosts.chunks(size).all(|node| node.iter().all(|host| *host == node[0])));
    if fills {
        return Ok(size);
    }
    Err(UsageError(format!(
        "{ranks} ranks are not nodes of {size} each; give --ranks-per-node a number that divides \
         them"
    )))
}

impl Prepared {
    /// Resolves the run and opens the device.
    fn new(args: &BenchLinksArgs, ranks: usize) -> Result<Self> {
        let resolved = |more: &[String]| {
            let set = args.config.set.iter().chain(more).cloned().collect();
            ConfigRequest { config: args.config.config.clone(), set, ..Default::default() }
                .resolve()
        };
        let config = resolved(&[])?;
        let sequences = config.schedule()?.at(Position::default()).global_batch.min(MOST_SEQUENCES);
        let alone = |micro_batch: usize| {
            resolved(&[
                format!("train.micro_batch={micro_batch}"),
                format!("schedule.global_batch={sequences}"),
                "parallel.pipeline=1".into(),
                "parallel.expert=1".into(),
                "parallel.data=1".into(),
                "parallel.ranks_per_node=none".into(),
            ])
        };
        let alone = [alone(1)?, alone(sequences)?];
        let experts = config.model.n_routed_experts;
        if Rows::of(&config, formats_of(&config.parallel, &config.precision.precision())).is_some()
            && !experts.is_multiple_of(ranks)
        {
            let problem = format!(
                "{ranks} ranks cannot share the model's {experts} experts equally: take a number \
                 of ranks that divides them"
            );
            return Err(UsageError(problem).into());
        }
        let selected = args.timing.device.open()?;
        check_training(&alone[1], &selected, false, "take a smaller model")?;
        Ok(Self { config, alone, selected })
    }

    /// How long ranks wait for each other.
    fn timeout(&self) -> Duration {
        Duration::from_secs(self.config.parallel.timeout_s)
    }

    fn party(
        &self,
        rank: usize,
        (ranks, ranks_a_node): (usize, usize),
        post: Arc<Post>,
        processes: Option<Arc<Processes>>,
    ) -> Party {
        post.set_timeout(self.timeout());
        let (selected, next) = (self.selected.clone(), AtomicUsize::new(0));
        Party { post, rank, ranks, ranks_a_node, selected, processes, next }
    }

    /// Measures everything, as one of the ranks.
    fn measure(&self, args: &BenchLinksArgs, party: &Party) -> Result<Measured> {
        let reps = Repetitions::new(&args.timing, KERNEL_REPS);
        let formats = formats_of(&self.config.parallel, &self.config.precision.precision());
        let exchanges = match Rows::of(&self.config, formats).filter(|_| party.ranks > 1) {
            Some(rows) => exchange::measure(party, rows, reps)?,
            None => Vec::new(),
        };
        Ok(Measured {
            messages: messages::measure(party, reps)?,
            exchanges,
            reductions: reduction::measure(party, reps)?,
            all_to_alls: collectives::measure(party, reps)?,
            rates: rates::measure(party, &self.alone, Repetitions::new(&args.timing, REPS))?,
        })
    }

    /// Prints what was measured, and writes it where that is asked for.
    fn tell(&self, args: &BenchLinksArgs, party: &Party, measured: &Measured) -> Result<Outcome> {
        let Measured { messages, exchanges, reductions, all_to_alls, rates } = measured;
        let setting = self.setting(args, party);
        let columns = width();
        let tables = [
            messages::text(messages, columns),
            if exchanges.is_empty() { String::new() } else { exchange::text(exchanges, columns) },
            reduction::text(reductions, columns),
            collectives::text(all_to_alls, columns),
            fold(&rates.text(), columns),
        ];
        let mut text = fold(&format!("bench links: {setting}\n"), columns);
        for table in tables.iter().filter(|table| !table.is_empty()) {
            text.push('\n');
            text += table;
        }
        write_stdout(&text)?;
        let links = messages::links(messages);
        if let Some(path) = &args.out {
            let machine = Machine {
                setting: &setting,
                name: &self.selected.name,
                memory_gib: memory_gib() / party.ranks_a_node as f64,
                ranks_a_node: party.ranks_a_node,
                nodes: party.nodes(),
                links,
                rates: *rates,
                format: self.config.precision.format,
                exchanges,
            };
            std::fs::write(path, machine.toml())
                .with_context(|| format!("{}: cannot write", path.display()))?;
            write_stdout(&format!("\ncluster         {}\n", path.display()))?;
        }
        let link = |link: Option<messages::Link>| {
            link.map(|link| json!({ "latency_us": link.latency_us, "gb_per_s": link.gb_per_s }))
        };
        Ok(Outcome::done(json!({
            "command": "bench", "bench": "links",
            "setting": setting, "device": self.selected.name,
            "ranks": party.ranks, "ranks_per_node": party.ranks_a_node,
            "processes": party.processes.is_some(),
            "messages": messages::results(messages),
            "link_fast": link(links[0]), "link_slow": link(links[1]),
            "exchanges": exchange::results(exchanges),
            "reductions": reduction::results(reductions),
            "all_to_alls": collectives::results(all_to_alls),
            "rank": rates.results(),
            "out": args.out,
        })))
    }

    /// What is measured, in words.
    fn setting(&self, args: &BenchLinksArgs, party: &Party) -> String {
        let (train, model) = (&self.config.train, &self.config.model);
        let reps = Repetitions::new(&args.timing, KERNEL_REPS);
        format!(
            "{} ranks, each a {}, {} a node, on {}; rows of {} to {} of {} experts, {} x {} tokens \
             a micro-batch, {} parameters, {}; median of {} after {}, the slowest rank's",
            party.ranks,
            if party.processes.is_some() { "process" } else { "thread" },
            party.ranks_a_node,
            self.selected.name,
            model.hidden_size,
            model.num_experts_per_tok,
            model.n_routed_experts,
            train.micro_batch,
            train.seq_len,
            model.parameter_counts().total,
            self.config.precision.precision().name(),
            reps.timed,
            reps.warmup
        )
    }
}

/// Memory of this machine.
fn memory_gib() -> f64 {
    let mut system = System::new();
    system.refresh_memory();
    total_bytes(&system) as f64 / f64::from(1 << 30)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_are_machines_unless_something_else_is_asked_for() {
        let args = |size: Option<usize>| BenchLinksArgs {
            config: crate::cli::ConfigArgs::default(),
            ranks: 2,
            ranks_per_node: size,
            out: None,
            timing: crate::cli::TimingArgs {
                reps: None,
                warmup: 0,
                device: crate::device::DeviceChoice::Flex,
                json: false,
            },
        };
        let hosts = |names: &str| names.chars().map(String::from).collect::<Vec<_>>();
        let of = |size, names| ranks_a_node(&args(size), &hosts(names)).ok();
        assert_eq!(
            [of(None, "aaaa"), of(None, "aabb"), of(None, "abab"), of(None, "aab")],
            [Some(4), Some(2), Some(1), None]
        );
        assert_eq!([of(Some(2), "aaaa"), of(Some(3), "aaaa")], [Some(2), None]);
        // The first machine alone decides nothing: these nodes are not alike.
        assert_eq!(of(None, "aabc"), None);
    }
}
