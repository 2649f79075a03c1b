//! The configurations of `configs/`, compiled in, so that the binary works from any folder.

use super::error::ConfigError;
use super::keys::nearest;

macro_rules! embed {
    ($folder:literal: $($name:literal),+ $(,)?) => {
        &[$(($name, include_str!(concat!("../../../configs/", $folder, "/", $name, ".toml")))),+]
    };
}

/// Models by name, as TOML.
pub const MODELS: &[(&str, &str)] = embed!("model":
    "quickstart", "tiny", "bench-5m", "small", "medium", "large",
    "deepseek-v2-lite-16b", "moonlight-16b", "glm-4.7-flash-30b",
    "deepseek-v2-236b", "deepseek-v3-671b", "kimi-k2-1t",
);

/// Runs by name, as TOML.
pub const RUNS: &[(&str, &str)] = embed!(
    "run": "quickstart", "tiny-text", "bench", "deepseek-v3", "deepseek-v3-32k", "deepseek-v3-128k"
);

/// Clusters by name, as TOML.
pub const CLUSTERS: &[(&str, &str)] =
    embed!("cluster": "h800-2048", "gpu-8", "h100-1", "two-machines", "cpu-2");

/// The cluster of `plan cluster` without `--cluster`.
pub const DEFAULT_CLUSTER: &str = "h800-2048";

/// The run of `train` without `--config`.
pub const DEFAULT_RUN: &str = "quickstart";

/// The text of `name` in `list`.
pub(crate) fn find(
    list: &'static [(&'static str, &'static str)],
    name: &str,
) -> Option<&'static str> {
    list.iter().find(|(known, _)| *known == name).map(|(_, text)| *text)
}

/// The names of `list`, for a message.
pub(crate) fn names(list: &[(&str, &str)]) -> String {
    list.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ")
}

/// The error of a name that is not in `list`, with what may have been meant.
pub(crate) fn unknown(
    what: &'static str,
    name: &str,
    list: &'static [(&'static str, &'static str)],
) -> ConfigError {
    let elsewhere = [("model preset", MODELS), ("run configuration", RUNS), ("cluster", CLUSTERS)]
        .into_iter()
        .find(|(other, list)| *other != what && find(list, name).is_some());
    let hint = match (elsewhere, nearest(name, list.iter().map(|(known, _)| *known))) {
        (Some(("model preset", _)), _) => Some(format!(
            "; {name} is a model: --preset {name}, or --set model.preset={name} for a run of it"
        )),
        (Some((other, _)), _) => Some(format!("; {name} is a {other}")),
        (None, Some(nearest)) => Some(format!("; did you mean {nearest}?")),
        (None, None) => None,
    };
    ConfigError::UnknownName { what, name: name.into(), hint, known: names(list) }
}

/// Whether an argument is meant as a path, not as the name of something embedded.
pub(crate) fn is_path(argument: &str) -> bool {
    argument.contains(['/', '\\']) || argument.ends_with(".toml")
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::{ClusterConfig, ConfigRequest, RunConfig, resolve_cluster, resolve_model};

    /// Names and texts of the files of `configs/<folder>`.
    fn files(folder: &str) -> Vec<(String, String)> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../configs").join(folder);
        let mut files: Vec<_> = std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .map(|path| {
                (
                    path.file_stem().unwrap().to_str().unwrap().to_string(),
                    std::fs::read_to_string(&path).unwrap(),
                )
            })
            .collect();
        files.sort();
        files
    }

    #[test]
    fn every_file_of_configs_is_embedded() {
        for (folder, embedded) in [("model", MODELS), ("run", RUNS), ("cluster", CLUSTERS)] {
            let mut known: Vec<_> =
                embedded.iter().map(|(name, text)| (name.to_string(), text.to_string())).collect();
            known.sort();
            assert_eq!(known, files(folder));
        }
    }

    #[test]
    fn every_model_has_the_parameters_that_it_says() {
        let expected = [
            ("quickstart", 426_400, 260_512, 167_480),
            ("tiny", 1_062_488, 620_120, 303_864),
            ("bench-5m", 5_604_248, 3_834_776, 0),
            ("small", 28_152_080, 14_881_040, 4_370_544),
            ("medium", 130_411_744, 53_341_408, 14_084_960),
            ("large", 904_148_448, 290_731_488, 57_218_848),
            ("deepseek-v2-lite-16b", 15_706_484_224, 2_661_150_208, 0),
            ("moonlight-16b", 15_960_110_208, 2_914_776_192, 0),
            ("glm-4.7-flash-30b", 29_943_393_920, 3_896_766_080, 643_706_176),
            ("deepseek-v2-236b", 235_741_434_880, 21_375_800_320, 0),
            ("deepseek-v3-671b", 671_026_419_200, 37_552_297_472, 11_610_068_224),
            ("kimi-k2-1t", 1_026_408_232_448, 32_861_500_928, 0),
        ];
        assert_eq!(
            expected.map(|(name, ..)| name).to_vec(),
            MODELS.iter().map(|(name, _)| *name).collect::<Vec<_>>()
        );
        for (name, total, active, mtp) in expected {
            let counts = resolve_model(Some(name), None, &[]).unwrap().parameter_counts();
            println!("{name:<22} total {total:>15} active {active:>14} MTP {mtp:>14}");
            assert_eq!((counts.total, counts.active, counts.mtp), (total, active, mtp), "{name}");
        }
    }

    #[test]
    fn a_name_that_is_none_is_answered_by_the_nearest() {
        for (what, name, list, part) in [
            ("run configuration", "tinytext", RUNS, "; did you mean tiny-text?"),
            ("run configuration", "quikstart", RUNS, "; did you mean quickstart?"),
            ("run configuration", "tiny", RUNS, "tiny is a model: --preset tiny"),
            ("model preset", "tiny-text", MODELS, "tiny-text is a run configuration"),
            ("model preset", "deepseek-v3-671", MODELS, "; did you mean deepseek-v3-671b?"),
            ("cluster", "h800", CLUSTERS, "; did you mean h800-2048?"),
            ("cluster", "banana", CLUSTERS, "is unknown; known: h800-2048"),
        ] {
            let message = unknown(what, name, list).to_string();
            assert!(message.contains(part), "{message}");
        }
    }

    #[test]
    fn every_cluster_resolves_and_reads_back() {
        for (name, _) in CLUSTERS {
            let cluster = resolve_cluster(name, &[], &toml::Table::new()).unwrap();
            assert_eq!(
                toml::from_str::<ClusterConfig>(&toml::to_string(&cluster).unwrap()).unwrap(),
                cluster
            );
        }
    }

    #[test]
    fn every_run_resolves_and_reads_back() {
        for (name, _) in RUNS {
            let config =
                ConfigRequest { config: Some(name.to_string()), ..ConfigRequest::default() }
                    .resolve()
                    .unwrap();
            assert_eq!(config.output.name, *name);
            assert_eq!(RunConfig::from_toml(&config.to_toml().unwrap(), "stored").unwrap(), config);
        }
    }
}
