//! The rows of an axis for people and for programs.

use serde_json::{Value, json};

use super::super::train::MEBI;
use super::row::{Figures, Growth, Quantity, Row, Seen, whole, with_before};
use crate::cli::ScaleAxis;
use crate::fold::{Columns, fold};

/// A table of an axis, in so many columns of a terminal.
pub(super) fn text(axis: ScaleAxis, rows: &[Row], width: usize) -> String {
    let grows = if axis == ScaleAxis::Ranks { "x one" } else { "grows" };
    let name = axis.name();
    let mut columns = Columns::new([
        name,
        "step ms",
        grows,
        "tokens/s",
        "fwd+bwd ms",
        grows,
        "optimizer ms",
        grows,
        "MiB",
        grows,
        "of peak",
    ]);
    let (mut below, first) = (String::new(), rows.first());
    for (row, before) in with_before(rows) {
        let cell = |quantity: Quantity| match (axis, first, before) {
            (ScaleAxis::Ranks, Some(first), Some(_)) => {
                row.ratio(first, quantity).map(|ratio| format!("{ratio:.2}"))
            }
            (ScaleAxis::Ranks, ..) => None,
            (.., Some(before)) => row.growth(before, quantity).map(|growth| {
                format!("{}{}", grown(&growth), if growth.is_faster() { " !" } else { "" })
            }),
            _ => None,
        };
        match &row.seen {
            Seen::Measured(figures) => columns.row(cells(
                &row.point.label,
                figures,
                Quantity::ALL.map(|quantity| cell(quantity).unwrap_or_default()),
            )),
            Seen::LeftOut(why) => {
                below += &format!("{name} = {}: left out: {why}\n", row.point.label);
            }
        }
    }
    if axis != ScaleAxis::Ranks
        && let Some((first, last)) = whole(rows)
    {
        let cell = |quantity| last.growth(first, quantity).map(|growth| grown(&growth));
        let [step, gradients, optimizer, memory] =
            Quantity::ALL.map(|quantity| cell(quantity).unwrap_or_default());
        let empty = String::new;
        let cells = ["all".into(), empty(), step, empty(), empty(), gradients, empty(), optimizer];
        columns.row(cells.into_iter().chain([empty(), memory]));
    }
    format!("\n{}{}{}", fold(&format!("{}\n", what(axis, rows)), width), columns.text(width), below)
}

fn cells(label: &str, figures: &Figures, grown: [String; 4]) -> [String; 11] {
    let [step, gradients, optimizer, memory] = grown;
    let mebibytes = |bytes: f64| format!("{:.0}", bytes / MEBI);
    [
        label.to_string(),
        format!("{:.1}", figures.step_ms),
        step,
        format!("{:.0}", figures.tokens_per_s),
        format!("{:.1}", figures.gradients_ms),
        gradients,
        format!("{:.1}", figures.optimizer_ms),
        optimizer,
        figures.memory_bytes.map(mebibytes).unwrap_or_default(),
        memory,
        figures.of_peak.map(|share| format!("{share:.2}")).unwrap_or_default(),
    ]
}

/// `0.93 (1.00)`
fn grown(growth: &Growth) -> String {
    let must = growth.must.map_or_else(String::new, |must| format!(" ({must:.2})"));
    format!("{:.2}{must}", growth.exponent)
}

/// What an axis varies and what it holds.
fn what(axis: ScaleAxis, rows: &[Row]) -> String {
    let step = rows.first().and_then(|row| row.point.step().ok()).unwrap_or_default();
    let tokens = step.1;
    let name = axis.name();
    match axis {
        ScaleAxis::Seq => format!("{name}: tokens of a sequence, {tokens} tokens a step"),
        ScaleAxis::SeqOne => format!("{name}: tokens of a sequence, one sequence a step"),
        ScaleAxis::Experts => {
            let chosen = rows.first().map_or(0, |row| row.point.config.model.num_experts_per_tok);
            format!("{name}: routed experts, {chosen} of them a token, {tokens} tokens a step")
        }
        ScaleAxis::Depth => format!("{name}: layers, {tokens} tokens a step"),
        ScaleAxis::Width => {
            format!(
                "{name}: hidden size, all else of a layer in proportion, {tokens} tokens a step"
            )
        }
        ScaleAxis::MicroBatch => {
            format!("{name}: sequences at once, {} of them a step ({tokens} tokens)", step.0)
        }
        ScaleAxis::Ranks => {
            format!("{name}: two ranks on one device beside one, {tokens} tokens a step")
        }
    }
}

/// A line for each quantity that grows faster along the axis than it must.
pub(super) fn faster(axis: ScaleAxis, rows: &[Row]) -> Vec<String> {
    // Ranks are beside each other, not along an axis.
    let Some((first, last)) = whole(rows).filter(|_| axis != ScaleAxis::Ranks) else {
        return Vec::new();
    };
    let line = |quantity: Quantity| {
        let growth = last.growth(first, quantity).filter(Growth::is_faster_on_the_whole)?;
        Some(format!(
            "grows faster than it must: {} {} -> {}: {}, {}",
            axis.name(),
            first.point.label,
            last.point.label,
            quantity.name(),
            grown(&growth)
        ))
    };
    Quantity::ALL.into_iter().filter_map(line).collect()
}

/// An axis for programs.
pub(super) fn results(axis: ScaleAxis, rows: &[Row]) -> Value {
    let point = |(row, before): (&Row, Option<&Row>)| {
        let mut object = figures(row);
        if axis == ScaleAxis::Ranks {
            object["times_one"] = times_one(row, rows.first());
        } else {
            object["exponents"] = exponents(row, before, Growth::is_faster);
        }
        object
    };
    let points: Vec<Value> = with_before(rows).map(point).collect();
    let mut results = json!({ "axis": axis.name(), "points": points });
    if axis != ScaleAxis::Ranks
        && let Some((first, last)) = whole(rows)
    {
        results["exponents"] = exponents(last, Some(first), Growth::is_faster_on_the_whole);
    }
    results
}

/// How each quantity has grown from the row before.
fn exponents(row: &Row, before: Option<&Row>, is_faster: fn(&Growth) -> bool) -> Value {
    let of = |quantity: Quantity| {
        let growth = row.growth(before?, quantity)?;
        let (exponent, must) = (growth.exponent, growth.must);
        let value = json!({ "is": exponent, "must": must, "faster": is_faster(&growth) });
        Some((quantity.name().to_string(), value))
    };
    Value::Object(Quantity::ALL.into_iter().filter_map(of).collect())
}

/// Each quantity as a multiple of that of one device.
fn times_one(row: &Row, one: Option<&Row>) -> Value {
    let of = |quantity: Quantity| {
        let ratio = row.ratio(one?, quantity)?;
        Some((quantity.name().to_string(), ratio.into()))
    };
    Value::Object(Quantity::ALL.into_iter().filter_map(of).collect())
}

fn figures(row: &Row) -> Value {
    let (sequences, tokens) = row.point.step().unwrap_or_default();
    let mut object = json!({
        "label": row.point.label, "value": row.point.value, "set": row.point.sets,
        "sequences": sequences, "tokens": tokens,
    });
    match &row.seen {
        Seen::Measured(figures) => {
            object["step_ms"] = figures.step_ms.into();
            object["tokens_per_s"] = figures.tokens_per_s.into();
            object["gradients_ms"] = figures.gradients_ms.into();
            object["optimizer_ms"] = figures.optimizer_ms.into();
            object["memory_bytes"] = figures.memory_bytes.into();
            object["gflop_per_s"] = figures.gflop_per_s.into();
            object["of_peak"] = figures.of_peak.into();
        }
        Seen::LeftOut(why) => object["left_out"] = why.as_str().into(),
    }
    if let Some(bound) = &row.bound {
        object["least_ms"] = bound.step_ms().into();
        object["least_bytes"] = bound.memory_bytes.into();
    }
    object
}

#[cfg(test)]
mod tests {
    use super::super::axis::{Point, points};
    use super::super::bound::Bound;
    use super::*;
    use crate::config::ConfigRequest;

    fn all_points(axis: ScaleAxis) -> Vec<Point> {
        let request = ConfigRequest { config: Some("bench".into()), ..Default::default() };
        points(axis, &request.resolve().unwrap(), &request, None).unwrap()
    }

    /// A row whose forward and backward takes so long, and at least so long.
    fn row(point: &Point, gradients_ms: f64, least_ms: f64) -> Row {
        let figures = Figures {
            step_ms: gradients_ms + 10.0,
            tokens_per_s: 1000.0,
            gradients_ms,
            optimizer_ms: 10.0,
            memory_bytes: Some(100.0 * MEBI),
            gflop_per_s: 50.0,
            of_peak: Some(0.5),
        };
        let bound = Bound { gradients_ms: least_ms, optimizer_ms: 1.0, memory_bytes: 100.0 * MEBI };
        Row { point: point.clone(), bound: Some(bound), seen: Seen::Measured(figures) }
    }

    #[test]
    fn what_grows_faster_than_it_must_is_told() {
        let points = all_points(ScaleAxis::Experts);
        let rows = [
            row(&points[0], 100.0, 10.0),
            row(&points[1], 105.0, 10.0),
            row(&points[2], 210.0, 11.0),
        ];
        // From 100 and 10 ms to 210 and 11 over two doublings.
        let lines = faster(ScaleAxis::Experts, &rows);
        assert_eq!(
            lines,
            [
                "grows faster than it must: experts 8 -> 32: step, 0.50 (0.06)",
                "grows faster than it must: experts 8 -> 32: forward and backward, 0.54 (0.07)",
            ]
        );
        assert!(faster(ScaleAxis::Experts, &rows[..2]).is_empty(), "one step is no axis");
        let text = text(ScaleAxis::Experts, &rows, 200);
        assert!(text.contains("experts: routed experts, 2 of them a token, 2048 tokens a step"));
        assert!(text.contains("0.07 (0.00)  ") && text.contains("1.00 (0.14) !"), "{text}");
        let results = results(ScaleAxis::Experts, &rows);
        let exponents = |index: usize| &results["points"][index]["exponents"];
        assert_eq!(*exponents(0), json!({}));
        let whole = &results["exponents"]["forward and backward"];
        let is = whole["is"].as_f64().unwrap();
        assert!((is - 2.1f64.log2() / 2.0).abs() < 1e-9 && whole["faster"] == true, "{whole}");
        assert_eq!(exponents(2)["forward and backward"]["is"], 1.0);
        assert_eq!(exponents(2)["forward and backward"]["faster"], true);
        assert_eq!(exponents(1)["optimizer"], json!({"is": 0.0, "must": 0.0, "faster": false}));
    }

    #[test]
    fn a_row_that_is_left_out_is_stepped_over() {
        let points = all_points(ScaleAxis::Depth);
        let out = Row { seen: Seen::LeftOut("it needs more".into()), ..row(&points[1], 1.0, 1.0) };
        let rows = [row(&points[0], 100.0, 10.0), out, row(&points[2], 400.0, 40.0)];
        let text = text(ScaleAxis::Depth, &rows, 200);
        assert!(text.ends_with("depth = 4: left out: it needs more\n"), "{text}");
        assert!(text.contains("1.00 (1.00)"), "{text}");
        let results = results(ScaleAxis::Depth, &rows);
        assert_eq!(results["points"][1]["left_out"], "it needs more");
        assert_eq!(results["points"][1]["step_ms"], Value::Null);
        assert_eq!(results["points"][2]["exponents"]["forward and backward"]["is"], 1.0);
        assert!(faster(ScaleAxis::Depth, &rows).is_empty());
    }

    #[test]
    fn ranks_are_beside_one_device() {
        let points = all_points(ScaleAxis::Ranks);
        let rows: Vec<Row> = points.iter().map(|point| row(point, 90.0, 10.0)).collect();
        let slower = [rows[0].clone(), row(&points[1], 190.0, 10.0), rows[2].clone()];
        let text = text(ScaleAxis::Ranks, &slower, 200);
        assert!(text.contains("pipeline=2    200.0   2.00"), "{text}");
        assert!(faster(ScaleAxis::Ranks, &slower).is_empty());
        let results = results(ScaleAxis::Ranks, &slower);
        assert_eq!(results["points"][1]["times_one"]["step"], 2.0);
        assert_eq!(results["points"][2]["times_one"]["memory"], 1.0);
        assert_eq!(results["points"][1]["exponents"], Value::Null);
    }
}
