//! A device that is not there: it has the properties of a compute capability, writes down the CUDA
//! source of whatever is launched on it, runs nothing, and answers every read with zeros.

use crate::architecture;
use cubecl::future::DynFut;
use cubecl::prelude::{Client, CubeCount};
use cubecl_core::bytes::Bytes;
use cubecl_core::device::{DeviceId, DeviceService, ServerUtilitiesHandle, ServiceId};
use cubecl_core::environment::backtrace::BackTrace;
use cubecl_core::environment::stream::StreamId;
use cubecl_core::profile::ProfileDuration;
use cubecl_cpp::shared::CppCompiler;
use cubecl_cpp::target::Cuda;
use cubecl_server::allocator::ContiguousMemoryLayoutPolicy;
use cubecl_server::dry_run::LaunchMode;
use cubecl_server::id::KernelId;
use cubecl_server::kernel::{CompiledKernel, CubeKernel, define_kernel};
use cubecl_server::logging::ServerLogger;
use cubecl_server::memory_management::{
    ManagedMemoryHandle, MemoryAllocationMode, StreamMemoryReport,
};
use cubecl_server::server::{
    BufferBinding, CopyDescriptor, KernelArguments, ProfileError, ProfilingToken, Server,
    ServerCommunication, ServerError, ServerStorage, ServerUtilities,
};
use cubecl_server::storage::{BytesResource, BytesStorage, ManagedResource};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

/// A kernel's source, and the operations that launched it.
pub struct Source {
    /// The kernel's function.
    pub entry: String,
    /// CUDA C++.
    pub code: String,
    /// Bytes of shared memory that a launch reserves.
    pub shared_bytes: usize,
    /// Units of a cube.
    pub units: u32,
    /// Operations, in the order in which they launched it first.
    pub operations: Vec<String>,
}

/// What has been launched on all devices of paper.
#[derive(Default)]
pub struct Launched {
    /// What launches are for, until it is set anew.
    pub operation: String,
    /// Sources of the kernels by compute capability.
    sources: HashMap<u32, HashMap<KernelId, Source>>,
    /// What no source could be made of.
    pub errors: Vec<String>,
}

impl Launched {
    /// The sources of a compute capability so far, in the order of their names and operations.
    pub fn take(&mut self, version: u32) -> Vec<Source> {
        let mut all: Vec<Source> =
            self.sources.remove(&version).unwrap_or_default().into_values().collect();
        all.sort_by(|a, b| (&a.entry, &a.operations).cmp(&(&b.entry, &b.operations)));
        all
    }
}

/// What has been launched.
pub fn launched() -> MutexGuard<'static, Launched> {
    static ALL: OnceLock<Mutex<Launched>> = OnceLock::new();
    ALL.get_or_init(Default::default).lock().unwrap_or_else(PoisonError::into_inner)
}

/// A client of the device of a compute capability.
pub fn client(version: u32) -> Client {
    Client::load::<Paper>(DeviceId { type_id: 0, index_id: version as u16 })
}

/// The device's side.
#[derive(Debug)]
pub struct Paper {
    version: u32,
    utilities: Arc<ServerUtilities>,
}

impl DeviceService for Paper {
    fn init(device_id: DeviceId) -> Self {
        let version = u32::from(device_id.index_id);
        let (utilities, _captures) = ServerUtilities::init(
            ServiceId::of::<Self>(device_id),
            "paper",
            architecture::properties(version),
            architecture::target_properties(),
            Arc::new(ServerLogger::default()),
            ContiguousMemoryLayoutPolicy::new(512),
        );
        Self { version, utilities: Arc::new(utilities) }
    }

    fn utilities(&self) -> ServerUtilitiesHandle {
        self.utilities.clone() as ServerUtilitiesHandle
    }
}

impl Paper {
    fn compile(&self, kernel: &dyn CubeKernel, shared: usize) -> Result<Source, String> {
        let definition = define_kernel(kernel).map_err(|error| error.to_string())?;
        let compiled = CompiledKernel::<CppCompiler<Cuda>>::compile(
            kernel,
            definition,
            &mut CppCompiler::default(),
            &architecture::options(self.version),
        )
        .map_err(|error| error.to_string())?;
        let shared_bytes = compiled.repr.as_ref().map_or(0, |kernel| kernel.shared_memory_size);
        if shared_bytes > shared {
            return Err(format!("{shared_bytes} bytes of shared memory, of {shared}"));
        }
        Ok(Source {
            entry: compiled.entrypoint_name,
            code: compiled.source,
            shared_bytes,
            units: compiled.cube_dim.num_elems(),
            operations: Vec::new(),
        })
    }
}

impl Server for Paper {
    unsafe fn launch(
        &mut self,
        kernel: Box<dyn CubeKernel>,
        _count: CubeCount,
        _arguments: KernelArguments,
        _stream: StreamId,
        _mode: LaunchMode,
    ) {
        let shared = self.utilities.properties.hardware.max_shared_memory_size;
        let mut all = launched();
        let operation = all.operation.clone();
        let known = all.sources.entry(self.version).or_default();
        if !known.contains_key(&kernel.id()) {
            match self.compile(&*kernel, shared) {
                Ok(source) => {
                    known.insert(kernel.id(), source);
                }
                Err(error) => {
                    let at = architecture::target(self.version);
                    all.errors.push(format!("{at} {operation}: {}: {error}", kernel.name()));
                    return;
                }
            }
        }
        if let Some(source) = known.get_mut(&kernel.id())
            && !source.operations.contains(&operation)
        {
            source.operations.push(operation);
        }
    }

    fn initialize_memory(
        &mut self,
        _memory: ManagedMemoryHandle,
        _size: u64,
        _stream: StreamId,
    ) -> Result<(), ServerError> {
        Ok(())
    }

    fn logger(&self) -> Arc<ServerLogger> {
        self.utilities.logger.clone()
    }

    fn utilities(&self) -> Arc<ServerUtilities> {
        self.utilities.clone()
    }

    fn read(
        &mut self,
        descriptors: Vec<CopyDescriptor>,
        _stream: StreamId,
    ) -> DynFut<Result<Vec<Bytes>, ServerError>> {
        let zeros = |x: CopyDescriptor| {
            Bytes::from_bytes_vec(vec![0; x.shape.iter().product::<usize>() * x.elem_size])
        };
        Box::pin(async move { Ok(descriptors.into_iter().map(zeros).collect()) })
    }

    fn write(&mut self, _descriptors: Vec<(CopyDescriptor, Bytes)>, _stream: StreamId) {}

    fn sync(
        &mut self,
        _handles: Vec<BufferBinding>,
        _stream: StreamId,
    ) -> DynFut<Result<(), ServerError>> {
        Box::pin(async { Ok(()) })
    }

    fn check(
        &mut self,
        _handles: Vec<BufferBinding>,
        _stream: StreamId,
    ) -> Result<(), ServerError> {
        Ok(())
    }

    fn flush(&mut self, _stream: StreamId) -> Result<(), ServerError> {
        Ok(())
    }

    fn memory_report(&mut self, _stream: StreamId) -> Option<StreamMemoryReport> {
        None
    }

    fn memory_cleanup(&mut self, _stream: StreamId) -> Result<(), ServerError> {
        Ok(())
    }

    fn start_profile(&mut self, _stream: StreamId) -> Result<ProfilingToken, ServerError> {
        Err(not_there())
    }

    fn end_profile(
        &mut self,
        _stream: StreamId,
        _token: ProfilingToken,
    ) -> Result<ProfileDuration, ProfileError> {
        Err(ProfileError::NotRegistered { backtrace: BackTrace::capture() })
    }

    fn allocation_mode(&mut self, _mode: MemoryAllocationMode, _stream: StreamId) {}
}

impl ServerCommunication for Paper {}

impl ServerStorage for Paper {
    type Storage = BytesStorage;

    fn get_resource(
        &mut self,
        _binding: BufferBinding,
        _stream: StreamId,
    ) -> Result<ManagedResource<BytesResource>, ServerError> {
        Err(not_there())
    }
}

fn not_there() -> ServerError {
    ServerError::Generic {
        reason: "a device of paper has neither time nor memory".to_owned(),
        backtrace: BackTrace::capture(),
    }
}
