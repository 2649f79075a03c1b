//! Every kernel of this crate launched once in every form that a launch can give it, with the sizes
//! of DeepSeek-V3 and some odd ones. Forms of casts that are not the recipe's, whose sources are
//! long, are for one compute capability.

use crate::model;
use crate::paper::launched;
use cubecl::prelude::Client;
use cubecl::server::Handle;
use cubecl_kernels::KernelError;
use cubecl_kernels::all_to_all::{self, DeviceIndex, DeviceSums};
use cubecl_kernels::definition::{
    Accumulation, Fp8Format, Granularity, GroupScore, GroupedLinearShape, LinearShape,
    QuantizeOptions, RouteShape, RowSums, ScaleFormat, WireFormat, e5m6_words, tiles, words,
};
use cubecl_kernels::device::{DeviceGroups, Element};
use cubecl_kernels::embedding::embedding_backward;
use cubecl_kernels::gemm::{
    DeviceBlockTiled, DeviceRowTiled, ScaleTable, fp8_gemm_nt, fp8_gemm_nt_accumulate,
    fp8_wgrad_nt, fp8_wgrad_nt_accumulate,
};
use cubecl_kernels::grouped_gemm::{
    DeviceColumnTiled, fp8_grouped_gemm_nt, fp8_grouped_gemm_nt_masked, fp8_grouped_wgrad_nt,
    fp8_grouped_wgrad_nt_accumulate,
};
use cubecl_kernels::quantize::{self, DeviceBlocks, DeviceCodes};
use cubecl_kernels::route::{choose_experts, route, sequence_counts};
use cubecl_kernels::swiglu;
use cubecl_kernels::{grouped_linear, linear};

const E4M3: Fp8Format = Fp8Format::E4M3;
const PROMOTED: Accumulation = Accumulation::Promoted;
const ELEMENTS: [Element; 2] = [Element::F32, Element::Bf16];
const WIRES: [WireFormat; 3] = [WireFormat::F32, WireFormat::Bf16, WireFormat::Fp8];
/// Tokens, width, inner width and experts.
pub(crate) const TOKENS: usize = 4096;
pub(crate) const WIDTH: usize = 7168;
pub(crate) const INNER: usize = 2048;
const EXPERTS: usize = 8;

pub(crate) type Outcome = Result<(), KernelError>;

pub(crate) struct Launches<'a> {
    pub(crate) client: &'a Client,
    /// What a name must contain to be launched.
    part: Option<&'a str>,
    /// Whether casts have forms that are not the recipe's.
    every_cast: bool,
}

/// Launches all of them on a client, or those whose name contains a part; of casts the recipe's
/// alone, or every one.
///
/// # Errors
/// Fails where an operation refuses its arguments.
pub fn all(client: &Client, part: Option<&str>, every_cast: bool) -> Outcome {
    let launches = Launches { client, part, every_cast };
    launches.products()?;
    launches.grouped_products()?;
    launches.slow_products()?;
    launches.casts()?;
    launches.e5m6()?;
    launches.values()?;
    launches.activations()?;
    launches.linears()?;
    launches.tables()?;
    launches.rows()?;
    model::all(&launches)
}

/// What starts at rows `0`, `TOKENS`, twice that and so on.
fn offsets() -> Vec<usize> {
    (0..=EXPERTS).map(|e| e * TOKENS).collect()
}

impl Launches<'_> {
    /// Does an operation under a name, and waits until the device has seen its launches.
    pub(crate) fn name(&self, name: &str, operation: impl FnOnce() -> Outcome) -> Outcome {
        if self.part.is_some_and(|part| !name.contains(part)) {
            return Ok(());
        }
        self.wait();
        name.clone_into(&mut launched().operation);
        operation()?;
        self.wait();
        Ok(())
    }

    fn wait(&self) {
        cubecl::future::block_on(self.client.sync()).expect("a device of paper does not fail");
    }

    pub(crate) fn words(&self, count: usize) -> Handle {
        self.client.empty(4 * count.max(1))
    }

    fn codes(&self, rows: usize, depth: usize) -> DeviceCodes {
        DeviceCodes {
            codes: self.words(rows * words(depth)),
            scales: self.words(rows * tiles(depth)),
        }
    }

    fn blocks(&self, experts: usize, rows: usize, depth: usize) -> DeviceCodes {
        DeviceCodes {
            codes: self.words(experts * rows * words(depth)),
            scales: self.words(experts * tiles(rows) * tiles(depth)),
        }
    }

    /// Dense products by the best kernel of the device.
    fn products(&self) -> Outcome {
        let (a, w) = (self.codes(TOKENS, WIDTH), self.blocks(1, INNER, WIDTH));
        let (a, w) = (rows(&a, TOKENS, WIDTH, E4M3), weight(&w, 1, INNER, WIDTH));
        for element in ELEMENTS {
            self.name(&format!("gemm {element:?}"), || {
                fp8_gemm_nt(self.client, &a, &w, PROMOTED, element).map(drop)
            })?;
        }
        let c = self.words(TOKENS * INNER);
        self.name("gemm accumulated", || {
            fp8_gemm_nt_accumulate(self.client, &a, &w, PROMOTED, &c)
        })?;
        // Rows that do not begin at multiples of 16 bytes.
        let (odd, weights) = (self.codes(TOKENS, 131), self.blocks(1, INNER, 131));
        let (odd, weights) = (rows(&odd, TOKENS, 131, E4M3), weight(&weights, 1, INNER, 131));
        self.name("gemm of depth 131", || {
            fp8_gemm_nt(self.client, &odd, &weights, PROMOTED, Element::F32).map(drop)
        })?;
        let (dy, x) = (self.codes(INNER, TOKENS), self.codes(WIDTH, TOKENS));
        let (dy, x) = (rows(&dy, INNER, TOKENS, E4M3), rows(&x, WIDTH, TOKENS, E4M3));
        self.name("wgrad", || fp8_wgrad_nt(self.client, &dy, &x, PROMOTED).map(drop))?;
        let c = self.words(INNER * WIDTH);
        self.name("wgrad accumulated", || {
            fp8_wgrad_nt_accumulate(self.client, &dy, &x, PROMOTED, &c)
        })
    }

    /// Experts' products by the best kernel of the device.
    fn grouped_products(&self) -> Outcome {
        let offsets = offsets();
        let total = EXPERTS * TOKENS;
        let groups = DeviceGroups::new(self.client, &offsets, total)?;
        let (a, w) = (self.codes(total, WIDTH), self.blocks(EXPERTS, INNER, WIDTH));
        let (a, w) = (rows(&a, total, WIDTH, E4M3), weight(&w, EXPERTS, INNER, WIDTH));
        for element in ELEMENTS {
            self.name(&format!("grouped gemm {element:?}"), || {
                fp8_grouped_gemm_nt(self.client, &a, &groups, &w, PROMOTED, element).map(drop)
            })?;
            let counts = self.words(EXPERTS);
            self.name(&format!("masked gemm {element:?}"), || {
                fp8_grouped_gemm_nt_masked(self.client, &a, &counts, &w, PROMOTED, element)
                    .map(drop)
            })?;
        }
        let column = |columns: usize| DeviceCodes {
            codes: self.words(columns * groups.words()),
            scales: self.words(columns * groups.tiles()),
        };
        let (dy, x) = (column(INNER), column(WIDTH));
        let (dy, x) = (columns(&dy, INNER), columns(&x, WIDTH));
        self.name("grouped wgrad", || {
            fp8_grouped_wgrad_nt(self.client, &dy, &x, &groups, PROMOTED).map(drop)
        })?;
        let c = self.words(EXPERTS * INNER * WIDTH);
        self.name("grouped wgrad accumulated", || {
            fp8_grouped_wgrad_nt_accumulate(self.client, &dy, &x, &groups, PROMOTED, &c)
        })
    }

    /// What no tensor core computes: E5M2, an emulated accumulator; each with each tile of the plan.
    fn slow_products(&self) -> Outcome {
        for (m, format) in [TOKENS, 64, 1]
            .into_iter()
            .flat_map(|m| [E4M3, Fp8Format::E5M2].map(|format| (m, format)))
        {
            let (a, w) = (self.codes(m, WIDTH), self.blocks(1, INNER, WIDTH));
            let (a, w) = (rows(&a, m, WIDTH, format), weight(&w, 1, INNER, WIDTH));
            let kind = if format == E4M3 { "emulated" } else { "portable" };
            let accumulation = match format {
                E4M3 => Accumulation::Emulated { bits: 14, promote: true },
                Fp8Format::E5M2 => PROMOTED,
            };
            for element in ELEMENTS {
                self.name(&format!("{kind} gemm of {m} {element:?}"), || {
                    fp8_gemm_nt(self.client, &a, &w, accumulation, element).map(drop)
                })?;
            }
        }
        let (dy, x) = (self.codes(INNER, TOKENS), self.codes(WIDTH, TOKENS));
        let (dy, x) = (rows(&dy, INNER, TOKENS, Fp8Format::E5M2), rows(&x, WIDTH, TOKENS, E4M3));
        self.name("portable wgrad", || fp8_wgrad_nt(self.client, &dy, &x, PROMOTED).map(drop))
    }

    fn casts(&self) -> Outcome {
        let groups = DeviceGroups::new(self.client, &offsets(), EXPERTS * TOKENS)?;
        let count = if self.every_cast { usize::MAX } else { 1 };
        for (element, format, granularity, scale) in forms().into_iter().take(count) {
            let options = QuantizeOptions { format, granularity, scale };
            let total = EXPERTS * TOKENS;
            let x = self.client.empty(total * WIDTH * element.size());
            let name =
                |what: &str| format!("{what} {element:?} {format:?} {granularity:?} {scale:?}");
            self.name(&name("cast rows"), || {
                quantize::quantize_rows(self.client, &x, element, total, WIDTH, &options).map(drop)
            })?;
            self.name(&name("cast columns"), || {
                quantize::quantize_columns(self.client, &x, element, &groups, WIDTH, &options)
                    .map(drop)
            })?;
            self.name(&name("cast both"), || {
                quantize::quantize_both(self.client, &x, element, &groups, WIDTH, &options)
                    .map(drop)
            })?;
            self.name(&name("cast blocks"), || {
                let (e, n, k) = (EXPERTS, INNER, WIDTH);
                quantize::quantize_blocks(self.client, &x, element, e, n, k, &options).map(drop)
            })?;
        }
        // A width that is no multiple of four is loaded number by number.
        let x = self.words(33 * 131);
        self.name("cast rows of 131", || {
            let options = QuantizeOptions::default();
            quantize::quantize_rows(self.client, &x, Element::F32, 33, 131, &options).map(drop)
        })?;
        self.gathered_casts(&groups)
    }

    /// Rows of tokens that are cast on their way to experts.
    fn gathered_casts(&self, groups: &DeviceGroups) -> Outcome {
        let index: Vec<u32> = (0..groups.rows()).map(|row| (row % TOKENS) as u32).collect();
        let index = DeviceIndex::new(self.client, &index, TOKENS)?;
        for width in [WIDTH, 131] {
            let x = self.words(TOKENS * width);
            let options =
                QuantizeOptions { scale: ScaleFormat::PowerOfTwo, ..QuantizeOptions::default() };
            self.name(&format!("gather and cast of rows of {width}"), || {
                quantize::quantize_gathered_rows(self.client, &x, &index, width, &options).map(drop)
            })?;
            self.name(&format!("gather and cast of both of {width}"), || {
                quantize::quantize_gathered(self.client, &x, &index, groups, width, &options)
                    .map(drop)
            })?;
        }
        Ok(())
    }

    fn e5m6(&self) -> Outcome {
        for (element, scale) in ELEMENTS
            .into_iter()
            .flat_map(|e| [ScaleFormat::F32, ScaleFormat::PowerOfTwo].map(|s| (e, s)))
        {
            let x = self.client.empty(TOKENS * WIDTH * element.size());
            self.name(&format!("cast e5m6 {element:?} {scale:?}"), || {
                quantize::quantize_e5m6(self.client, &x, element, TOKENS, WIDTH, scale).map(drop)
            })?;
        }
        let x = DeviceCodes {
            codes: self.words(TOKENS * e5m6_words(WIDTH)),
            scales: self.words(TOKENS * tiles(WIDTH)),
        };
        self.name("values of e5m6", || {
            quantize::dequantize_e5m6(self.client, &x, TOKENS, WIDTH).map(drop)
        })
    }

    fn values(&self) -> Outcome {
        let groups = DeviceGroups::new(self.client, &offsets(), EXPERTS * TOKENS)?;
        for format in [E4M3, Fp8Format::E5M2] {
            let x = self.codes(TOKENS, WIDTH);
            self.name(&format!("values of rows {format:?}"), || {
                quantize::dequantize_rows(self.client, &x, TOKENS, WIDTH, format).map(drop)
            })?;
            let x = DeviceCodes {
                codes: self.words(WIDTH * groups.words()),
                scales: self.words(WIDTH * groups.tiles()),
            };
            self.name(&format!("values of columns {format:?}"), || {
                quantize::dequantize_columns(self.client, &x, &groups, WIDTH, format).map(drop)
            })?;
            let w = self.blocks(EXPERTS, INNER, WIDTH);
            let w = DeviceBlocks {
                codes: w.codes,
                transposed: self.words(EXPERTS * WIDTH * words(INNER)),
                scales: w.scales,
            };
            self.name(&format!("values of blocks {format:?}"), || {
                quantize::dequantize_blocks(self.client, &w, EXPERTS, INNER, WIDTH, format)
                    .map(drop)
            })?;
        }
        Ok(())
    }

    fn activations(&self) -> Outcome {
        for inter in [INNER, 131] {
            let (x, dy) = (self.words(TOKENS * 2 * inter), self.words(TOKENS * inter));
            self.name(&format!("swiglu of {inter}"), || {
                swiglu::swiglu(self.client, &x, TOKENS, inter).map(drop)
            })?;
            self.name(&format!("swiglu backward of {inter}"), || {
                swiglu::swiglu_backward(self.client, &x, &dy, TOKENS, inter).map(drop)
            })?;
            let options = QuantizeOptions::default();
            self.name(&format!("swiglu of {inter} and cast of rows"), || {
                quantize::quantize_swiglu_rows(self.client, &x, TOKENS, inter, &options).map(drop)
            })?;
            let ends = [0, 100, 100, TOKENS];
            let groups = DeviceGroups::new(self.client, &ends, TOKENS)?;
            self.name(&format!("swiglu of {inter} and cast of columns"), || {
                quantize::quantize_swiglu_columns(self.client, &x, &groups, inter, &options)
                    .map(drop)
            })?;
        }
        Ok(())
    }

    /// The router's product and its gradients.
    fn linears(&self) -> Outcome {
        let shape = LinearShape { rows: TOKENS, inputs: WIDTH, outputs: 256 };
        let (x, w) = (self.words(TOKENS * WIDTH), self.words(256 * WIDTH));
        let dy = self.words(TOKENS * 256);
        self.name("linear", || linear::linear(self.client, &x, &w, &shape).map(drop))?;
        self.name("linear input gradient", || {
            linear::linear_input_gradient(self.client, &dy, &w, &shape).map(drop)
        })?;
        self.name("linear weight gradient", || {
            linear::linear_weight_gradient(self.client, &dy, &x, &shape).map(drop)
        })?;
        // Experts whose rows a device has counted.
        let shape =
            GroupedLinearShape { rows: TOKENS, experts: EXPERTS, inputs: 512, outputs: 256 };
        let table = self.words(3 * (EXPERTS + 1));
        let groups = DeviceGroups::of_table(table, EXPERTS, TOKENS)?;
        let w = self.words(EXPERTS * 256 * 512);
        self.name("grouped linear", || {
            grouped_linear::grouped_linear(self.client, &x, &w, &groups, &shape).map(drop)
        })?;
        self.name("grouped linear input gradient", || {
            grouped_linear::grouped_linear_input_gradient(self.client, &dy, &w, &groups, &shape)
                .map(drop)
        })?;
        self.name("grouped linear weight gradient", || {
            grouped_linear::grouped_linear_weight_gradient(self.client, &dy, &x, &groups, &shape)
                .map(drop)
        })
    }

    /// An embedding's gradient, and the choice of experts.
    fn tables(&self) -> Outcome {
        let (dy, tokens) = (self.words(TOKENS * WIDTH), self.words(TOKENS));
        self.name("embedding backward", || {
            embedding_backward(self.client, &dy, &tokens, TOKENS, 129_280, WIDTH).map(drop)
        })?;
        let v3 = RouteShape {
            tokens: TOKENS,
            experts: 256,
            top_k: 8,
            groups: 8,
            kept_groups: 4,
            group_score: GroupScore::BestTwo,
        };
        let v2 = RouteShape { group_score: GroupScore::Best, ..v3 };
        let free = RouteShape { kept_groups: 8, ..v3 };
        let (scores, bias) = (self.words(TOKENS * 256), self.words(256));
        for (name, shape) in [("V3", v3), ("V2", v2), ("without a limit", free)] {
            self.name(&format!("route {name}"), || {
                route(self.client, &scores, Some(&bias), &shape).map(drop)
            })?;
        }
        self.name("choose by scores alone", || {
            choose_experts(self.client, &scores, None, &free).map(drop)
        })?;
        let choices = self.words(TOKENS * 8);
        self.name("counts of sequences", || {
            sequence_counts(self.client, &choices, &free, TOKENS).map(drop)
        })
    }

    /// Rows on the wire.
    fn rows(&self) -> Outcome {
        let places: Vec<u32> = (0..TOKENS as u32).rev().collect();
        let index = DeviceIndex::new(self.client, &places, TOKENS)?;
        let sums =
            DeviceSums::new(self.client, &RowSums::of_slots(&places, TOKENS / 8, 8, TOKENS)?)?;
        let weights = self.words(TOKENS);
        let (x, dout) = (self.words(TOKENS * WIDTH), self.words(TOKENS / 8 * WIDTH));
        for format in WIRES {
            let wire = self.words(TOKENS * format.row_words(WIDTH));
            self.name(&format!("pack {format:?}"), || {
                all_to_all::pack(self.client, &x, &index, WIDTH, format).map(drop)
            })?;
            self.name(&format!("unpack {format:?}"), || {
                all_to_all::unpack(self.client, &wire, &index, WIDTH, format).map(drop)
            })?;
            for weights in [Some(&weights), None] {
                let with = if weights.is_some() { "weighted" } else { "plain" };
                self.name(&format!("combine {format:?} {with}"), || {
                    all_to_all::combine(self.client, &wire, weights, &sums, WIDTH, format).map(drop)
                })?;
                self.name(&format!("combine backward {format:?} {with}"), || {
                    all_to_all::combine_backward(
                        self.client,
                        &wire,
                        weights,
                        &sums,
                        &dout,
                        WIDTH,
                        format,
                    )
                    .map(drop)
                })?;
            }
        }
        self.name("pack backward", || {
            all_to_all::pack_backward(self.client, &x, &index, WIDTH).map(drop)
        })
    }
}

fn rows(x: &DeviceCodes, rows: usize, depth: usize, format: Fp8Format) -> DeviceRowTiled<'_> {
    DeviceRowTiled { codes: &x.codes, scales: &x.scales, rows, depth, format }
}

fn columns(x: &DeviceCodes, columns: usize) -> DeviceColumnTiled<'_> {
    DeviceColumnTiled { codes: &x.codes, scales: &x.scales, columns, format: E4M3 }
}

fn weight(x: &DeviceCodes, experts: usize, rows: usize, depth: usize) -> DeviceBlockTiled<'_> {
    DeviceBlockTiled {
        codes: &x.codes,
        scales: &x.scales,
        table: ScaleTable::AsStored,
        experts,
        rows,
        depth,
        format: E4M3,
    }
}

/// The forms of a cast: the recipe's, and each with one thing changed.
fn forms() -> Vec<(Element, Fp8Format, Granularity, ScaleFormat)> {
    let recipe = (Element::F32, E4M3, Granularity::Tile, ScaleFormat::F32);
    let (element, format, granularity, scale) = recipe;
    vec![
        recipe,
        (Element::Bf16, format, granularity, scale),
        (element, Fp8Format::E5M2, granularity, scale),
        (element, format, Granularity::Block, scale),
        (element, format, Granularity::Tensor, scale),
        (element, format, granularity, ScaleFormat::PowerOfTwo),
    ]
}
