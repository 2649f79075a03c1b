//! Rotations against the host's.

use crate::client::{client, download, upload};
use crate::oracle::{assert_near, random, widen};
use cubecl_kernels::KernelError;
use cubecl_kernels::definition::{RopeLayout, RopeShape};
use cubecl_kernels::host;
use cubecl_kernels::rope::{rope, rope_backward};

#[test]
fn rotations_of_every_shape_there_and_back() {
    let client = client();
    for layout in [RopeLayout::Interleaved, RopeLayout::Halves] {
        for [batch, tokens, heads, head_dim, rope_dim] in [
            [2, 5, 3, 10, 4],
            [1, 7, 1, 8, 8],
            [1, 3, 2, 7, 2],
            [2, 3, 2, 5, 0],
            [0, 3, 2, 6, 4],
            [3, 65, 4, 48, 16],
            [1, 3, 2, 12, 4],
        ] {
            let shape = RopeShape { batch, tokens, heads, head_dim, rope_dim, layout };
            let name = format!("{shape:?}");
            let x = random(1, batch * tokens * heads * head_dim);
            let angles: Vec<f32> = (0..tokens * rope_dim / 2).map(|i| 0.37 * i as f32).collect();
            let cos: Vec<f32> = angles.iter().map(|x| x.cos()).collect();
            let sin: Vec<f32> = angles.iter().map(|x| x.sin()).collect();
            let [on_x, on_cos, on_sin] = [&x, &cos, &sin].map(|values| upload(&client, values));
            let there = rope(&client, &on_x, &on_cos, &on_sin, &shape).unwrap();
            let back = rope_backward(&client, &there, &on_cos, &on_sin, &shape).unwrap();
            let expected = host::rope(&x, &cos, &sin, &shape).unwrap();
            assert_near(&name, &download(&client, &there, x.len()), &widen(&expected));
            assert_near(&name, &download(&client, &back, x.len()), &widen(&x));
        }
    }
}

#[test]
fn wrong_arguments_are_named() {
    let client = client();
    let x = upload(&client, &[0.0; 8]);
    let shape = RopeShape {
        batch: 1,
        tokens: 2,
        heads: 1,
        head_dim: 4,
        rope_dim: 4,
        layout: RopeLayout::Halves,
    };
    let run = |shape: RopeShape| rope(&client, &x, &x, &x, &shape).map(drop).unwrap_err();
    let error = run(RopeShape { heads: 2, ..shape });
    assert!(matches!(error, KernelError::Length { argument: "x", .. }), "{error}");
    let error = run(RopeShape { tokens: 8, batch: 0, ..shape });
    assert!(matches!(error, KernelError::Length { argument: "cos", .. }), "{error}");
    for rope_dim in [3, 6] {
        let error = run(RopeShape { rope_dim, ..shape });
        assert!(matches!(error, KernelError::Invalid { argument: "shape", .. }), "{error}");
    }
}
