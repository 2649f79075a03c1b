//! What `--device` takes, refuses, and finds.

use std::time::Duration;

use super::backend::BACKENDS;
use super::*;

#[test]
fn every_choice_reads_back_as_written() {
    for text in [
        "auto",
        "flex",
        "cpu",
        "wgpu",
        "wgpu:0",
        "vulkan:3",
        "metal",
        "cuda:7",
        "rocm",
        "ws://a.b:3000",
        "ws://[::1]:1/7",
    ] {
        let choice: DeviceChoice = text.parse().unwrap();
        assert_eq!(choice.to_string(), text);
    }
}

#[test]
fn other_texts_are_refused() {
    for text in ["", "gpu", "Cuda", "opencl:0", ":0"] {
        assert!(matches!(text.parse::<DeviceChoice>(), Err(DeviceError::Unknown { .. })), "{text}");
    }
    for text in [
        "wgpu:",
        "cuda:-1",
        "cuda:x",
        "cuda:99999999999999999999",
        "flex:0",
        "auto:1",
        "cpu:0",
        "wgpu:0:1",
    ]
    .into_iter()
    .chain([
        "ws://",
        "ws://a",
        "ws://a:x",
        "ws://a:70000",
        "ws://:1",
        "ws://a:1/b",
        "ws://a:1/0/0",
        "ws://b@a:1",
        "http://a:1",
        "://a:1",
    ]) {
        assert!(matches!(text.parse::<DeviceChoice>(), Err(DeviceError::Index { .. })), "{text}");
    }
}

#[test]
fn flex_is_always_there_and_auto_always_finds_something() {
    assert_eq!(DeviceChoice::Flex.open().unwrap().name, "flex");
    let auto = DeviceChoice::Auto.open().unwrap();
    assert!(!auto.name.contains("software"), "{}", auto.name);
}

#[test]
fn a_backend_is_there_or_says_how_to_build_it() {
    for backend in BACKENDS {
        match DeviceChoice::Backend(backend, Some(4242)).open() {
            Err(DeviceError::NotBuilt { backend: named }) => assert_eq!(named, backend),
            Err(DeviceError::Absent { index: Some(4242), .. }) => {}
            other => panic!("{backend}: {other:?}"),
        }
    }
}

#[test]
fn messages_say_what_would_be_right() {
    let error = DeviceError::NotBuilt { backend: GpuBackend::Cuda };
    assert!(error.to_string().ends_with("build with --features cuda"));
    let error = DeviceError::Absent {
        backend: GpuBackend::Wgpu,
        index: Some(5),
        found: vec!["wgpu:0 (software renderer)".into()],
    };
    assert_eq!(
        error.to_string(),
        "device wgpu:5: no such device; there are wgpu:0 (software renderer)"
    );
    let error = DeviceError::Absent { backend: GpuBackend::Cuda, index: None, found: vec![] };
    assert_eq!(error.to_string(), "device cuda: no such device; there are none");
}

#[test]
fn a_worker_s_device_is_for_ranks() {
    let device: DeviceChoice = "ws://127.0.0.1:1/0".parse().unwrap();
    assert_eq!(device.to_string(), "ws://127.0.0.1:1");
    assert!(matches!(device.open(), Err(DeviceError::OnlyForRanks { .. })));
}

#[test]
fn a_worker_that_is_not_there_does_not_answer() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let worker: WorkerDevice = format!("ws://{}", listener.local_addr().unwrap()).parse().unwrap();
    // Somebody listens, and says nothing: a process that is stopped is like that.
    assert!(!worker.answers(Duration::from_millis(50)));
    drop(listener);
    assert!(!worker.answers(Duration::from_millis(50)));
}

#[test]
fn a_token_is_read_and_never_shown() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    std::fs::write(&file, " open sesame \nmore\n").unwrap();
    let token = Token::from_either(Some(&file), None).unwrap().unwrap();
    assert_eq!((token.reveal(), format!("{token:?}").as_str()), ("open sesame", "Token(..)"));
    assert_eq!(Token::from_either(None, None), Ok(None));
    let error =
        Token::from_either(Some(&folder.path().join("none")), None).unwrap_err().to_string();
    assert!(error.contains("none"), "{error}");
}

#[test]
fn software_renderers_are_known_by_name() {
    for name in [
        "llvmpipe (LLVM 19.1.7, 256 bits)",
        "SwiftShader Device (Subzero)",
        "Microsoft Basic Render Driver",
    ] {
        assert!(adapters::names_software(name), "{name}");
    }
    for name in
        ["NVIDIA H100 PCIe", "AMD Radeon 8060S Graphics", "Apple M3", "Intel(R) Arc(tm) A770"]
    {
        assert!(!adapters::names_software(name), "{name}");
    }
}

/// The bug this would catch: `auto` training on a software renderer, many times slower than Flex.
#[cfg(any(feature = "wgpu", feature = "vulkan", feature = "metal"))]
#[test]
fn wgpu_takes_what_there_is_by_number_and_auto_leaves_software_alone() {
    burn_deepseek::backend::share_streams().unwrap();
    let wgpu = adapters::enumerate(GpuBackend::Wgpu).unwrap();
    println!(
        "adapters: {:?}",
        wgpu.iter().map(|adapter| (adapter.kind, adapter.software)).collect::<Vec<_>>()
    );
    for index in 0..wgpu.len() {
        let chosen = DeviceChoice::Backend(GpuBackend::Wgpu, Some(index)).open().unwrap();
        assert!(chosen.name.starts_with(&format!("wgpu:{index} (")), "{}", chosen.name);
    }
    let beyond = DeviceChoice::Backend(GpuBackend::Wgpu, Some(wgpu.len())).open().unwrap_err();
    assert!(matches!(beyond, DeviceError::Absent { found, .. } if found.len() == wgpu.len()));
    if wgpu.iter().all(|adapter| adapter.software) {
        assert_eq!(DeviceChoice::Auto.open().unwrap().name, "flex");
    }
}
