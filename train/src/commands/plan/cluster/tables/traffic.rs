//! What crosses the links.

use std::fmt::Write;

use super::super::Planned;
use super::{line, numbers};
use crate::fold::Columns;
use crate::plan::Reach;

pub(super) fn write(text: &mut String, planned: &Planned, width: usize) {
    let traffic = &planned.plan.traffic;
    line!(text);
    match &traffic.reach {
        Some(reach) => {
            places(text, planned, reach, width);
            routes(text, planned, width);
        }
        None => line!(text, "every rank has all experts of its layers: no rows travel"),
    }
    let link = |slow: bool| if slow { "slow" } else { "fast" };
    let written = |bytes: f64| {
        let numbers::Unit(name, unit) = numbers::decimal(bytes);
        format!("{:.2} {name}", bytes / unit)
    };
    if planned.plan.workload.axes.pipeline > 1 {
        line!(
            text,
            "between stages: {} a micro-batch, each way, over the {} link",
            written(traffic.message_bytes),
            link(traffic.message_is_slow)
        );
    }
    line!(
        text,
        "between copies: {} of gradients and {} of weights a step, over the {} link",
        written(traffic.gradients_bytes),
        written(traffic.weights_bytes),
        link(traffic.copies_are_slow)
    );
}

/// Where a token's experts are.
fn places(text: &mut String, planned: &Planned, reach: &Reach, width: usize) {
    let Planned { model, cluster, .. } = planned;
    let on = format!(
        "{} of {}",
        numbers::counted(reach.ranks, "rank"),
        numbers::counted(reach.nodes, "node")
    );
    line!(
        text,
        "experts of a layer are on {on}; places that a token's {} are expected on",
        model.num_experts_per_tok
    );
    let mut table = Columns::new(["<", "nodes", "ranks"]);
    let mut spreads = vec![("any experts (exact)".to_string(), reach.unlimited)];
    if reach.limited {
        let groups = format!("{} of {} groups", model.topk_group, model.n_group);
        spreads
            .push((format!("experts of {groups}, these at random (exact)"), reach.random_groups));
        let limit = format!(
            "of the router's groups, at most {} (sampled)",
            numbers::counted(reach.limit, "node")
        );
        spreads.push((limit, reach.router));
    }
    for (name, spread) in spreads {
        table.row([name, format!("{:.3}", spread.nodes), format!("{:.3}", spread.ranks)]);
    }
    *text += &table.text(width);
    if let (Some(slow), true) = (&cluster.link.slow, reach.nodes > 1) {
        line!(
            text,
            "while the slow link brings a token to a node, the fast one passes it to {:.1} ranks; \
             it has to go to {:.2}",
            cluster.link.fast.gb_per_s / slow.gb_per_s,
            reach.router.ranks / reach.router.nodes
        );
    }
}

fn routes(text: &mut String, planned: &Planned, width: usize) {
    let traffic = &planned.plan.traffic;
    let most = traffic
        .routes
        .iter()
        .flat_map(|route| [route.dispatch, route.combine])
        .map(|links| links.fast.max(links.slow));
    let numbers::Unit(name, unit) = numbers::decimal(most.fold(0.0, f64::max));
    let (dispatch, combine) = traffic.row_bytes;
    line!(text);
    line!(
        text,
        "{name} that a GPU sends for a MoE layer and micro-batch; a row takes {dispatch} bytes to \
         experts, {combine} back"
    );
    let mut table = Columns::new(["<", "fast out", "slow out", "fast back", "slow back"]);
    for (index, route) in traffic.routes.iter().enumerate() {
        let from = if route.limited { "limited groups" } else { "any experts" };
        let hops = if route.two_hops { "once to a node" } else { "once to a rank" };
        let mark = if index == 0 { " (plan)" } else { "" };
        let of = |bytes: f64| format!("{:.1}", bytes / unit);
        table.row([
            format!("{from}, {hops}{mark}"),
            of(route.dispatch.fast),
            of(route.dispatch.slow),
            of(route.combine.fast),
            of(route.combine.slow),
        ]);
    }
    *text += &table.text(width);
    let numbers::Unit(name, unit) = numbers::decimal(traffic.step.fast.max(traffic.step.slow));
    let (fast, slow) = (traffic.step.fast / unit, traffic.step.slow / unit);
    line!(
        text,
        "in a step, forward and backward: {fast:.1} {name} over the fast link, {slow:.1} {name} \
         over the slow one"
    );
}
