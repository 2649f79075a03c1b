//! Worst errors of a case, kind by kind, against what each may be.

use std::collections::BTreeMap;
use std::fmt;

/// The worst error of one kind, and where it was.
#[derive(Clone, Debug)]
pub struct Worst {
    /// The error, in the kind's own measure.
    pub error: f64,
    /// What it may be at most.
    pub limit: f64,
    /// Tensor with the worst error.
    pub name: String,
    /// Tensors compared.
    pub count: usize,
}

/// Errors of one case on one device.
#[derive(Clone, Debug, Default)]
pub struct Report {
    kinds: BTreeMap<&'static str, Worst>,
}

impl Report {
    /// Records an error; NaN counts as infinite.
    pub fn add(&mut self, kind: &'static str, name: &str, error: f64, limit: f64) {
        let error = if error.is_nan() { f64::INFINITY } else { error };
        let worst = self.kinds.entry(kind).or_insert(Worst {
            error: -1.0,
            limit,
            name: String::new(),
            count: 0,
        });
        worst.count += 1;
        if error > worst.error {
            (worst.error, worst.limit, worst.name) = (error, limit, name.to_owned());
        }
    }

    /// Largest absolute difference.
    pub fn absolute(
        &mut self,
        kind: &'static str,
        name: &str,
        got: &[f64],
        want: &[f64],
        limit: f64,
    ) {
        let error = difference(got, want);
        self.add(kind, name, error, limit);
    }

    /// Largest absolute difference, relative to the largest magnitude wanted.
    pub fn relative(
        &mut self,
        kind: &'static str,
        name: &str,
        got: &[f64],
        want: &[f64],
        limit: f64,
    ) {
        let scale =
            want.iter().fold(0f64, |max, v| max.max(v.abs())).max(f64::from(f32::MIN_POSITIVE));
        self.add(kind, name, difference(got, want) / scale, limit);
    }

    /// Number of entries that differ; none may.
    pub fn exact<T: PartialEq>(&mut self, kind: &'static str, name: &str, got: &[T], want: &[T]) {
        let wrong = if got.len() == want.len() {
            got.iter().zip(want).filter(|(a, b)| a != b).count()
        } else {
            usize::MAX
        };
        self.add(kind, name, wrong as f64, 0.0);
    }

    /// Whether every kind is within its limit, and there is at least one.
    pub fn passed(&self) -> bool {
        !self.kinds.is_empty() && self.kinds.values().all(|worst| worst.error <= worst.limit)
    }

    /// Kinds compared.
    pub fn kinds(&self) -> impl Iterator<Item = &'static str> + '_ {
        self.kinds.keys().copied()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (kind, worst) in &self.kinds {
            let verdict = if worst.error <= worst.limit { "ok" } else { "FAILED" };
            writeln!(
                f,
                "    {kind:<22} {:>9.1e} of {:<8.0e} {verdict:<7} {:>4} tensors, worst {}",
                worst.error, worst.limit, worst.count, worst.name
            )?;
        }
        Ok(())
    }
}

fn difference(got: &[f64], want: &[f64]) -> f64 {
    if got.len() != want.len() {
        return f64::INFINITY;
    }
    got.iter().zip(want).fold(0f64, |max, (a, b)| {
        let d = (a - b).abs();
        if d.is_nan() { f64::INFINITY } else { max.max(d) }
    })
}
