//! The runs that can be compared: what each is called, what it shows, and what it sets.

use crate::cli::FixedRouting;
use crate::config::nearest;
use crate::failure::UsageError;

/// One way to compute a run.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct NamedRun {
    /// What `--runs` calls it.
    pub name: &'static str,
    /// What it is, in a few words.
    pub what: &'static str,
    /// `--set` values, laid over everything else.
    pub set: &'static [&'static str],
    /// Whether its micro-batches are of one sequence.
    pub split: bool,
}

impl NamedRun {
    const fn new(name: &'static str, what: &'static str, set: &'static [&'static str]) -> Self {
        Self { name, what, set, split: false }
    }
}

/// A run of a comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Planned {
    /// How it is computed.
    pub run: &'static NamedRun,
    /// Whether it takes the experts that the baseline chose.
    pub fixed: bool,
}

impl Planned {
    /// What it is called, and its folder.
    pub fn name(self) -> String {
        format!("{}{}", self.run.name, if self.fixed { "-fixed-routing" } else { "" })
    }

    /// What it is, in a few words; `baseline` is the first run's name.
    pub fn what(self, baseline: &str) -> String {
        let experts = format!(", with the experts that {baseline} chose");
        format!("{}{}", self.run.what, if self.fixed { experts } else { String::new() })
    }
}

/// The runs of a comparison, the baseline first.
pub(super) fn planned(runs: &[&'static NamedRun], fixed: Option<FixedRouting>) -> Vec<Planned> {
    let forms = match fixed {
        None => &[false][..],
        Some(FixedRouting::Only) => &[true],
        Some(FixedRouting::Beside) => &[false, true],
    };
    let baseline = runs.iter().take(1).map(|&run| Planned { run, fixed: false });
    let others = runs.iter().skip(1);
    let others = others.flat_map(|&run| forms.iter().map(move |&fixed| Planned { run, fixed }));
    baseline.chain(others).collect()
}

/// All of them: **the table**.
pub(super) const RUNS: &[NamedRun] = &[
    NamedRun::new("f32", "FP32 throughout", &["precision.format=f32"]),
    NamedRun {
        split: true,
        ..NamedRun::new(
            "f32-split",
            "FP32 in micro-batches of one sequence: the same sums in another order, so what \
             rounding alone does to a run",
            &["precision.format=f32"],
        )
    },
    NamedRun::new("bf16", "BF16 linears and head, FP32 sums", &["precision.format=bf16"]),
    NamedRun::new("fp8", "the report's recipe (3.3)", &["precision.format=fp8"]),
    NamedRun::new(
        "fp8-14bit",
        "sums in one accumulator of 14 bits, not promoted",
        &["precision.format=fp8", "precision.accumulator_bits=14", "precision.promotion=false"],
    ),
    NamedRun::new(
        "fp8-14bit-promoted",
        "sums of 128 in 14 bits, promoted to FP32",
        &["precision.format=fp8", "precision.accumulator_bits=14", "precision.promotion=true"],
    ),
    NamedRun::new(
        "fp8-tensor",
        "one scale a tensor: activations, gradients, weights",
        &[
            "precision.format=fp8",
            "precision.activation_tiles=tensor",
            "precision.gradient_tiles=tensor",
            "precision.weight_tiles=tensor",
        ],
    ),
    NamedRun::new(
        "fp8-block-gradients",
        "128x128 blocks for activation gradients (B.2)",
        &["precision.format=fp8", "precision.gradient_tiles=block"],
    ),
    NamedRun::new(
        "fp8-requantized",
        "1x128 codes kept for Wgrad and quantized again in backward (3.5.2)",
        &["precision.format=fp8", "precision.kept=rows"],
    ),
    NamedRun::new(
        "fp8-power-of-two",
        "scales that are powers of two",
        &["precision.format=fp8", "precision.scales=power-of-two"],
    ),
];

/// The runs of these names, in their order: the first is what the others are compared with.
///
/// # Errors
/// A name that is unknown or comes twice, or fewer than two.
pub(super) fn named(names: &[String]) -> Result<Vec<&'static NamedRun>, UsageError> {
    let mut found: Vec<&'static NamedRun> = Vec::new();
    for name in names {
        let run = RUNS.iter().find(|run| run.name == name).ok_or_else(|| {
            let known: Vec<&str> = RUNS.iter().map(|run| run.name).collect();
            let hint = nearest(name, known.iter().copied())
                .map_or_else(String::new, |nearest| format!("; did you mean {nearest}?"));
            UsageError(format!("--runs: \"{name}\" is unknown{hint}; known: {}", known.join(", ")))
        })?;
        if found.contains(&run) {
            return Err(UsageError(format!(
                "--runs: \"{name}\" is there twice; a run is trained once"
            )));
        }
        found.push(run);
    }
    if found.len() < 2 {
        return Err(UsageError(
            "--runs needs at least two names, the first of them the baseline, as in --runs f32,fp8"
                .into(),
        ));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ConfigRequest;

    #[test]
    fn every_run_resolves_to_another_computation() {
        let mut seen = Vec::new();
        for run in RUNS {
            let set = run.set.iter().map(ToString::to_string).collect();
            let config = ConfigRequest { set, ..ConfigRequest::default() }.resolve().unwrap();
            let computation = (config.precision.precision(), run.split);
            assert!(!seen.contains(&computation), "{} computes what another run does", run.name);
            assert!(
                run.name.starts_with(config.precision.precision().name()),
                "{} says its format first",
                run.name
            );
            seen.push(computation);
        }
    }

    #[test]
    fn a_routing_is_fixed_beside_or_instead() {
        let runs = [&RUNS[0], &RUNS[2]];
        let names =
            |fixed| planned(&runs, fixed).into_iter().map(Planned::name).collect::<Vec<_>>();
        assert_eq!(names(None), ["f32", "bf16"]);
        assert_eq!(names(Some(FixedRouting::Only)), ["f32", "bf16-fixed-routing"]);
        assert_eq!(names(Some(FixedRouting::Beside)), ["f32", "bf16", "bf16-fixed-routing"]);
    }

    #[test]
    fn names_are_checked() {
        let names = |text: &str| named(&text.split(',').map(str::to_string).collect::<Vec<_>>());
        assert_eq!(
            names("bf16,fp8").unwrap().iter().map(|run| run.name).collect::<Vec<_>>(),
            ["bf16", "fp8"]
        );
        for (text, part) in [
            ("f32,fp9", "\"fp9\" is unknown; did you mean fp8?; known: f32, "),
            ("f32,banana", "\"banana\" is unknown; known: f32, "),
            ("f32,fp8,f32", "\"f32\" is there twice"),
            ("f32", "two names"),
        ] {
            let error = names(text).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
    }
}
