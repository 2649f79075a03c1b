//! What a bench prints: one row a figure, with its unit and its ratios to other rows of the same
//! run.

use serde_json::json;

use crate::fold::{Columns, fold};

/// Milliseconds, one a repetition.
pub(super) type Times = Vec<f64>;

/// The middle one; of an even number the mean of the two in the middle.
pub(in crate::commands) fn median(times: &[f64]) -> f64 {
    let mut sorted = times.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => f64::NAN,
        odd if odd % 2 == 1 => sorted[middle],
        _ => (sorted[middle - 1] + sorted[middle]) / 2.0,
    }
}

/// One figure: the median of its repetitions between the least and the greatest.
#[derive(Debug)]
struct Row {
    name: String,
    unit: &'static str,
    value: f64,
    min: f64,
    max: f64,
    ratios: Vec<(String, f64)>,
}

/// All figures of a bench.
#[derive(Debug)]
pub(super) struct Table {
    bench: &'static str,
    setting: String,
    device: String,
    /// Which path products take, where it is known.
    products: Option<String>,
    rows: Vec<Row>,
}

impl Table {
    pub fn new(bench: &'static str, setting: String, device: &str) -> Self {
        Self { bench, setting, device: device.into(), products: None, rows: Vec::new() }
    }

    /// The table with what is told of the device's products.
    pub fn with_products(self, products: Option<String>) -> Self {
        Self { products, ..self }
    }

    /// Adds a row of milliseconds.
    pub fn time(&mut self, name: &str, times: &[f64]) {
        self.add(name, "ms", times);
    }

    /// Adds the row `name` of tokens a second, where each repetition took so many.
    pub fn speed(&mut self, name: &str, tokens: usize, times: &[f64]) {
        self.per_second(name, "tokens/s", tokens as f64, times);
    }

    /// Adds the row `name` of so much a second, where each repetition did `amount`.
    pub fn per_second(&mut self, name: &str, unit: &'static str, amount: f64, times: &[f64]) {
        let speeds: Vec<f64> = times.iter().map(|ms| amount / ms * 1e3).collect();
        self.add(name, unit, &speeds);
        // The median's speed, not the median of speeds: the two differ for an even number of
        // repetitions.
        if let Some(row) = self.rows.last_mut() {
            row.value = amount / median(times) * 1e3;
        }
    }

    /// Adds a row of one value.
    pub fn figure(&mut self, name: &str, unit: &'static str, value: f64) {
        self.add(name, unit, &[value]);
    }

    /// Gives the row `name` its ratio to the row `baseline` of the same unit.
    pub fn compare(&mut self, name: &str, baseline: &str) {
        let value = |name: &str| {
            self.rows.iter().find(|row| row.name == name).map(|row| (row.unit, row.value))
        };
        if let (Some((unit, value)), Some((baseline_unit, base))) = (value(name), value(baseline))
            && unit == baseline_unit
            && let Some(row) = self.rows.iter_mut().find(|row| row.name == name)
        {
            row.ratios.push((baseline.into(), value / base));
        }
    }

    /// Adds a row of milliseconds that took turns with those of the row `baseline`. Its ratio is the
    /// median of the turns' ratios: a machine that is slow for a while is so for both.
    pub fn time_in_turn(&mut self, name: &str, times: &[f64], baseline: &str, base: &[f64]) {
        self.time(name, times);
        let ratios: Times = times.iter().zip(base).map(|(time, base)| time / base).collect();
        if let Some(row) = self.rows.last_mut() {
            row.ratios.push((baseline.into(), median(&ratios)));
        }
    }

    fn add(&mut self, name: &str, unit: &'static str, values: &[f64]) {
        let (min, max) = values
            .iter()
            .fold((f64::INFINITY, f64::NEG_INFINITY), |(min, max), &v| (min.min(v), max.max(v)));
        self.rows.push(Row {
            name: name.into(),
            unit,
            value: median(values),
            min,
            max,
            ratios: Vec::new(),
        });
    }

    /// For people, in so many columns.
    pub fn text(&self, width: usize) -> String {
        let mut columns = Columns::new(["<", "median", "min", "max", "<unit", "<ratio"]);
        for row in &self.rows {
            let ratios: Vec<String> = row
                .ratios
                .iter()
                .map(|(baseline, ratio)| format!("{ratio:.2}x {baseline}"))
                .collect();
            let [value, min, max] =
                [row.value, row.min, row.max].map(|value| format!("{value:.1}"));
            columns.row([
                row.name.clone(),
                value,
                min,
                max,
                row.unit.to_string(),
                ratios.join(", "),
            ]);
        }
        let products = match &self.products {
            Some(products) => format!(" (products {products})"),
            None => String::new(),
        };
        let Self { bench, setting, device, .. } = self;
        let setting = format!("bench {bench}: {setting}, on {device}{products}\n");
        fold(&setting, width) + &columns.text(width)
    }

    /// For programs.
    pub fn results(&self) -> serde_json::Value {
        let rows = self.rows.iter().map(|row| {
            let ratios =
                row.ratios.iter().map(|(baseline, ratio)| (baseline.clone(), json!(ratio)));
            json!({
                "name": row.name, "unit": row.unit,
                "value": row.value, "min": row.min, "max": row.max,
                "ratios": ratios.collect::<serde_json::Map<_, _>>(),
            })
        });
        json!({
            "command": "bench", "bench": self.bench,
            "setting": self.setting, "device": self.device, "products": self.products,
            "rows": rows.collect::<Vec<_>>(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle() {
        assert_eq!(median(&[5.0, 1.0, 3.0]), 3.0);
        assert_eq!(median(&[4.0, 1.0, 2.0, 30.0]), 3.0);
        assert!(median(&[]).is_nan());
    }

    #[test]
    fn rows_have_their_unit_and_their_ratios() {
        let mut table = Table::new("train", "tiny".into(), "flex");
        table.time("step", &[100.0, 50.0]);
        table.speed("speed", 10, &[100.0, 50.0]);
        table.time("forward", &[25.0, 20.0]);
        table.compare("forward", "step");
        table.compare("forward", "speed"); // another unit: nothing
        let rows = &table.results()["rows"];
        assert_eq!(
            rows[0],
            json!({
                "name": "step", "unit": "ms", "value": 75.0, "min": 50.0, "max": 100.0, "ratios": {}
            })
        );
        let speed = rows[1]["value"].as_f64().unwrap();
        assert!((speed - 10.0 / 0.075).abs() < 1e-9, "{speed}");
        assert_eq!(rows[2]["ratios"], json!({"step": 0.3}));
        let text = table.text(80);
        assert!(text.contains("0.30x step"), "{text}");
    }

    #[test]
    fn what_takes_turns_is_compared_turn_by_turn() {
        let mut table = Table::new("train", "tiny".into(), "flex");
        let (steps, others) = ([100.0, 400.0, 110.0], [50.0, 220.0, 44.0]);
        table.time("step", &steps);
        table.time_in_turn("other", &others, "step", &steps);
        // 0.5, 0.55 and 0.4: not the ratio of the medians, 50 / 110.
        assert_eq!(table.results()["rows"][1]["ratios"], json!({"step": 0.5}));
    }

    #[test]
    fn a_rate_is_that_of_the_median() {
        let mut table = Table::new("train", "tiny".into(), "flex");
        table.per_second("rate", "GFLOP/s", 3.0, &[100.0, 50.0]);
        table.figure("peak", "GFLOP/s", 80.0);
        table.compare("rate", "peak");
        assert_eq!(
            table.results()["rows"],
            json!([
                {"name": "rate", "unit": "GFLOP/s", "value": 40.0, "min": 30.0, "max": 60.0,
                 "ratios": {"peak": 0.5}},
                {"name": "peak", "unit": "GFLOP/s", "value": 80.0, "min": 80.0, "max": 80.0,
                 "ratios": {}},
            ])
        );
    }
}
