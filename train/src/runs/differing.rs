//! In what the configurations of runs differ.

use std::collections::BTreeMap;

use toml::Table;

use crate::config::RunConfig;
use crate::failure::{Result, UsageError};

/// Keys that say where a run lies, not what it is.
const PLACES: [&str; 3] = ["output.dir", "output.name", "output.run_dir"];

/// The whole keys that not all of some configurations have alike, and the value of each, as TOML;
/// none where it has none. What is secret of them is left out.
///
/// # Errors
/// A value that has no TOML form.
pub fn differing(configs: &[&RunConfig]) -> Result<BTreeMap<String, Vec<Option<String>>>> {
    let tables = configs.iter().map(|config| {
        let table = toml::from_str(&config.shown().to_toml()?)
            .map_err(|error| UsageError(format!("a configuration cannot be read back: {error}")))?;
        let mut keys = BTreeMap::new();
        flatten("", &table, &mut keys);
        Ok(keys)
    });
    Ok(of_tables(&tables.collect::<Result<Vec<_>>>()?))
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

fn of_tables(configs: &[BTreeMap<String, String>]) -> BTreeMap<String, Vec<Option<String>>> {
    let keys = configs.iter().flat_map(BTreeMap::keys);
    keys.filter(|key| !PLACES.contains(&key.as_str()))
        .map(|key| (key.clone(), configs.iter().map(|config| config.get(key).cloned()).collect()))
        .filter(|(_, values): &(String, Vec<Option<String>>)| {
            values.iter().any(|value| *value != values[0])
        })
        .collect()
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
        assert_eq!(of_tables(&[one, two]), expected.into());
    }
}
