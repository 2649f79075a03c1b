//! Products in BF16, where the device has matrix instructions for them.

use super::{Bench, baseline};
use cubecl::prelude::*;
use cubecl::server::Handle;
use cubecl_kernels::definition::{GroupedLinearShape, LinearShape};
use cubecl_kernels::device::{DeviceGroups, matrix_unit};
use cubecl_kernels::grouped_linear::grouped_linear;
use cubecl_kernels::linear::{linear, linear_input_gradient, linear_weight_gradient};
use cubecl_kernels::matrix_product::LinearPath;
use cubecl_kernels::metric::calc_diff;

/// Times the three products of a linear and the experts' forward one, `x` and `w` squares of `size`;
/// or says what the device lacks.
pub fn products(bench: &Bench, x: &Handle, w: &Handle, groups: &DeviceGroups, size: usize) {
    let client = &bench.client;
    let path = match matrix_unit(client) {
        Ok(unit) => LinearPath::Bf16(unit),
        Err(shortfall) => {
            println!("{:<34} not on this device: {shortfall}", "BF16 products");
            return;
        }
    };
    let must = "the bench's own arguments are right";
    let shape = LinearShape { rows: size, inputs: size, outputs: size };
    let flop = 2.0 * (size as f64).powi(3);
    let f32_product = || drop(baseline::product_nt(client, x, w, size, size, size));
    let exact = bench.download(&baseline::product_nt(client, x, w, size, size, size), size * size);
    let run = || linear(client, x, w, &shape, path).expect(must);
    let diff = calc_diff(&bench.download(&run(), size * size), &exact);
    bench.product("bf16 linear", flop, diff, &|| drop(run()), &f32_product);
    let f32_path = |backward: &dyn Fn(LinearPath) -> Handle, name: &str| {
        let exact = bench.download(&backward(LinearPath::F32), size * size);
        let diff = calc_diff(&bench.download(&backward(path), size * size), &exact);
        bench.product(name, flop, diff, &|| drop(backward(path)), &f32_product);
    };
    f32_path(&|path| linear_input_gradient(client, x, w, &shape, path).expect(must), "bf16 dx");
    f32_path(&|path| linear_weight_gradient(client, x, w, &shape, path).expect(must), "bf16 dw");
    let experts = groups.len();
    let weights = super::values(2, size * size).repeat(experts);
    let stacked = client.create_from_slice(f32::as_bytes(&weights));
    let shape = GroupedLinearShape { rows: size, experts, inputs: size, outputs: size };
    f32_path(
        &|path| grouped_linear(client, x, &stacked, groups, &shape, path).expect(must),
        "bf16 grouped linear, 8 experts",
    );
}
