//! FP32 products against exact ones, and against what TF32 would make of them.

use crate::client::{client, download, upload};
use crate::oracle::{assert_near, random, widen};
use cubecl_kernels::KernelError;
use cubecl_kernels::definition::LinearShape;
use cubecl_kernels::linear::{linear, linear_input_gradient, linear_weight_gradient};
use cubecl_kernels::matrix_product::LinearPath;
use cubecl_kernels::reference;

#[test]
fn products_and_gradients_of_every_shape() {
    let client = client();
    for (rows, inputs, outputs) in [
        (0, 3, 5),
        (3, 0, 5),
        (3, 5, 0),
        (1, 1, 1),
        (65, 17, 63),
        (64, 64, 64),
        (130, 257, 8),
        (130, 256, 8),
        (9, 12, 20),
        (71, 38, 34), // tiles of planes, ragged ones, and an odd depth
        (200, 130, 66),
    ] {
        let name = format!("{rows} {inputs} {outputs}");
        let shape = LinearShape { rows, inputs, outputs };
        let (x, w) = (random(1, rows * inputs), random(2, outputs * inputs));
        let dy = random(3, rows * outputs);
        let [on_x, on_w, on_dy] = [&x, &w, &dy].map(|values| upload(&client, values));
        let [x, w, dy] = [&x, &w, &dy].map(|values| widen(values));
        let y = linear(&client, &on_x, &on_w, &shape, LinearPath::F32).unwrap();
        let expected = reference::linear(&x, &w, &shape);
        assert_near(&name, &download(&client, &y, rows * outputs), &expected);
        let dx = linear_input_gradient(&client, &on_dy, &on_w, &shape, LinearPath::F32).unwrap();
        let expected = reference::linear_input_gradient(&dy, &w, &shape);
        assert_near(&name, &download(&client, &dx, rows * inputs), &expected);
        let dw = linear_weight_gradient(&client, &on_dy, &on_x, &shape, LinearPath::F32).unwrap();
        let expected = reference::linear_weight_gradient(&dy, &x, &shape);
        assert_near(&name, &download(&client, &dw, outputs * inputs), &expected);
    }
}

/// Operands that are the same in TF32 give sums that differ in FP32.
#[test]
fn no_operand_is_rounded_to_tf32() {
    let client = client();
    let shape = LinearShape { rows: 1, inputs: 256, outputs: 2 };
    let mut w = vec![1.0f32; 512];
    let beyond = 1.0 + 1.0 / 4096.0;
    w[256..].fill(beyond);
    let (x, w) = (upload(&client, &[1.0; 256]), upload(&client, &w));
    let y = linear(&client, &x, &w, &shape, LinearPath::F32).unwrap();
    let y = download(&client, &y, 2);
    assert_eq!(y, [256.0, 256.0 * beyond]);
    // Ten bits of mantissa, to the nearest.
    let tf32 = f32::from_bits((beyond.to_bits() + 0x1000) & !0x1FFF);
    assert_eq!(tf32, 1.0);
}

#[test]
fn wrong_arguments_are_named() {
    let client = client();
    let x = upload(&client, &[0.0; 6]);
    let shape = LinearShape { rows: 2, inputs: 3, outputs: 3 };
    let error = linear(&client, &x, &x, &shape, LinearPath::F32).unwrap_err();
    assert!(matches!(error, KernelError::Length { argument: "w", expected: 9, .. }), "{error}");
    let error = linear_weight_gradient(
        &client,
        &x,
        &x,
        &LinearShape { outputs: 4, ..shape },
        LinearPath::F32,
    );
    assert!(matches!(error, Err(KernelError::Length { argument: "dy", .. })));
}
