//! What `bench` prints: a row a figure, and what each is compared with.

use crate::workplace::{Workplace, number};

#[test]
fn bench_prints_a_row_a_figure() {
    let place = Workplace::new();
    let small = "--reps 1 --warmup 0 --json --set model.hidden_size=32 --set model.vocab_size=300 \
                 --set train.seq_len=16";
    for (target, more, rows, compared) in [
        ("train", "", 5, "forward"),
        ("train", "--set ema.decay=0.9", 6, "step, weights averaged"),
        ("generate", "", 8, "decode"),
    ] {
        let finished = place.run(&format!("bench {target} {small} {more}")).ok();
        let results = finished.json();
        let products = results["products"].as_str().unwrap();
        assert!(products.starts_with("in BF16 and FP8: "), "{products}");
        let found = results["rows"].as_array().unwrap();
        assert_eq!(found.len(), rows, "{results}");
        for row in found {
            assert!(
                number(row, "value") > 0.0
                    && ["ms", "tokens/s"].contains(&row["unit"].as_str().unwrap()),
                "{row}"
            );
            assert!(finished.stdout.contains(row["name"].as_str().unwrap()));
        }
        let row = found.iter().find(|row| row["name"] == compared).unwrap();
        assert!(
            row["ratios"].as_object().unwrap().values().all(|ratio| ratio.as_f64().unwrap() > 0.0),
            "{row}"
        );
        assert_eq!(row["ratios"].as_object().unwrap().len(), 1);
    }
}

#[test]
fn bench_times_kernels_beside_burn_s_own() {
    let place = Workplace::new();
    let kernels =
        |more: &str| place.run(&format!("bench kernels --device flex --reps 1 --warmup 0 {more}"));
    // What has 256 as its last size: casts and products of the training shapes.
    let finished = kernels("--only x256 --json").ok();
    let results = finished.json();
    let rows = results["rows"].as_array().unwrap();
    let names: Vec<_> = rows.iter().map(|row| row["name"].as_str().unwrap()).collect();
    assert_eq!(
        names[..6],
        [
            "quantize rows 2048x256",
            "quantize both 2048x256",
            "quantize weight 1024x256",
            "fprop 2048x1024x256",
            "dgrad 2048x1024x256",
            "wgrad 2048x1024x256",
        ]
    );
    assert!(names.contains(&"grouped wgrad 2048x512x256"), "{names:?}");
    for row in rows {
        let product = !row["name"].as_str().unwrap().starts_with("quantize");
        assert!(
            number(row, "us") > 0.0
                && number(row, "gb_per_s") > 0.0
                && number(row, "times_as_fast") > 0.0,
            "{row}"
        );
        assert_eq!(row["tflop_per_s"].is_number(), product, "{row}");
        let diff = number(row, "calc_diff");
        assert!((if product { 5e-4..1e-3 } else { 2e-4..5e-4 }).contains(&diff), "{row}");
        assert!(
            finished.stdout.contains(&format!(
                "{} ",
                row["name"].as_str().unwrap().rsplit(' ').next().unwrap()
            )),
            "{}",
            finished.dump()
        );
    }
    kernels("--only nothing").failed(2, &["--only nothing", "no row is called so"]);
}

#[test]
fn bench_times_an_exchange_beside_a_copy() {
    let place = Workplace::new();
    let dispatch = |more: &str| {
        place.run(&format!("bench dispatch --device flex --scale cpu --reps 1 --warmup 0 {more}"))
    };
    let finished = dispatch("--only fp8 --json").ok();
    let results = finished.json();
    let rows = results["rows"].as_array().unwrap();
    let names: Vec<_> = rows.iter().map(|row| row["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["pack fp8", "exchange fp8", "unpack fp8"]);
    for row in rows {
        assert!(
            number(row, "us") > 0.0
                && number(row, "gb_per_s") > 0.0
                && number(row, "of_copy") > 0.0,
            "{row}"
        );
        assert!(finished.stdout.contains(row["name"].as_str().unwrap()), "{}", finished.dump());
    }
    // 512 tokens to 8 experts: 1792 codes and 14 scales, which fill 4 words.
    assert_eq!(number(&rows[1], "bytes"), 2.0 * 4096.0 * (1792.0 + 16.0));
    dispatch("--only nothing").failed(2, &["--only nothing", "no row is called so"]);
}
