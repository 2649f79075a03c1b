//! Every placement found under `$DSV3_FIXTURES/eplb`: both maps, replicas of each expert, and the
//! GPUs' loads.

use deepseek_tests::fixture;
use deepseek_train::parallel::eplb::{Balance, Policy, rebalance_experts};
use serde_json::{Value, json};

/// Loads of GPUs are FP32 sums in the files.
const TOLERANCE: f64 = 1e-6;

#[test]
fn every_placement_is_the_other_implementation_s() {
    let files = fixture::files("eplb").unwrap();
    println!("{} placements under {}", files.len(), fixture::root().display());
    for path in files {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        // A layer without any load has no balance, which some writers of JSON call NaN.
        let text = std::fs::read_to_string(&path).unwrap().replace("NaN", "null");
        let case: Value = serde_json::from_str(&text).unwrap();
        let loads: Vec<Vec<f32>> = serde_json::from_value(case["weight"].clone()).unwrap();
        let [replicas, groups, nodes, gpus] =
            ["num_replicas", "num_groups", "num_nodes", "num_gpus"].map(|key| count(&case[key]));
        let plan = rebalance_experts(&loads, replicas, groups, nodes, gpus)
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        if let Some(policy) = case["policy"].as_str() {
            assert_eq!(json!(plan.policy), json!(policy), "{name}: policy");
        }
        assert_eq!(plan.policy == Policy::Hierarchical, groups % nodes == 0, "{name}: policy");
        assert_eq!(plan.layers.len(), loads.len(), "{name}: layers");

        // The files have the maps from experts to places as one rectangle, -1 where an expert has
        // fewer replicas than some other.
        let width = plan.layers.iter().flat_map(|layer| layer.logcnt()).max().unwrap();
        for (index, (layer, loads)) in plan.layers.iter().zip(&loads).enumerate() {
            let at = format!("{name}, layer {index}");
            assert_eq!(json!(layer.phy2log()), case["phy2log"][index], "{at}: phy2log");
            let padded = |places: &Vec<usize>| {
                let places = places.iter().map(|&place| place as i64);
                places.chain(std::iter::repeat(-1)).take(width).collect::<Vec<_>>()
            };
            assert_eq!(
                json!(layer.log2phy().iter().map(padded).collect::<Vec<_>>()),
                case["log2phy"][index],
                "{at}: log2phy"
            );
            assert_eq!(
                json!(layer.logcnt().collect::<Vec<_>>()),
                case["logcnt"][index],
                "{at}: logcnt"
            );
            let balance = Balance::of(&layer.gpu_loads(loads));
            let of = [
                ("gpu_load_max", balance.max),
                ("gpu_load_mean", balance.mean),
                ("balance", 1.0 / balance.ratio()),
            ];
            for (key, got) in of {
                match &case[key][index] {
                    Value::Null => assert_eq!(balance.mean, 0.0, "{at}: {key}"),
                    want => {
                        let want = want.as_f64().unwrap();
                        assert!(
                            (got - want).abs() <= TOLERANCE * want.abs(),
                            "{at}: {key} is {got} instead of {want}"
                        );
                    }
                }
            }
        }
        println!(
            "    {name}: {} layers of {} experts, {replicas} replicas on {gpus} GPUs",
            loads.len(),
            loads[0].len()
        );
    }
}

fn count(value: &Value) -> usize {
    value.as_u64().unwrap() as usize
}
