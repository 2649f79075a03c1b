//! Products against exact ones in f64.

use crate::client::{client, download, upload, upload_words};
use crate::oracle::{self, Quantized, code, spread};
use cubecl::prelude::Client;
use cubecl::server::Handle;
use cubecl_kernels::KernelError;
use cubecl_kernels::definition::{
    Accumulation, Fp8Format, GroupedColumns, QuantizeOptions, decode_fp8, tiles, words,
};
use cubecl_kernels::device::{DeviceGroups, Element};
use cubecl_kernels::gemm::{
    DeviceBlockTiled, DeviceRowTiled, ScaleTable, TilePlan, fp8_gemm_nt, fp8_gemm_nt_accumulate,
    fp8_gemm_nt_planned, fp8_wgrad_nt, fp8_wgrad_nt_accumulate, product_path,
};
use cubecl_kernels::grouped_gemm::{
    DeviceColumnTiled, fp8_grouped_gemm_nt, fp8_grouped_gemm_nt_masked, fp8_grouped_wgrad_nt,
    fp8_grouped_wgrad_nt_accumulate,
};
use cubecl_kernels::metric::calc_diff;

const PROMOTED: Accumulation = Accumulation::Promoted;
const E4M3: Fp8Format = Fp8Format::E4M3;

/// A matrix's codes with the scale of any row and tile.
struct Matrix {
    codes: Vec<u32>,
    scales: Vec<f32>,
    rows: usize,
    depth: usize,
    /// From one row, 128 rows and tile to the next.
    strides: [usize; 3],
    format: Fp8Format,
}

impl Matrix {
    fn of_rows(q: Quantized, rows: usize, depth: usize, format: Fp8Format) -> Self {
        Self {
            codes: q.codes,
            scales: q.scales,
            rows,
            depth,
            strides: [tiles(depth), 0, 1],
            format,
        }
    }

    fn scale(&self, row: usize, tile: usize) -> f32 {
        self.scales[row * self.strides[0] + row / 128 * self.strides[1] + tile * self.strides[2]]
    }

    fn value(&self, row: usize, i: usize) -> f32 {
        decode_fp8(code(&self.codes, words(self.depth), row, i), self.format)
    }
}

/// `a[m, k]` by rows and `b[n, k]` by blocks.
fn operands(seed: u64, m: usize, n: usize, k: usize, table: ScaleTable) -> (Matrix, Matrix) {
    let o = QuantizeOptions::default();
    let a = Matrix::of_rows(oracle::rows(&spread(seed, m * k), m, k, &o), m, k, E4M3);
    (a, weight(seed + 7, n, k, table))
}

fn weight(seed: u64, n: usize, k: usize, table: ScaleTable) -> Matrix {
    let o = QuantizeOptions::default();
    match table {
        ScaleTable::AsStored => {
            let (codes, _, scales) = oracle::blocks(&spread(seed, n * k), n, k, &o);
            Matrix { codes, scales, rows: n, depth: k, strides: [0, tiles(k), 1], format: E4M3 }
        }
        ScaleTable::Transposed => {
            // The weight is stored `[k, n]`; its transposed codes are the operand.
            let (_, codes, scales) = oracle::blocks(&spread(seed, n * k), k, n, &o);
            Matrix { codes, scales, rows: n, depth: k, strides: [0, 1, tiles(n)], format: E4M3 }
        }
    }
}

fn exact(a: &Matrix, b: &Matrix) -> Vec<f64> {
    let values = |x: &Matrix| -> Vec<f64> {
        (0..x.rows * x.depth)
            .map(|i| (i / x.depth, i % x.depth))
            .map(|(r, i)| f64::from(x.scale(r, i / 128)) * f64::from(x.value(r, i)))
            .collect()
    };
    let (x, y, k) = (values(a), values(b), a.depth);
    (0..a.rows * b.rows)
        .map(|i| (0..k).map(|d| x[i / b.rows * k + d] * y[i % b.rows * k + d]).sum())
        .collect()
}

struct Uploaded {
    codes: Handle,
    scales: Handle,
}

impl Uploaded {
    fn new(client: &Client, x: &Matrix) -> Self {
        Self { codes: upload_words(client, &x.codes), scales: upload(client, &x.scales) }
    }

    fn rows(&self, x: &Matrix) -> DeviceRowTiled<'_> {
        DeviceRowTiled {
            codes: &self.codes,
            scales: &self.scales,
            rows: x.rows,
            depth: x.depth,
            format: x.format,
        }
    }

    fn blocks(&self, x: &Matrix, experts: usize, table: ScaleTable) -> DeviceBlockTiled<'_> {
        DeviceBlockTiled {
            codes: &self.codes,
            scales: &self.scales,
            table,
            experts,
            rows: x.rows,
            depth: x.depth,
            format: x.format,
        }
    }
}

/// As near as the device's path can be.
#[track_caller]
fn assert_product(name: &str, actual: &[f32], expected: &[f64]) {
    let path = product_path(&client());
    let diff = calc_diff(actual, expected);
    assert!(diff <= path.calc_diff_bound(), "{name}: calc_diff {diff:e} by {path}");
    let bound = path.entry_bound() * expected.iter().fold(0.0f64, |m, x| m.max(x.abs()));
    for (i, (&a, &e)) in actual.iter().zip(expected).enumerate() {
        assert!((f64::from(a) - e).abs() <= bound, "{name}[{i}]: {a} against {e} by {path}");
    }
}

/// The deep ones go round a ring of six stages of 128 more than twice, and end within a tile; only
/// every other one's rows begin at multiples of 16 bytes.
const SHAPES: [(usize, usize, usize); 17] = [
    (130, 140, 1700),
    (5, 129, 1792),
    (129, 3, 1937),
    (0, 3, 5),
    (3, 0, 5),
    (3, 5, 0),
    (1, 1, 1),
    (1, 130, 33),
    (33, 1, 130),
    (33, 33, 33),
    (130, 33, 200),
    (200, 130, 128),
    (8, 129, 257),
    (64, 64, 512),
    (1, 200, 256),
    (129, 257, 127),
    (5, 7, 131),
];

#[test]
fn every_shape_with_blocks() {
    let client = client();
    for table in [ScaleTable::AsStored, ScaleTable::Transposed] {
        for (m, n, k) in SHAPES {
            let name = &format!("{m}x{n}x{k} {table:?}");
            let (a, b) = operands((m * 31 + n * 7 + k) as u64, m, n, k, table);
            let (x, y) = (Uploaded::new(&client, &a), Uploaded::new(&client, &b));
            let expected = exact(&a, &b);
            let c =
                fp8_gemm_nt(&client, &x.rows(&a), &y.blocks(&b, 1, table), PROMOTED, Element::F32)
                    .unwrap();
            assert_product(name, &download(&client, &c, m * n), &expected);
            let start = oracle::random(9, m * n);
            let c = upload(&client, &start);
            fp8_gemm_nt_accumulate(&client, &x.rows(&a), &y.blocks(&b, 1, table), PROMOTED, &c)
                .unwrap();
            let sums: Vec<f64> =
                expected.iter().zip(&start).map(|(e, &s)| e + f64::from(s)).collect();
            assert_product(name, &download(&client, &c, m * n), &sums);
        }
    }
}

#[test]
fn every_shape_with_rows() {
    let client = client();
    let o = QuantizeOptions::default();
    for (m, n, k) in SHAPES {
        let name = &format!("{m}x{n}x{k}");
        let a = Matrix::of_rows(oracle::rows(&spread(1, m * k), m, k, &o), m, k, E4M3);
        let e5m2 = QuantizeOptions { format: Fp8Format::E5M2, ..o };
        let b =
            Matrix::of_rows(oracle::rows(&spread(2, n * k), n, k, &e5m2), n, k, Fp8Format::E5M2);
        let (x, y) = (Uploaded::new(&client, &a), Uploaded::new(&client, &b));
        let expected = exact(&a, &b);
        let c = fp8_wgrad_nt(&client, &x.rows(&a), &y.rows(&b), PROMOTED).unwrap();
        assert_product(name, &download(&client, &c, m * n), &expected);
        let twice: Vec<f64> = expected.iter().map(|e| 2.0 * e).collect();
        fp8_wgrad_nt_accumulate(&client, &x.rows(&a), &y.rows(&b), PROMOTED, &c).unwrap();
        assert_product(name, &download(&client, &c, m * n), &twice);
    }
}

#[test]
fn the_tile_changes_no_bit() {
    let client = client();
    let (m, n, k) = (75, 139, 393);
    let (a, b) = operands(5, m, n, k, ScaleTable::AsStored);
    let (x, y) = (Uploaded::new(&client, &a), Uploaded::new(&client, &b));
    let (a, b) = (x.rows(&a), y.blocks(&b, 1, ScaleTable::AsStored));
    let chosen =
        download(&client, &fp8_gemm_nt(&client, &a, &b, PROMOTED, Element::F32).unwrap(), m * n);
    for tile in [
        TilePlan { each: (4, 4), units: (16, 16), staged: true },
        TilePlan { each: (2, 3), units: (4, 8), staged: true },
        TilePlan { each: (1, 1), units: (4, 8), staged: false },
        TilePlan { each: (4, 4), units: (2, 8), staged: false },
    ] {
        let c = download(&client, &fp8_gemm_nt_planned(&client, &a, &b, tile).unwrap(), m * n);
        assert!(chosen.iter().zip(&c).all(|(x, y)| x.to_bits() == y.to_bits()), "{tile:?}");
    }
    for tile in [
        TilePlan { each: (4, 4), units: (64, 64), staged: false },
        TilePlan { each: (0, 4), units: (8, 8), staged: false },
    ] {
        assert!(matches!(
            fp8_gemm_nt_planned(&client, &a, &b, tile),
            Err(KernelError::Invalid { argument: "tile", .. })
        ));
    }
}

#[test]
fn hard_values() {
    let client = client();
    let (m, n, k) = (3, 4, 260);
    let (mut a, mut b) = operands(3, m, n, k, ScaleTable::AsStored);
    // A zero tile, saturated codes, and one NaN in row 1.
    a.codes[..32].fill(0);
    a.scales[0] = 1e-4 / 448.0;
    b.codes[..65].fill(0x7E7E_7E7E);
    a.codes[65 + 3] = 0x0000_7F00;
    let (x, y) = (Uploaded::new(&client, &a), Uploaded::new(&client, &b));
    let c = fp8_gemm_nt(
        &client,
        &x.rows(&a),
        &y.blocks(&b, 1, ScaleTable::AsStored),
        PROMOTED,
        Element::F32,
    )
    .unwrap();
    let c = download(&client, &c, m * n);
    let expected = exact(&a, &b);
    assert!(c[n..2 * n].iter().all(|x| x.is_nan()), "{c:?}");
    assert!(expected[n..2 * n].iter().all(|x| x.is_nan()));
    assert_product("row 0", &c[..n], &expected[..n]);
    assert_product("row 2", &c[2 * n..], &expected[2 * n..]);
    // An infinite scale.
    b.scales[0] = f32::INFINITY;
    let y = Uploaded::new(&client, &b);
    let c = fp8_gemm_nt(
        &client,
        &x.rows(&a),
        &y.blocks(&b, 1, ScaleTable::AsStored),
        PROMOTED,
        Element::F32,
    )
    .unwrap();
    assert!(download(&client, &c, m * n).iter().all(|x| !x.is_finite()));
}

/// The accumulator of the definition, one sum at a time.
fn emulated(a: &Matrix, b: &Matrix, bits: u32, promote: bool) -> Vec<f32> {
    let mut c = Vec::new();
    for (row, column) in (0..a.rows * b.rows).map(|i| (i / b.rows, i % b.rows)) {
        let scale = |tile| a.scale(row, tile) * b.scale(column, tile);
        let (mut total, mut sum) = (0.0f32, 0.0f32);
        for tile in 0..a.depth.div_ceil(128) {
            let ratio = if promote { 1.0 } else { scale(tile) / scale(0) };
            let products: Vec<f32> = (tile * 128..a.depth.min(tile * 128 + 128))
                .map(|i| a.value(row, i) * b.value(column, i) * ratio)
                .collect();
            for group in products.chunks(32) {
                let terms = || std::iter::once(&sum).chain(group);
                if terms().any(|t| !t.is_finite()) {
                    sum = f32::NAN;
                    continue;
                }
                let exponent = terms()
                    .map(|t| (t.to_bits() >> 23 & 0xFF) as i32 - 127)
                    .fold(bits as i32 - 127, i32::max);
                let quantum = f64::from(exponent - bits as i32 + 1).exp2();
                let mut count = 0.0f32;
                for &term in terms() {
                    count += (f64::from(term) / quantum).trunc() as f32;
                }
                sum = (f64::from(count) * quantum) as f32;
            }
            if promote {
                total += scale(tile) * sum;
                sum = 0.0;
            }
        }
        c.push(if promote || a.depth == 0 { total } else { scale(0) * sum });
    }
    c
}

#[test]
fn the_emulated_accumulator_has_the_definitions_bits() {
    let client = client();
    for (m, n, k) in [(1, 1, 1), (2, 3, 0), (3, 67, 130), (5, 4, 600)] {
        for bits in [2, 14, 24] {
            for promote in [true, false] {
                let (mut a, b) = operands(u64::from(bits), m, n, k, ScaleTable::AsStored);
                if k == 600 {
                    a.codes[3] = 0x7F;
                }
                let (x, y) = (Uploaded::new(&client, &a), Uploaded::new(&client, &b));
                let accumulation = Accumulation::Emulated { bits, promote };
                let c = fp8_gemm_nt(
                    &client,
                    &x.rows(&a),
                    &y.blocks(&b, 1, ScaleTable::AsStored),
                    accumulation,
                    Element::F32,
                )
                .unwrap();
                let (actual, expected) =
                    (download(&client, &c, m * n), emulated(&a, &b, bits, promote));
                for (i, (x, y)) in actual.iter().zip(&expected).enumerate() {
                    let same = x.to_bits() == y.to_bits() || (x.is_nan() && y.is_nan());
                    assert!(same, "{m}x{n}x{k} {accumulation:?} [{i}]: {x:e} against {y:e}");
                }
            }
        }
    }
    let (a, b) = operands(1, 4, 4, 4, ScaleTable::AsStored);
    let (x, y) = (Uploaded::new(&client, &a), Uploaded::new(&client, &b));
    for bits in [0, 1, 25] {
        let accumulation = Accumulation::Emulated { bits, promote: true };
        let error = fp8_gemm_nt(
            &client,
            &x.rows(&a),
            &y.blocks(&b, 1, ScaleTable::AsStored),
            accumulation,
            Element::F32,
        )
        .unwrap_err();
        assert!(matches!(error, KernelError::Invalid { argument: "accumulation", .. }), "{error}");
    }
}

const OFFSETS: [&[usize]; 8] = [
    &[0, 0],
    &[0, 5],
    &[0, 0, 1, 1, 34, 34],
    &[0, 130, 133, 133, 200],
    &[0, 9, 18, 27, 36, 45],
    &[0, 0, 0],
    &[0, 1700],
    &[0, 3, 3, 1796, 3497],
];

/// Experts' weights one after another.
fn experts(seed: u64, count: usize, n: usize, k: usize) -> (Vec<Matrix>, Matrix) {
    let each: Vec<Matrix> =
        (0..count).map(|e| weight(seed + 100 * e as u64, n, k, ScaleTable::AsStored)).collect();
    let codes = each.iter().flat_map(|w| w.codes.clone()).collect();
    let scales = each.iter().flat_map(|w| w.scales.clone()).collect();
    let stacked = Matrix { codes, scales, rows: n, depth: k, strides: [0; 3], format: E4M3 };
    (each, stacked)
}

/// Rows `start..end` of a matrix tiled by rows.
fn part(x: &Matrix, start: usize, end: usize) -> Matrix {
    let (w, t) = (words(x.depth), tiles(x.depth));
    let codes = x.codes[start * w..end * w].to_vec();
    Matrix { codes, scales: x.scales[start * t..end * t].to_vec(), rows: end - start, ..*x }
}

#[test]
fn experts_rows_one_after_another() {
    let client = client();
    for (i, offsets) in OFFSETS.iter().enumerate() {
        for (n, k) in [(33, 130), (130, 64), (0, 5), (5, 0), (129, 1712)] {
            let (rows, count) = (*offsets.last().unwrap(), offsets.len() - 1);
            let a = operands(i as u64, rows, 1, k, ScaleTable::AsStored).0;
            let (each, stacked) = experts(50, count, n, k);
            let groups = DeviceGroups::new(&client, offsets, rows).unwrap();
            let (x, y) = (Uploaded::new(&client, &a), Uploaded::new(&client, &stacked));
            let weights = y.blocks(&stacked, count, ScaleTable::AsStored);
            let c = fp8_grouped_gemm_nt(
                &client,
                &x.rows(&a),
                &groups,
                &weights,
                PROMOTED,
                Element::F32,
            )
            .unwrap();
            let c = download(&client, &c, rows * n);
            let expected: Vec<f64> = (0..count)
                .flat_map(|e| exact(&part(&a, offsets[e], offsets[e + 1]), &each[e]))
                .collect();
            assert_product(&format!("{offsets:?} {n} {k}"), &c, &expected);

            if k > 512 || rows > 512 {
                continue; // the emulated accumulator is one sum at a time, here as there
            }
            let emulated_form = Accumulation::Emulated { bits: 14, promote: true };
            let c = fp8_grouped_gemm_nt(
                &client,
                &x.rows(&a),
                &groups,
                &weights,
                emulated_form,
                Element::F32,
            )
            .unwrap();
            let expected: Vec<f32> = (0..count)
                .flat_map(|e| emulated(&part(&a, offsets[e], offsets[e + 1]), &each[e], 14, true))
                .collect();
            assert_eq!(download(&client, &c, rows * n), expected, "{offsets:?} {n} {k}");
        }
    }
}

#[test]
fn room_for_rows_of_each_expert() {
    for (n, k) in [(70, 131), (130, 1808)] {
        check_room(n, k);
    }
}

fn check_room(n: usize, k: usize) {
    let client = client();
    let room = 12;
    let counts = [0u32, 12, 1, 7, 400];
    let a = operands(8, room * counts.len(), 1, k, ScaleTable::AsStored).0;
    let (each, stacked) = experts(60, counts.len(), n, k);
    let (x, y) = (Uploaded::new(&client, &a), Uploaded::new(&client, &stacked));
    let weights = y.blocks(&stacked, counts.len(), ScaleTable::AsStored);
    let on_device = upload_words(&client, &counts);
    let c = fp8_grouped_gemm_nt_masked(
        &client,
        &x.rows(&a),
        &on_device,
        &weights,
        PROMOTED,
        Element::F32,
    )
    .unwrap();
    let c = download(&client, &c, room * counts.len() * n);
    for (e, &count) in counts.iter().enumerate() {
        let used = (count as usize).min(room);
        let expected = exact(&part(&a, e * room, e * room + used), &each[e]);
        let own = &c[e * room * n..(e + 1) * room * n];
        assert_product(&format!("expert {e}"), &own[..used * n], &expected);
        assert!(own[used * n..].iter().all(|&x| x == 0.0), "expert {e}: what is not used");
    }
}

#[test]
fn weight_gradients_of_experts() {
    let client = client();
    let o = QuantizeOptions::default();
    for offsets in OFFSETS {
        for (n, k) in [(33, 40), (1, 130), (0, 3)] {
            let (rows, count) = (*offsets.last().unwrap(), offsets.len() - 1);
            let (dy, x) = (spread(70, rows * n), spread(80, rows * k));
            let groups = DeviceGroups::new(&client, offsets, rows).unwrap();
            let (qdy, qx) =
                (oracle::columns(&dy, offsets, n, &o), oracle::columns(&x, offsets, k, &o));
            let handles = [&qdy.codes, &qx.codes].map(|c| upload_words(&client, c));
            let scales = [&qdy.scales, &qx.scales].map(|s| upload(&client, s));
            let a = DeviceColumnTiled {
                codes: &handles[0],
                scales: &scales[0],
                columns: n,
                format: E4M3,
            };
            let b = DeviceColumnTiled {
                codes: &handles[1],
                scales: &scales[1],
                columns: k,
                format: E4M3,
            };
            let layout = GroupedColumns::new("test", offsets, rows).unwrap();
            let value = |q: &Quantized, column: usize, g: usize, r: usize| {
                let word_row = column * layout.words[count] * 4 + layout.words[g] * 4 + r;
                let scale = q.scales[column * layout.tiles[count] + layout.tiles[g] + r / 128];
                f64::from(scale)
                    * f64::from(decode_fp8(
                        (q.codes[word_row / 4] >> (8 * (word_row % 4))) as u8,
                        E4M3,
                    ))
            };
            let mut expected = Vec::new();
            for g in 0..count {
                for i in 0..n * k {
                    let length = offsets[g + 1] - offsets[g];
                    expected.push(
                        (0..length)
                            .map(|r| value(&qdy, i / k, g, r) * value(&qx, i % k, g, r))
                            .sum::<f64>(),
                    );
                }
            }
            let name = &format!("{offsets:?} {n} {k}");
            let dw = fp8_grouped_wgrad_nt(&client, &a, &b, &groups, PROMOTED).unwrap();
            assert_product(name, &download(&client, &dw, count * n * k), &expected);
            fp8_grouped_wgrad_nt_accumulate(&client, &a, &b, &groups, PROMOTED, &dw).unwrap();
            let twice: Vec<f64> = expected.iter().map(|e| 2.0 * e).collect();
            assert_product(name, &download(&client, &dw, count * n * k), &twice);
        }
    }
}

#[test]
fn wrong_arguments_are_named() {
    let client = client();
    let (a, b) = operands(1, 4, 5, 140, ScaleTable::AsStored);
    let (x, y) = (Uploaded::new(&client, &a), Uploaded::new(&client, &b));
    let (left, right) = (x.rows(&a), y.blocks(&b, 1, ScaleTable::AsStored));
    let run = |a: DeviceRowTiled<'_>, b: DeviceBlockTiled<'_>| {
        fp8_gemm_nt(&client, &a, &b, PROMOTED, Element::F32).map(|_| ())
    };
    assert!(matches!(
        run(DeviceRowTiled { rows: 5, ..left }, right),
        Err(KernelError::Length { argument: "a", .. })
    ));
    assert!(matches!(
        run(left, DeviceBlockTiled { rows: 6, ..right }),
        Err(KernelError::Length { argument: "b", .. })
    ));
    assert!(matches!(
        run(DeviceRowTiled { scales: &x.scales, codes: &y.codes, rows: 5, ..left }, right),
        Err(KernelError::Length { argument: "scales", .. })
    ));
    assert!(matches!(
        run(DeviceRowTiled { depth: 139, ..left }, right),
        Err(KernelError::Invalid { argument: "b", .. })
    ));
    assert!(matches!(
        run(left, DeviceBlockTiled { experts: 0, ..right }),
        Err(KernelError::Invalid { argument: "b", .. })
    ));
    assert!(matches!(
        run(DeviceRowTiled { rows: usize::MAX, ..left }, right),
        Err(KernelError::Overflow { argument: "a", .. })
    ));
    let small = upload(&client, &[0.0; 19]);
    let error = fp8_gemm_nt_accumulate(&client, &left, &right, PROMOTED, &small).unwrap_err();
    assert!(
        matches!(error, KernelError::Length { argument: "c", expected: 20, actual: 19, .. }),
        "{error}"
    );
    let groups = DeviceGroups::new(&client, &[0, 2, 3], 3).unwrap();
    let error =
        fp8_grouped_gemm_nt(&client, &left, &groups, &right, PROMOTED, Element::F32).unwrap_err();
    assert!(matches!(error, KernelError::Invalid { argument: "groups", .. }), "{error}");
    let counts = upload_words(&client, &[1, 2]);
    let three = DeviceBlockTiled { experts: 3, ..right };
    let error = fp8_grouped_gemm_nt_masked(&client, &left, &counts, &three, PROMOTED, Element::F32)
        .unwrap_err();
    assert!(matches!(error, KernelError::Length { argument: "counts", .. }), "{error}");
}
