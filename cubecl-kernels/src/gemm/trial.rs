//! The products that a tensor-core path is tried on before it serves a device: one of each kind,
//! ragged in every dimension, deep enough that a ring of stages comes round more than once, against
//! the portable kernel.

use super::execute::{self, Kernel};
use super::operand::{DeviceBlockTiled, DeviceRowTiled, ScaleTable};
use super::product::{Depth, Kind, Product};
use crate::definition::{Fp8Format, KernelError, tiles, words};
use crate::device::{DeviceGroups, Element};
use crate::metric::calc_diff;
use cubecl::prelude::*;
use cubecl::server::Handle;

/// Depth of the trial products but one: 14 tiles and a ragged one.
const DEPTH: usize = 1808;
/// Columns of `C`: three tiles and a ragged one.
const COLUMNS: usize = 392;
const FORMAT: Fp8Format = Fp8Format::E4M3;

/// How a kernel is chosen for a product.
pub(super) type Choose = fn(&Product<'_>) -> Result<Kernel, KernelError>;

/// Where a path's results differ most from the portable kernel's.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Difference {
    /// Which product it is.
    pub(super) product: &'static str,
    pub(super) calc_diff: f64,
}

/// The trial product on which the kernel differs most.
///
/// # Errors
/// Fails where a product does not run, naming it.
pub(super) fn worst(client: &Client, choose: Choose) -> Result<Difference, String> {
    let mut worst = Difference { product: "none", calc_diff: 0.0 };
    for trial in Trial::all(client) {
        let name = trial.name;
        let fails = |error: String| format!("{name}: {error}");
        let ours = trial.run(client, choose).map_err(fails)?;
        let portable = trial.run(client, |p| Ok(Kernel::portable(p))).map_err(fails)?;
        let diff = calc_diff(&ours, &portable);
        // NaN is the worst of all.
        if diff.is_nan() || diff > worst.calc_diff {
            worst = Difference { product: name, calc_diff: diff };
        }
        if diff.is_nan() {
            break;
        }
    }
    Ok(worst)
}

/// What a trial multiplies.
enum Shape {
    /// Rows against one weight.
    Dense,
    /// Rows against rows.
    Rows,
    /// Rows of experts, from these on.
    Grouped(DeviceGroups),
    /// Room for rows of experts, so many of each used.
    Masked { experts: usize, counts: Handle },
    /// Groups along the depth.
    Depth(DeviceGroups),
}

struct Trial {
    name: &'static str,
    shape: Shape,
    m: usize,
    k: usize,
    a: [Handle; 2],
    b: [Handle; 2],
    /// Whether the product is added to what is there.
    accumulates: bool,
}

impl Trial {
    fn all(client: &Client) -> Vec<Self> {
        let groups = |offsets: &[usize]| {
            let rows = offsets.last().copied().unwrap_or(0);
            DeviceGroups::new(client, offsets, rows).expect("invariant: offsets rise to the rows")
        };
        let experts = groups(&[0, 0, 77, 78, 205, 333]);
        let counts = client.create_from_slice(u32::as_bytes(&[0, 130, 57]));
        let depth = groups(&[0, 1700, 1700, 1733, 3441]);
        [
            ("a dense product", Shape::Dense, 200, DEPTH, false),
            ("a product added to another", Shape::Dense, 136, DEPTH, true),
            ("a product with scales of rows", Shape::Rows, 136, DEPTH + 1, false),
            ("a product of groups of rows", Shape::Grouped(experts), 333, DEPTH, false),
            ("a masked product", Shape::Masked { experts: 3, counts }, 130, DEPTH, false),
            ("a product of groups along the depth", Shape::Depth(depth), 136, 0, false),
        ]
        .into_iter()
        .map(|(name, shape, m, k, accumulates)| Self::new(client, name, shape, m, k, accumulates))
        .collect()
    }

    fn new(
        client: &Client,
        name: &'static str,
        shape: Shape,
        m: usize,
        k: usize,
        accumulates: bool,
    ) -> Self {
        let rows_of_k = |rows: usize, seed: u32| {
            let codes = client.create_from_slice(u32::as_bytes(&codes(rows, k, seed)));
            [codes, scales(client, rows * tiles(k))]
        };
        let weights = |experts: usize| {
            let [codes, _] = rows_of_k(experts * COLUMNS, 2);
            [codes, scales(client, experts * tiles(COLUMNS) * tiles(k))]
        };
        let (a, b) = match &shape {
            Shape::Dense => (rows_of_k(m, 1), weights(1)),
            Shape::Rows => (rows_of_k(m, 1), rows_of_k(COLUMNS, 2)),
            Shape::Grouped(groups) => (rows_of_k(m, 1), weights(groups.len())),
            Shape::Masked { experts, .. } => (rows_of_k(experts * m, 1), weights(*experts)),
            Shape::Depth(groups) => {
                let columns = |rows: usize, seed: u32| {
                    let codes = grouped_codes(groups, rows, seed);
                    let codes = client.create_from_slice(u32::as_bytes(&codes));
                    [codes, scales(client, rows * groups.tiles())]
                };
                (columns(m, 1), columns(COLUMNS, 2))
            }
        };
        Self { name, shape, m, k, a, b, accumulates }
    }

    /// The result by the kernel that is chosen.
    fn run(&self, client: &Client, choose: Choose) -> Result<Vec<f32>, String> {
        let product = self.product(client).map_err(|error| error.to_string())?;
        let count = product.experts_of_c * product.m * product.n;
        let c = if self.accumulates {
            let c = scales(client, count);
            execute::accumulate(&product, choose, &c).map(|()| c)
        } else {
            execute::run(&product, choose, Element::F32)
        };
        let c = c.map_err(|error| error.to_string())?;
        let bytes = client.read_one(c).map_err(|error| format!("{error:?}"))?;
        let all = f32::from_bytes(&bytes);
        all.get(..count).map(<[f32]>::to_vec).ok_or_else(|| "nothing came back".to_owned())
    }

    fn product<'a>(&'a self, client: &'a Client) -> Result<Product<'a>, KernelError> {
        const OP: &str = "product_path";
        let of_rows = |[codes, scales]: &'a [Handle; 2], rows: usize| DeviceRowTiled {
            codes,
            scales,
            rows,
            depth: self.k,
            format: FORMAT,
        };
        let of_blocks = |experts: usize| DeviceBlockTiled {
            codes: &self.b[0],
            scales: &self.b[1],
            table: ScaleTable::AsStored,
            experts,
            rows: COLUMNS,
            depth: self.k,
            format: FORMAT,
        };
        let a = of_rows(&self.a, self.m);
        match &self.shape {
            Shape::Dense => Product::with_weight(client, OP, &a, &of_blocks(1), Kind::Dense),
            Shape::Rows => Product::of_rows(client, OP, &a, &of_rows(&self.b, COLUMNS)),
            Shape::Grouped(groups) => {
                let kind =
                    Kind::Rows(groups, groups.table_handle().expect("invariant: several groups"));
                Product::with_weight(client, OP, &a, &of_blocks(groups.len()), kind)
            }
            Shape::Masked { experts, counts } => {
                let a = of_rows(&self.a, experts * self.m);
                let kind = Kind::Masked(*experts, self.m, counts);
                Product::with_weight(client, OP, &a, &of_blocks(*experts), kind)
            }
            Shape::Depth(groups) => {
                let (words, tiles) = (groups.words(), groups.tiles());
                let depth = Depth { k: 0, words, tiles, groups: groups.len() };
                let kind = Kind::Depth(
                    groups.len(),
                    groups.table_handle().expect("invariant: several groups"),
                );
                let sizes = [self.m, COLUMNS];
                let [a, b] = [&self.a, &self.b].map(|[codes, scales]| [codes, scales]);
                Ok(Product::along(client, OP, a, b, sizes, [FORMAT; 2], depth, kind))
            }
        }
    }
}

/// Rows of `k` random codes, none of them NaN, and zeros up to the end of the last word.
pub(super) fn codes(rows: usize, k: usize, seed: u32) -> Vec<u32> {
    let mut code = random_codes(seed);
    let words = words(k);
    (0..rows * words).map(|i| word(|s| if i % words * 4 + s < k { code() } else { 0 })).collect()
}

/// Rows of random codes in a layout of groups, each with zeros up to the end of its last word.
pub(super) fn grouped_codes(groups: &DeviceGroups, rows: usize, seed: u32) -> Vec<u32> {
    let mut code = random_codes(seed);
    let mut all = Vec::with_capacity(rows * groups.words());
    for _ in 0..rows {
        let offsets = groups.offsets().expect("invariant: the host made these groups");
        for bounds in offsets.windows(2) {
            let length = bounds[1] - bounds[0];
            let own =
                (0..words(length)).map(|w| word(|s| if w * 4 + s < length { code() } else { 0 }));
            all.extend(own);
        }
    }
    all
}

fn random_codes(seed: u32) -> impl FnMut() -> u32 {
    let mut state = seed;
    move || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        // Exponents below the largest.
        (state >> 24) & 0xF7
    }
}

fn word(mut code: impl FnMut(usize) -> u32) -> u32 {
    (0..4).fold(0, |word, s| word | code(s) << (8 * s))
}

fn scales(client: &Client, count: usize) -> Handle {
    let scales: Vec<f32> = (0..count.max(1)).map(|i| 0.5 + (i % 7) as f32).collect();
    client.create_from_slice(f32::as_bytes(&scales))
}

#[cfg(all(test, any(feature = "wgpu", feature = "cuda")))]
mod tests {
    use super::*;
    use crate::gemm::TilePlan;

    fn portable(product: &Product<'_>) -> Result<Kernel, KernelError> {
        Ok(Kernel::portable(product))
    }

    /// Another tile changes no bit; scales or codes from elsewhere change every product.
    #[test]
    fn the_trial_finds_what_is_wrong_and_nothing_else() {
        let client = cubecl::Device::default().client();
        let other_tile: Choose =
            |_| Ok(Kernel::Tiles(TilePlan { each: (4, 4), units: (4, 8), staged: false }));
        assert_eq!(worst(&client, other_tile).unwrap().calc_diff, 0.0);
        for mut trial in Trial::all(&client) {
            let right = trial.run(&client, portable).unwrap();
            assert!(right.iter().all(|x| x.is_finite()), "{}", trial.name);
            assert!(right.iter().any(|&x| x != 0.0), "{}", trial.name);
            // A ring that does not come round leaves out what lies past its first six tiles; here it
            // is the scales there that are wrong.
            let count = trial.a[1].size_in_used() as usize / 4;
            let wrong: Vec<f32> = (0..count)
                .map(|i| 0.5 + (i % 7) as f32 + if i % 15 >= 12 { 1.0 } else { 0.0 })
                .collect();
            trial.a[1] = client.create_from_slice(f32::as_bytes(&wrong));
            let diff = calc_diff(&trial.run(&client, portable).unwrap(), &right);
            assert!(diff > 1e-4, "{}: {diff:e}", trial.name);
        }
    }
}
