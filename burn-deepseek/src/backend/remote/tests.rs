//! Operations on a device of a server: the same bits as on that device itself, as far as the same
//! kernels run.

use std::collections::BTreeMap;
use std::net::TcpListener;

use burn::backend::Dispatch;
use burn::module::Module;
use burn::remote::RemoteHost;
use burn::server::{RemoteServer, WebSocketTransport};
use burn::tensor::{DType, Device, Int, Tensor, TensorData};
#[cfg(feature = "wgpu")]
use cubecl_kernels::metric::calc_diff;
use serde_json::json;

use super::{ConnectError, connect, with_operations};
#[cfg(feature = "wgpu")]
use crate::backend::fp8::RowGroups;
use crate::backend::fp8::{Fp8Kernels, GroupedLinearShape};
#[cfg(feature = "wgpu")]
use crate::backend::{FusedKernels, RowTables};
use crate::backend::{FusedOp, supports, supports_fp8};
use crate::definition::{AdamWScalars, ExpertGroups, StoredPiece, StoredWeight};
use crate::ops;
use crate::ops::fp8::Rows;
use crate::precision::{Fp8Recipe, KeptActivation, QuantizeOptions};
use crate::weights::named_gradients;
use crate::{Compute, DeepSeek, LossWeights, Precision, WeightInit, recomputing};

/// A server of `device` on a thread that ends with the process.
fn serve(device: Device, operations: bool) -> RemoteHost {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = format!("ws://{}", listener.local_addr().expect("an address"));
    let server = RemoteServer::new([device.clone()]);
    let server = if operations { with_operations(server, &device) } else { server };
    std::thread::spawn(move || server.serve(WebSocketTransport::from_listener(listener)));
    RemoteHost::websocket(&address)
}

fn remote(device: Device) -> Device {
    connect(&serve(device, true), 0, 1).expect("a server of this release")
}

/// A model with everything, on a device.
fn model(device: &Device) -> DeepSeek {
    let config = json!({
        "vocab_size": 37, "hidden_size": 140, "intermediate_size": 150, "moe_intermediate_size": 36,
        "num_hidden_layers": 2, "num_attention_heads": 2, "n_shared_experts": 1,
        "n_routed_experts": 4, "num_experts_per_tok": 2, "n_group": 2, "topk_group": 1,
        "first_k_dense_replace": 1, "q_lora_rank": 40, "kv_lora_rank": 24, "qk_nope_head_dim": 16,
        "qk_rope_head_dim": 8, "v_head_dim": 12, "attention_bias": true,
        "num_nextn_predict_layers": 1,
    });
    let config = serde_json::from_value(config).expect("a config of the test");
    DeepSeek::init(&config, 3, device).expect("a config of the test").train()
}

/// The bits of the loss, and the gradients by name.
fn run(model: &DeepSeek, precision: Precision) -> (u32, BTreeMap<String, TensorData>) {
    let device = model.device();
    let compute = Compute::new(precision, &device).expect("the device has FP8");
    let ids: Vec<i32> = (0..2 * 34).map(|i| i * i % 37).collect();
    let tokens = Tensor::<2, Int>::from_data(TensorData::new(ids, [2, 34]), &device);
    let (inputs, targets) = (tokens.clone().slice([0..2, 0..33]), tokens.slice([0..2, 1..34]));
    let total = model
        .loss(inputs, targets, &LossWeights { mtp: 0.3, sequence_balance: 1e-2 }, &compute)
        .total;
    let loss: f32 = total.clone().into_scalar();
    (loss.to_bits(), named_gradients(model, &total.backward()))
}

#[test]
fn a_model_on_a_served_device_computes_the_same_bits() {
    let (here, there) = (model(&Device::flex()), model(&remote(Device::flex())));
    let recipes = [
        Fp8Recipe::default(),
        Fp8Recipe {
            kept: KeptActivation::Rows,
            kept_attention_output: KeptActivation::Columns,
            ..Fp8Recipe::default()
        },
    ];
    for precision in
        [Precision::F32, Precision::Bf16].into_iter().chain(recipes.map(Precision::Fp8))
    {
        assert!(run(&there, precision) == run(&here, precision), "{precision:?}");
        let [there, here] =
            [&there, &here].map(|model| run(&recomputing(model.clone()), precision));
        assert!(there == here, "{precision:?}, recomputed");
    }
}

#[test]
fn what_an_optimizer_and_a_reader_of_codes_need_is_there_too() {
    let (here, there) = (Device::flex(), remote(Device::flex()));
    let groups = ExpertGroups::new(&[0, 2, 2, 0, 0], 1, 3);
    let shape = GroupedLinearShape { rows: 5, inputs: 150, outputs: 5, experts: 1 };
    let options = QuantizeOptions::default();
    let results = |device: &Device| {
        let x: Tensor<2> = WeightInit::normal(5, 1.0, device).weight([5, 150]).val();
        let dispatched = || x.clone().into_dispatch();
        let read = |x| Tensor::<2>::from_dispatch(x).into_data();
        let flat = |factor: f64| x.clone().reshape([750]) * factor;
        let scalars = AdamWScalars {
            lr: 1e-2,
            beta1: 0.9,
            beta2: 0.95,
            eps: 1e-8,
            weight_decay: 0.1,
            step: 2,
            grad_scale: 0.5,
        };
        let (value, first, second) =
            ops::adamw(flat(1.0), flat(0.3), flat(0.1), flat(0.2).square(), &scalars);
        let mut all = vec![value.into_data(), first.into_data(), second.into_data()];
        all.push(read(Dispatch::fp8_dequantize_rows(
            Dispatch::fp8_quantize_rows(dispatched(), options),
            150,
            options,
        )));
        let Rows { groups, table } = Rows::of(&groups, &x);
        let table = || table.clone().into_dispatch();
        let columns = Dispatch::fp8_quantize_columns(dispatched(), table(), groups, options);
        all.push(read(Dispatch::fp8_dequantize_columns(columns, table(), groups, options)));
        all.push(read(Dispatch::fp8_dequantize_weight(
            Dispatch::fp8_quantize_weight(dispatched(), options),
            shape,
            options,
        )));
        all.push(read(Dispatch::e5m6_dequantize(Dispatch::e5m6_quantize(dispatched()), 150)));
        let sums = ops::sums_of_squares(vec![flat(1.0), flat(-3.0)]);
        (
            all,
            ops::sum_of_squares(x.clone()).to_bits(),
            sums.into_iter().map(f64::to_bits).collect::<Vec<_>>(),
        )
    };
    assert_eq!(results(&there), results(&here));
    let average =
        ops::average_into(Tensor::<1>::ones([4], &here), Tensor::<1>::ones([4], &there) * 3.0, 0.5);
    assert_eq!(average.into_data(), TensorData::from([2.0f32; 4]));
}

/// Codes and scales as a checkpoint stores them, more than a block of both, widened by the server.
#[test]
fn a_weight_of_codes_is_widened_on_a_served_device() {
    let x = |device: &Device| Tensor::<2>::ones([3, 130], device) * 0.5;
    let weight = |device: &Device| {
        let codes: Vec<u8> = (0..140 * 130).map(|i| (i * 37 % 127) as u8).collect();
        let codes = TensorData::new(codes, [140, 130]);
        let codes = Tensor::<2, Int>::from_data(codes, (device, DType::U8));
        let scales = Tensor::from_data([[1.0, 0.5], [2.0, 3.0]], device);
        StoredWeight::new(&[140, 130], vec![StoredPiece::E4m3 { codes, scales }])
    };
    let (here, there) = (Device::flex(), remote(Device::flex()));
    let [widened, expected] =
        [&there, &here].map(|device| ops::stored::widen::<2>(&weight(device)));
    assert_eq!(widened.into_data(), expected.into_data());
    let [y, expected] = [&there, &here].map(|device| {
        let values = ops::stored::linear(x(device), &weight(device)).into_data();
        values.iter::<f32>().collect::<Vec<_>>()
    });
    assert!(y.iter().zip(&expected).all(|(y, e)| (y - e).abs() <= 1e-4 * e.abs().max(1.0)));
    assert!(expected.iter().any(|e| e.abs() > 1.0));
}

#[cfg(feature = "wgpu")]
#[test]
fn a_served_gpu_has_what_it_has_here_and_composes_the_rest() {
    let gpu = crate::backend::test_gpu();
    let there = remote(gpu.clone());
    let [there_x, here_x] = [&there, &gpu].map(|device| Tensor::<1>::ones([1], device));
    for &operation in FusedOp::ALL {
        assert_eq!(supports(operation, &there_x), supports(operation, &here_x), "{operation:?}");
    }
    assert!(supports(FusedOp::Permute, &there_x) && supports(FusedOp::MlaAbsorbed, &there_x));
    assert!(supports_fp8(&there));
    assert!(run(&model(&there), Precision::F32) == run(&model(&gpu), Precision::F32));
    // Gradients were seen up to 3e-7 apart with the fusion decorator around the GPU's backend;
    // without it they were the same bits.
    let precision = Precision::Fp8(Fp8Recipe::default());
    let ((there, of_there), (here, of_here)) =
        (run(&model(&there), precision), run(&model(&gpu), precision));
    let losses = [there, here].map(f32::from_bits);
    assert!((losses[0] - losses[1]).abs() < 1e-5 * losses[1], "{losses:?}");
    assert!(of_there.keys().eq(of_here.keys()));
    for ((name, there), here) in of_there.iter().zip(of_here.values()) {
        let values = |data: &TensorData| data.iter::<f64>().collect::<Vec<_>>();
        let diff = calc_diff(&values(there), &values(here));
        assert!(diff < 1e-6, "{name}: {diff}");
    }
}

/// Numbers out of range in a client's tables end its session before a kernel reads by them.
#[cfg(feature = "wgpu")]
#[test]
fn a_client_s_tables_are_checked_before_a_kernel_reads_by_them() {
    let gpu = crate::backend::test_gpu();
    // Two tokens, an expert each.
    let right = [vec![0, 1, 2, 0, 1, 2, 0, 1, 2], vec![0, 1], vec![0, 1], vec![0, 1]];
    let rows_of = |device: &Device, tables: &[Vec<u32>; 4]| {
        let words = |place: usize| {
            let words = TensorData::new(tables[place].clone(), [tables[place].len()]);
            Tensor::<1, Int>::from_data(words, (device, DType::U32))
        };
        RowTables {
            bounds: words(0).reshape([3, 3]).into_dispatch(),
            row_of_slot: words(1).reshape([2, 1]).into_dispatch(),
            token_of_row: words(2).into_dispatch(),
            slot_of_row: words(3).into_dispatch(),
        }
    };
    let x =
        |device: &Device| Tensor::<2>::from_data([[1.0, 2.0], [3.0, 4.0]], device).into_dispatch();
    let permuted = |tables: &[Vec<u32>; 4]| {
        let device = remote(gpu.clone());
        let y = Dispatch::permute(x(&device), rows_of(&device, tables));
        let y = Tensor::<2>::from_dispatch(y);
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| y.into_data()))
    };
    let y = permuted(&right).expect("tables that are right");
    assert_eq!(y, TensorData::from([[1.0f32, 2.0], [3.0, 4.0]]));
    for (table, place, value) in [(0, 1, 3), (1, 0, 2), (2, 1, u32::MAX), (3, 0, 2)] {
        let mut tables = right.clone();
        tables[table][place] = value;
        assert!(permuted(&tables).is_err(), "table {table}");
    }
    // And as many groups as the call says.
    let cast = |groups: usize| {
        let device = remote(gpu.clone());
        let (rows, options) = (rows_of(&device, &right), QuantizeOptions::default());
        let groups = RowGroups::most(2, groups);
        let both = Dispatch::fp8_permute_both(x(&device), rows, groups, options);
        let scales = Tensor::<2>::from_dispatch(both.rows.scales);
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| scales.into_data()))
    };
    assert!(cast(2).is_ok() && cast(3).is_err() && cast(1).is_err());
}

#[test]
fn a_server_lends_to_one_borrower_at_a_time() {
    let host = serve(Device::flex(), true);
    connect(&host, 0, 7).expect("the first borrower");
    connect(&host.clone().with_credential("another session of the same"), 0, 7)
        .expect("the first borrower");
    let other = host.with_credential("another");
    assert!(matches!(connect(&other, 0, 8), Err(ConnectError::Lent)));
}

/// With one session each, servers fetch from each other; with several, tensors go by way of this
/// process. The values are the same.
#[test]
fn tensors_go_from_server_to_server_unless_those_could_wait_for_each_other() {
    let hosts = [serve(Device::flex(), true), serve(Device::flex(), true)];
    let open = |host: &RemoteHost, session: &str| {
        connect(&host.clone().with_credential(session.to_owned()), 0, 1).expect("a server")
    };
    let detours = |from: &Device, to: &Device| {
        super::connect::must_detour(from.as_dispatch(), to.as_dispatch())
    };
    let [a, b] = [open(&hosts[0], "a"), open(&hosts[1], "b")];
    assert!(!detours(&a, &b) && !detours(&a, &Device::flex()) && !detours(&Device::flex(), &b));
    let second = open(&hosts[0], "second");
    assert!(detours(&a, &b) && detours(&b, &a) && detours(&second, &b) && !detours(&a, &second));
    for (from, to) in [(&a, &b), (&b, &second), (&second, &a)] {
        let words =
            Tensor::<1, Int>::from_data(TensorData::from([1u32, u32::MAX, 3]), (from, DType::U32));
        let there = ops::moved(words.clone(), to);
        assert_eq!((there.device() == *to, there.dtype()), (true, DType::U32));
        assert_eq!(there.into_data(), words.into_data());
        let halves = Tensor::<1>::from_data([1.5, -2.0], from).cast(DType::BF16);
        assert_eq!(ops::moved(halves.clone(), to).into_data(), halves.into_data());
    }
}

/// A server without the operations ends the session when it is asked; a device of it that was
/// opened some other way composes everything.
#[test]
fn a_server_without_the_operations_is_refused() {
    let host = serve(Device::flex(), false);
    assert!(matches!(connect(&host, 0, 1), Err(ConnectError::Foreign)));
    let host = serve(Device::flex(), false);
    let device = Device::remote_options(&host).init().expect("a server");
    assert!(
        !supports_fp8(&device)
            && Compute::new(Precision::Fp8(Fp8Recipe::default()), &device).is_err()
    );
    let (loss, _) = run(&model(&device), Precision::F32);
    let (expected, _) = run(&model(&Device::flex()), Precision::F32);
    assert!((f32::from_bits(loss) / f32::from_bits(expected) - 1.0).abs() < 1e-5);
}
