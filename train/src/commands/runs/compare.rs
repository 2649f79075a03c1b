//! `runs compare`: in what runs differ, and what came of it.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use toml::Table;

use super::{COLUMNS, cells, results_of};
use crate::cli::RunsCompareArgs;
use crate::exit::Outcome;
use crate::failure::{Result, UsageError};
use crate::fold::{Columns, width};
use crate::metrics::duration;
use crate::runs::{RunSummary, find_runs};
use crate::stdout::write_stdout;

/// Keys that say where a run lies, not what it is.
const PLACES: [&str; 3] = ["output.dir", "output.name", "output.run_dir"];

/// Compares runs.
pub(super) fn run(args: &RunsCompareArgs) -> Result<Outcome> {
    let folders = find_runs(&args.folders)?;
    if folders.len() < 2 {
        let problem = format!(
            "runs compare needs at least two runs; {} found in the folders given",
            if folders.is_empty() { "none were".into() } else { format!("{} was", folders.len()) }
        );
        return Err(UsageError(problem).into());
    }
    let runs = folders.iter().map(|folder| RunSummary::read(folder)).collect::<Result<Vec<_>>>()?;
    let configs = runs
        .iter()
        .map(|run| {
            let mut keys = BTreeMap::new();
            flatten(
                "",
                &toml::from_str(&run.config.shown().to_toml()?).unwrap_or_default(),
                &mut keys,
            );
            Ok(keys)
        })
        .collect::<Result<Vec<BTreeMap<String, String>>>>()?;
    let differing = differing(&configs);
    if !args.json {
        let mut text = table(&runs, &differing).text(width());
        if differing.is_empty() {
            text += "\nthe configurations are the same\n";
        }
        write_stdout(&text)?;
    }
    let keys: serde_json::Map<String, Value> =
        differing.into_iter().map(|(key, values)| (key, json!(values))).collect();
    let results: Vec<_> = runs.iter().map(results_of).collect();
    Ok(Outcome::done(json!({"command": "runs compare", "runs": results, "differences": keys})))
}

/// The values of a table by their whole keys, tables within it gone through.
fn flatten(prefix: &str, table: &Table, keys: &mut BTreeMap<String, String>) {
    for (key, value) in table {
        match value {
            toml::Value::Table(inner) => flatten(&format!("{prefix}{key}."), inner, keys),
            value => {
                keys.insert(format!("{prefix}{key}"), value.to_string());
            }
        }
    }
}

/// The keys that not all have alike, and the value of each; none where it has none.
fn differing(configs: &[BTreeMap<String, String>]) -> BTreeMap<String, Vec<Option<String>>> {
    let keys = configs.iter().flat_map(BTreeMap::keys);
    keys.filter(|key| !PLACES.contains(&key.as_str()))
        .map(|key| (key.clone(), configs.iter().map(|config| config.get(key).cloned()).collect()))
        .filter(|(_, values): &(String, Vec<Option<String>>)| {
            values.iter().any(|value| *value != values[0])
        })
        .collect()
}

/// A row a run: how far it came, then what it has otherwise than others.
fn table(runs: &[RunSummary], differing: &BTreeMap<String, Vec<Option<String>>>) -> Columns {
    let names = COLUMNS.into_iter().chain(["trained"]);
    let mut table = Columns::new(names.chain(differing.keys().map(String::as_str)));
    for (index, run) in runs.iter().enumerate() {
        let seconds = run.step.as_ref().map(|step| step.stamp.elapsed_seconds);
        let trained = seconds.map_or_else(|| "-".into(), duration);
        let keys = differing.values().map(|values| values[index].clone());
        let keys = keys.map(|value| value.unwrap_or_else(|| "-".into()));
        table.row(cells(run).into_iter().chain([trained]).chain(keys));
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_differs_is_told() {
        let config = |text: &str| {
            let mut keys = BTreeMap::new();
            flatten("", &toml::from_str(text).unwrap(), &mut keys);
            keys
        };
        let one = config("[train]\nseed = 1\nsteps = 5\n[output]\nname = \"a\"\n[x.y]\nz = 1");
        let two = config("[train]\nseed = 2\nsteps = 5\n[output]\nname = \"b\"");
        let some = |text: &str| Some(text.to_string());
        let expected = [
            ("train.seed".to_string(), vec![some("1"), some("2")]),
            ("x.y.z".to_string(), vec![some("1"), None]),
        ];
        assert_eq!(differing(&[one, two]), expected.into());
    }
}
