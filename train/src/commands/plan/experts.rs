//! `deepseek plan experts`: where each replica of each expert goes, and how even that makes the
//! GPUs' loads.

use std::fmt::Write;

use serde_json::json;

use crate::checkpoint::find_config;
use crate::cli::PlanExpertsArgs;
use crate::commands::new_folder::check_new_files;
use crate::exit::Outcome;
use crate::failure::{Context, Result};
use crate::fold::{fold, hang, width};
use crate::learner::LayerLoad;
use crate::metrics::ExpertLoads;
use crate::parallel::eplb::{
    Balance, Duplicate, ExpertPlacement, LayerPlacement, Policy, rebalance_experts,
    unplaced_gpu_loads,
};
use crate::stdout::write_stdout;

/// Places the experts of every layer.
pub(super) fn run(args: &PlanExpertsArgs) -> Result<Outcome> {
    check_new_files([("--out", args.out.as_ref())])?;
    let mut measured = ExpertLoads::read(&args.loads)?;
    if args.loads.is_dir() {
        measured.n_group = find_config(&args.loads)?.map(|config| config.model.n_group);
    }
    let placed = Placed::new(args, &measured)?;
    write_stdout(&placed.text(args, width()))?;
    let mut results = placed.results(args);
    if let Some(path) = &args.out {
        std::fs::write(path, format!("{results}\n"))
            .with_context(|| format!("{}: cannot write", path.display()))?;
        write_stdout(&format!("\nplacement   {}\n", path.display()))?;
    }
    results["out"] = json!(args.out);
    Ok(Outcome::done(results))
}

struct Placed {
    groups: usize,
    experts: usize,
    policy: Policy,
    layers: Vec<Layer>,
}

/// A layer's placement, and its GPUs' loads.
struct Layer {
    layer: usize,
    plan: LayerPlacement,
    in_order: Balance,
    gpu_loads: Vec<f64>,
    placed: Balance,
    duplicates: Vec<Duplicate>,
    /// How many of those GPUs would have fewer after swaps.
    avoidable: usize,
}

impl Placed {
    fn new(args: &PlanExpertsArgs, measured: &ExpertLoads) -> Result<Self> {
        let groups = args.groups.or(measured.n_group).unwrap_or(1);
        let loads: Vec<Vec<f32>> = measured
            .layer_loads
            .iter()
            .map(|layer| layer.loads.iter().map(|&load| load as f32).collect())
            .collect();
        let ExpertPlacement { policy, layers } =
            rebalance_experts(&loads, args.replicas, groups, args.nodes, args.gpus)
                .with_context(|| format!("{}: cannot be placed", args.loads.display()))?;
        let layer = |((LayerLoad { layer, .. }, loads), plan): (
            (&LayerLoad, &Vec<f32>),
            LayerPlacement,
        )| {
            // Swaps keep experts on the nodes that they were put on.
            let nodes = if policy == Policy::Hierarchical { args.nodes } else { 1 };
            let spread = plan.spread(loads, nodes);
            let avoidable = plan.duplicates().len() - spread.duplicates().len();
            let plan = if args.distinct { spread } else { plan };
            let (in_order, gpu_loads) =
                (Balance::of(&unplaced_gpu_loads(loads, args.gpus)), plan.gpu_loads(loads));
            Layer {
                layer: *layer,
                duplicates: plan.duplicates(),
                avoidable: if args.distinct { 0 } else { avoidable },
                plan,
                in_order,
                placed: Balance::of(&gpu_loads),
                gpu_loads,
            }
        };
        let experts = loads.first().map_or(0, Vec::len);
        Ok(Self {
            groups,
            experts,
            policy,
            layers: measured.layer_loads.iter().zip(&loads).zip(layers).map(layer).collect(),
        })
    }

    /// Means over layers of `max / mean`, in order and placed.
    fn ratios(&self) -> (f64, f64) {
        let mean = |of: fn(&Layer) -> &Balance| {
            self.layers.iter().map(|layer| of(layer).ratio()).sum::<f64>()
                / self.layers.len() as f64
        };
        (mean(|layer| &layer.in_order), mean(|layer| &layer.placed))
    }

    fn text(&self, args: &PlanExpertsArgs, width: usize) -> String {
        let PlanExpertsArgs { replicas, nodes, gpus, .. } = args;
        let how = match self.policy {
            Policy::Hierarchical if *nodes > 1 => {
                format!(
                    "{} groups of experts over {nodes} nodes, then replicas over each node's GPUs",
                    self.groups
                )
            }
            Policy::Hierarchical | Policy::Global => {
                "replicas over all GPUs, whatever their groups".into()
            }
        };
        let mut text = format!(
            "loads       {}: {} layers of {} experts\nplaces      {replicas} on {gpus} GPUs, {} on \
             each\nby          {how}\n\n\
             max load / mean load of the GPUs, with experts in order and placed; the experts of \
             each GPU\nlayer   in order    placed   experts\n",
            args.loads.display(),
            self.layers.len(),
            self.experts,
            replicas / gpus,
        );
        text = fold(&text, width);
        for Layer { layer, plan, in_order, placed, .. } in &self.layers {
            let gpus = plan.phy2log().chunks(plan.places_a_gpu());
            let places = gpus
                .map(|gpu| gpu.iter().map(usize::to_string).collect::<Vec<_>>().join(" "))
                .collect::<Vec<_>>()
                .join(" | ");
            let label = format!("{layer:<5} {:>10.4} {:>9.4}   ", in_order.ratio(), placed.ratio());
            // Writing to a string does not fail.
            let _ = writeln!(text, "{}", hang(&label, &places, width));
        }
        let (in_order, placed) = self.ratios();
        let _ = writeln!(text, "mean  {in_order:>10.4} {placed:>9.4}");
        text + &fold(&self.remarks(), width)
    }

    /// Which experts a GPU has more than once, and what can be done about it.
    fn remarks(&self) -> String {
        let mut text = String::new();
        for Layer { layer, duplicates, .. } in &self.layers {
            let told: Vec<String> = duplicates
                .iter()
                .map(|Duplicate { gpu, expert, replicas }| {
                    format!("{replicas} of expert {expert} on GPU {gpu}")
                })
                .collect();
            if !told.is_empty() {
                let _ = writeln!(text, "twice       layer {layer}: {}", told.join(", "));
            }
        }
        let avoidable: usize = self.layers.iter().map(|layer| layer.avoidable).sum();
        if avoidable > 0 {
            let _ = writeln!(text, "            --distinct parts {avoidable} of these by swaps");
        }
        text
    }

    fn results(&self, args: &PlanExpertsArgs) -> serde_json::Value {
        let layer = |layer: &Layer| {
            let Layer { layer, plan, in_order, gpu_loads, placed, duplicates, avoidable } = layer;
            json!({
                "layer": layer,
                "phy2log": plan.phy2log(),
                "log2phy": plan.log2phy(),
                "logcnt": plan.logcnt().collect::<Vec<_>>(),
                "in_order": in_order,
                "placed": placed,
                "gpu_loads": gpu_loads,
                "duplicates": duplicates,
                "avoidable_duplicates": avoidable,
            })
        };
        let (in_order, placed) = self.ratios();
        json!({
            "command": "plan experts",
            "loads": args.loads,
            "policy": self.policy,
            "distinct": args.distinct,
            "experts": self.experts,
            "replicas": args.replicas,
            "groups": self.groups,
            "nodes": args.nodes,
            "gpus": args.gpus,
            "mean_ratio_in_order": in_order,
            "mean_ratio_placed": placed,
            "layers": self.layers.iter().map(layer).collect::<Vec<_>>(),
        })
    }
}
