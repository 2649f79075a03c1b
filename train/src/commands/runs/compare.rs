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
    let runs: Vec<&RunSummary> = runs.iter().collect();
    let differing = differences(&runs)?;
    if !args.json {
        let mut text = table(&runs, &differing).text(width());
        if differing.is_empty() {
            text += "\nthe configurations are the same\n";
        }
        write_stdout(&text)?;
    }
    let keys: serde_json::Map<String, Value> =
        differing.into_iter().map(|(key, values)| (key, json!(values))).collect();
    let results: Vec<_> = runs.iter().map(|run| results_of(run)).collect();
    Ok(Outcome::done(json!({"command": "runs compare", "runs": results, "differences": keys})))
}

/// The keys of the configuration that runs do not all have alike, and the value of each run as TOML;
/// none where it has none. Where a run lies is no difference.
///
/// # Errors
/// A configuration that has no form in TOML.
pub(in crate::commands) fn differences(
    runs: &[&RunSummary],
) -> Result<BTreeMap<String, Vec<Option<String>>>> {
    let keys_of = |run: &&RunSummary| {
        let mut keys = BTreeMap::new();
        flatten("", &toml::from_str(&run.config.shown().to_toml()?).unwrap_or_default(), &mut keys);
        Ok(keys)
    };
    Ok(differing(&runs.iter().map(keys_of).collect::<Result<Vec<_>>>()?))
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

/// A row a run: how far it came, then what it has otherwise than others. The first row has the names
/// of the columns, with `<` before those of text.
pub(in crate::commands) fn rows(
    runs: &[&RunSummary],
    differing: &BTreeMap<String, Vec<Option<String>>>,
) -> Vec<Vec<String>> {
    let names = COLUMNS.into_iter().chain(["trained"]).map(String::from);
    let mut rows = vec![names.chain(differing.keys().cloned()).collect()];
    for (index, run) in runs.iter().enumerate() {
        let seconds = run.step.as_ref().map(|step| step.stamp.elapsed_seconds);
        let trained = seconds.map_or_else(|| "-".into(), duration);
        let keys = differing.values().map(|values| values[index].clone());
        let keys = keys.map(|value| value.unwrap_or_else(|| "-".into()));
        rows.push(cells(run).into_iter().chain([trained]).chain(keys).collect());
    }
    rows
}

fn table(runs: &[&RunSummary], differing: &BTreeMap<String, Vec<Option<String>>>) -> Columns {
    let mut rows = rows(runs, differing).into_iter();
    let names = rows.next().unwrap_or_default();
    let mut table = Columns::new(names.iter().map(String::as_str));
    rows.for_each(|row| table.row(row));
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
