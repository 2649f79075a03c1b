//! What CubeCL's CUDA runtime says of a device, by its compute capability.

use cubecl::features::{Plane, Tma, TypeUsage};
use cubecl::ir::{
    ContiguousElements, DeviceIdentity, DeviceProperties, ElemType, FloatKind, HardwareProperties,
    MemoryDeviceProperties, MmaProperties, OpaqueType, TargetProperties, VectorSize,
};
use cubecl_core::cmma::MatrixLayout;
use cubecl_core::profile::TimingMethod;
use cubecl_cpp::cuda::arch::CudaArchitecture;
use cubecl_cpp::cuda::mma::CudaCmmaCompiler;
use cubecl_cpp::cuda::mma::manual::contiguous_elements_cuda;
use cubecl_cpp::cuda::{supported_mma_combinations, supported_scaled_mma_combinations};
use cubecl_cpp::register_supported_types;
use cubecl_cpp::shared::{
    CompilationOptions, CppSupportedFeatures, register_mma_features, register_scaled_mma_features,
    register_wmma_features,
};

/// The compute capabilities that the gate compiles for.
pub const ALL: [u32; 4] = [89, 90, 100, 120];
/// The one that every form of a cast is compiled for.
pub const EVERY_CAST: u32 = 90;

/// What a target is called: those from 9.0 on with what is theirs alone, as CubeCL asks for.
pub fn target(version: u32) -> String {
    if version >= 90 { format!("sm_{version}a") } else { format!("sm_{version}") }
}

/// A device's properties, as the runtime of version 0.11.3 fills them in.
pub fn properties(version: u32) -> DeviceProperties {
    let architecture = CudaArchitecture { version, tensor_cores: true };
    let memory = MemoryDeviceProperties::new(16 << 30, 512);
    // Bytes that one cube can ask for: 227 KB of Hopper's and Blackwell's 228, 99 of the others'.
    let shared = if matches!(version, 90 | 100) { 232_448 } else { 101_376 };
    let hardware = HardwareProperties {
        load_width: 128,
        vector_register_count: None,
        plane_size_min: 32,
        plane_size_max: 32,
        max_bindings: 1024,
        max_shared_memory_size: shared,
        max_cube_count: (i32::MAX as u32, 65_535, 65_535),
        max_units_per_cube: 1024,
        max_cube_dim: (1024, 1024, 64),
        num_streaming_multiprocessors: Some(132),
        num_tensor_cores: Some(4),
        min_tensor_cores_dim: Some(8),
        num_cpu_cores: None,
        last_level_cache_size: None,
        max_vector_size: VectorSize::MAX,
        cube_mma_reserved_shared_memory: 0,
    };
    let identity = DeviceIdentity {
        name: format!("compute capability {version}"),
        fingerprint: format!("ptx_sm{version}"),
        physical: None,
    };
    let mut all =
        DeviceProperties::new(Default::default(), memory, hardware, TimingMethod::System, identity);
    register_supported_types(&mut all);
    all.register_opaque_type(OpaqueType::Barrier);
    all.register_type_usage(ElemType::Float(FloatKind::TF32), TypeUsage::Conversion);
    all.features.copy_async = true;
    all.features.memory_reinterpret = true;
    all.features.alignment = true;
    all.features.device_memory_scope = true;
    for plane in [Plane::Sync, Plane::Ops, Plane::NonUniformControlFlow] {
        all.features.plane.insert(plane);
    }
    if version >= 90 {
        all.features.tma.insert(Tma::Base);
        all.register_opaque_type(OpaqueType::TensorMap);
        all.features.cube_cluster = true;
    }
    register_wmma_features(
        CudaCmmaCompiler::Cpp.supported_cmma_combinations(&architecture),
        &mut all,
    );
    register_mma_features(supported_mma_combinations(&architecture), &mut all);
    register_scaled_mma_features(supported_scaled_mma_combinations(&architecture), &mut all);
    all
}

/// How the runtime has its kernels compiled.
pub fn options(version: u32) -> CompilationOptions {
    CompilationOptions {
        supports_features: CppSupportedFeatures {
            grid_constants: true,
            clusters: version >= 90,
            fast_math: true,
            fast_tanh: true,
            elect_sync: version >= 90,
            dp4a: true,
        },
        ..Default::default()
    }
}

/// How the registers of matrices lie.
pub fn target_properties() -> TargetProperties {
    TargetProperties {
        mma: MmaProperties {
            register_size_bits: 32,
            const_plane_size: 32,
            register_layout_a: MatrixLayout::RowMajor,
            register_layout_b: MatrixLayout::ColMajor,
            register_layout_acc: MatrixLayout::RowMajor,
            register_duplication_a: 1,
            register_duplication_b: 1,
            register_duplication_acc: 1,
            contiguous_elements: ContiguousElements::new(contiguous_elements_cuda),
        },
    }
}
