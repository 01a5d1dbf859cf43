//! Which adapter the runtime computes on, what it can do, and which kernels that means.
//!
//! The runtime makes its own wgpu device and hands it to Burn, so that a missing adapter, a missing limit and a lost device
//! are errors of ours, and so that any run can be held to WebGPU's default limits.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use burn::tensor::wgpu::{WgpuInitError, WgpuSetup, wgpu};
use burn::tensor::{BackendPrimitive, Bytes, DType, Device, Int, Tensor};
use burn_cubecl::tensor::CubeTensor;
use burn_cubecl::{CubeBackend, CubeDevice};
use cubecl::MemoryScope;
use cubecl::bytes::AllocationProperty;
use cubecl::client::Client;
use cubecl::features::Plane;
use cubecl::future::block_on;

use crate::kernels::family::Family;

/// Storage buffers a launch of ours binds at most, the one for sizes included: WebGPU's default limit.
pub const BINDINGS_NEEDED: u32 = 8;
/// Workgroup memory our kernels need at most: WebGPU's default limit.
pub const WORKGROUP_BYTES_NEEDED: u32 = 16 << 10;
/// Units of a cube our kernels need at most: WebGPU's default limit.
pub const UNITS_NEEDED: u32 = 256;

/// Bytes of one write: the driver stages each once.
pub const UPLOAD_PIECE_BYTES: usize = 16 << 20;
/// Bytes of writes that may be queued or staged before someone waits for them.
const IN_FLIGHT_BYTES_MAX: usize = 32 << 20;

/// How to choose and set up a device.
#[derive(Debug, Clone, Default)]
pub struct DeviceRequest {
    /// Part of the adapter's name, ignoring case; empty takes the fastest kind.
    pub adapter: String,
    /// Hold the device to WebGPU's default limits, as a browser does.
    pub default_limits: bool,
    /// Kernels to run instead of those the adapter suggests.
    pub family: Option<Family>,
}

/// What an adapter is and allows.
#[derive(Debug, Clone, serde::Serialize)]
pub struct AdapterReport {
    /// As the driver names it.
    pub name: String,
    /// `discrete-gpu`, `integrated-gpu`, `virtual-gpu`, `cpu` or `other`.
    pub kind: &'static str,
    /// The graphics API it is reached by.
    pub api: String,
    /// Driver and its version.
    pub driver: String,
    /// Largest storage binding, bytes.
    pub binding_bytes_max: u64,
    /// Largest buffer, bytes.
    pub buffer_bytes_max: u64,
    /// Storage buffers of a launch.
    pub bindings_max: u32,
    /// Workgroup memory, bytes.
    pub workgroup_bytes_max: u32,
    /// Units of a workgroup.
    pub units_max: u32,
    /// Smallest and largest subgroup, where there are any.
    pub subgroup_sizes: (u32, u32),
    /// Whether shaders may use subgroups, f16, timestamps.
    pub features: Vec<&'static str>,
    /// Why the runtime cannot use it, if it cannot.
    pub unusable: Option<String>,
}

/// No device that can run the model.
#[derive(Debug, thiserror::Error)]
pub enum DeviceError {
    /// The machine has no adapter at all.
    #[error(
        "no graphics adapter found: install a driver (without a GPU, Mesa's lavapipe: `mesa-vulkan-drivers` on Debian)"
    )]
    NoAdapter,
    /// None has the wanted name.
    #[error("no adapter is called `{want}`; there is {found}")]
    NoSuchAdapter {
        /// What was asked for.
        want: String,
        /// The adapters of the machine.
        found: String,
    },
    /// The adapter lacks something the kernels need.
    #[error("adapter `{adapter}` cannot run the model: {reason}")]
    Unsuitable {
        /// Its name.
        adapter: String,
        /// The limit, what it has and what is needed.
        reason: String,
    },
    /// The driver refused.
    #[error("adapter `{adapter}` gave no device: {reason}")]
    Refused {
        /// Its name.
        adapter: String,
        /// The driver's words.
        reason: String,
    },
    /// The device stopped working while it was in use.
    #[error("the device was lost: {reason}")]
    Lost {
        /// What the driver or the runtime said.
        reason: String,
    },
}

/// A device ready for the kernels.
#[derive(Clone)]
pub struct Compute {
    device: Device,
    cube: CubeDevice,
    client: Client,
    report: Arc<AdapterReport>,
    family: Family,
    lost: Arc<Mutex<Option<String>>>,
    /// Bytes written since the last wait.
    in_flight: Arc<AtomicUsize>,
    wgpu: wgpu::Device,
}

/// What becomes of a buffer's memory once nobody holds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Freed {
    /// A buffer of the same size takes it, or [`Compute::release_unused`] gives it back.
    Kept,
    /// It goes back to the driver with the next allocation.
    Returned,
}

impl std::fmt::Debug for Compute {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({:?})", self.report.name, self.family)
    }
}

impl Compute {
    /// Opens the adapter that `request` describes.
    pub async fn open(request: &DeviceRequest) -> Result<Self, DeviceError> {
        let instance = instance();
        let adapters = instance.enumerate_adapters(wgpu::Backends::all()).await;
        let adapter = choose(adapters, &request.adapter)?;
        let report = AdapterReport::of(&adapter);
        let refused = |reason: String| DeviceError::Refused { adapter: report.name.clone(), reason };
        if let Some(reason) = &report.unusable {
            return Err(DeviceError::Unsuitable { adapter: report.name.clone(), reason: reason.clone() });
        }
        if cfg!(feature = "spirv") && report.kind == "cpu" {
            // cubecl-spirv 0.11.3, `lower_shared_implicit`: the variable gets the pointer's type, and drivers crash.
            let reason = "this build compiles kernels to SPIR-V, which CubeCL 0.11.3 gets wrong for adapters without \
                          VK_KHR_workgroup_memory_explicit_layout, as software ones are; build without the feature `spirv`";
            return Err(DeviceError::Unsuitable { adapter: report.name.clone(), reason: reason.into() });
        }
        let (device, queue) = match native_device(&adapter).await.map_err(refused)? {
            Some(_) if request.default_limits => {
                return Err(refused(
                    "its SPIR-V kernels take buffers by address, which knows no binding limits".into(),
                ));
            }
            Some(native) => native,
            None => portable_device(&adapter, request.default_limits).await.map_err(refused)?,
        };
        let lost = Arc::new(Mutex::new(None));
        let seen = lost.clone();
        device.set_device_lost_callback(move |reason, message| {
            if let Ok(mut seen) = seen.lock() {
                *seen = Some(format!("{reason:?}: {message}"));
            }
        });
        let backend = adapter.get_info().backend;
        let setup = WgpuSetup { instance, adapter, device: device.clone(), queue, backend };
        let burn = Device::wgpu_options().setup(setup).init().map_err(|e: WgpuInitError| refused(e.to_string()))?;
        let cube = cube_of(&burn).ok_or_else(|| refused("it is no CubeCL device".into()))?;
        let client = cube.client();
        let family = request.family.unwrap_or_else(|| family_of(&client, &report));
        Ok(Self {
            device: burn,
            cube,
            client,
            report: Arc::new(report),
            family,
            lost,
            in_flight: Arc::default(),
            wgpu: device,
        })
    }

    /// Burn's handle of the device.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// CubeCL's client of the device.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// The adapter and its limits.
    pub fn report(&self) -> &AdapterReport {
        &self.report
    }

    /// The language that kernels are compiled to.
    pub fn language(&self) -> &'static str {
        match self.client.name() {
            "wgpu<spirv>" => "SPIR-V",
            "wgpu<msl>" => "MSL",
            _ => "WGSL",
        }
    }

    /// The kernels' shape.
    pub fn family(&self) -> Family {
        self.family
    }

    /// The same device with other kernels.
    pub fn with_family(&self, family: Family) -> Self {
        Self { family, ..self.clone() }
    }

    /// Largest tensor of one buffer, bytes.
    pub fn buffer_bytes_max(&self) -> usize {
        let limits = self.wgpu.limits();
        usize::try_from(limits.max_buffer_size.min(limits.max_storage_buffer_binding_size)).unwrap_or(usize::MAX)
    }

    /// Bytes of device memory in use and reserved.
    pub fn memory_bytes(&self) -> (u64, u64) {
        let usage = self.client.memory_report(MemoryScope::Device).usage();
        (usage.bytes_in_use, usage.bytes_reserved)
    }

    /// Gives back to the driver what nobody holds any more.
    pub fn release_unused(&self) {
        // Refused while a graph is recorded, which nothing here does.
        let _ = self.client.memory_cleanup();
        self.wait();
    }

    /// A tensor of u32 words, not yet written, in a buffer of its own that is never moved: weights.
    pub fn words<const D: usize>(&self, shape: [usize; D]) -> Tensor<D, Int> {
        Tensor::from_primitive::<CubeBackend>(self.allocate(shape, DType::U32, Freed::Kept))
    }

    /// A tensor of f32, not yet written, in a buffer of its own that is never moved: weights.
    pub fn floats<const D: usize>(&self, shape: [usize; D]) -> Tensor<D> {
        Tensor::from_primitive::<CubeBackend>(self.allocate(shape, DType::F32, Freed::Kept))
    }

    /// As [`words`](Self::words), for what grows by being replaced: memory of the old one is not kept for another.
    pub fn cache_words<const D: usize>(&self, shape: [usize; D]) -> Tensor<D, Int> {
        Tensor::from_primitive::<CubeBackend>(self.allocate(shape, DType::U32, Freed::Returned))
    }

    fn allocate<const D: usize>(&self, shape: [usize; D], dtype: DType, freed: Freed) -> CubeTensor {
        let bytes = shape.iter().product::<usize>() * dtype.size();
        let empty = |bytes| self.client.empty(bytes);
        let handle = match freed {
            // The other kind is looked through at every allocation: too long a list if weights were in it.
            Freed::Kept => self.client.memory_persistent_allocation(bytes, empty),
            Freed::Returned => self.client.memory_dedicated_allocation(bytes, empty),
        };
        let device = self.cube.clone();
        CubeTensor::new_contiguous(self.client.clone(), device, shape.into(), handle, dtype)
    }

    /// A scratch tensor of f32 from the pool, not yet written.
    pub fn scratch<const D: usize>(&self, shape: [usize; D]) -> Tensor<D> {
        let handle = self.client.empty(shape.iter().product::<usize>() * 4);
        let tensor =
            CubeTensor::new_contiguous(self.client.clone(), self.cube.clone(), shape.into(), handle, DType::F32);
        Tensor::from_primitive::<CubeBackend>(tensor)
    }

    /// A tensor of these floats, from the pool.
    pub fn upload_floats<const D: usize>(&self, values: &[f32], shape: [usize; D]) -> Tensor<D> {
        assert_eq!(values.len(), shape.iter().product::<usize>(), "upload: values and shape");
        let handle = self.client.create(Bytes::from_elems(values.to_vec()));
        let tensor =
            CubeTensor::new_contiguous(self.client.clone(), self.cube.clone(), shape.into(), handle, DType::F32);
        Tensor::from_primitive::<CubeBackend>(tensor)
    }

    /// A small tensor of words with these values, from the pool.
    pub fn upload<const D: usize>(&self, values: &[u32], shape: [usize; D]) -> Tensor<D, Int> {
        assert_eq!(values.len(), shape.iter().product::<usize>(), "upload: values and shape");
        let bytes = Bytes::from_elems(values.to_vec());
        let handle = self.client.create(bytes);
        let tensor =
            CubeTensor::new_contiguous(self.client.clone(), self.cube.clone(), shape.into(), handle, DType::U32);
        Tensor::from_primitive::<CubeBackend>(tensor)
    }

    /// Copies `bytes` into `tensor` from byte `start` on; they are copied on the host once more, so let them be small.
    ///
    /// # Panics
    /// If the range leaves the tensor or is not made of whole words.
    pub fn write<const D: usize, K>(&self, tensor: &Tensor<D, K>, start: usize, bytes: &[u8])
    where
        K: burn::tensor::kind::Basic + BackendPrimitive<CubeBackend, Primitive = CubeTensor>,
    {
        self.put(tensor, start, Bytes::from_bytes_vec(bytes.to_vec()));
    }

    /// Writes `bytes` into `tensor` from byte `start` on, and lets go of them once the driver has them: no copy is made on
    /// the host but the driver's own.
    ///
    /// # Panics
    /// As [`write`](Self::write).
    pub fn write_shared<const D: usize, K>(&self, tensor: &Tensor<D, K>, start: usize, bytes: bytes::Bytes)
    where
        K: burn::tensor::kind::Basic + BackendPrimitive<CubeBackend, Primitive = CubeTensor>,
    {
        self.put(tensor, start, Bytes::from_shared(bytes, AllocationProperty::File));
    }

    fn put<const D: usize, K>(&self, tensor: &Tensor<D, K>, start: usize, bytes: Bytes)
    where
        K: burn::tensor::kind::Basic + BackendPrimitive<CubeBackend, Primitive = CubeTensor>,
    {
        let primitive = tensor.clone().try_into_primitive::<CubeBackend>().unwrap_or_else(|e| panic!("{e:?}"));
        let (total, len) = (primitive.handle.size_in_used() as usize, bytes.len());
        assert!(start + len <= total && start.is_multiple_of(4) && len.is_multiple_of(4), "write: range");
        if self.in_flight.load(Ordering::Relaxed) + len > IN_FLIGHT_BYTES_MAX {
            self.wait();
        }
        self.in_flight.fetch_add(len, Ordering::Relaxed);
        let handle = primitive.handle.offset_start(start as u64).offset_end((total - start - len) as u64);
        self.client.write(&handle, bytes);
    }

    /// Waits until the device has done everything asked of it.
    pub fn wait(&self) {
        let _ = block_on(self.client.sync());
        self.in_flight.store(0, Ordering::Relaxed);
    }

    /// The values of a tensor of f32.
    pub async fn read_floats<const D: usize>(&self, tensor: Tensor<D>) -> Result<Vec<f32>, DeviceError> {
        let data = tensor.into_data_async().await.map_err(|e| self.lost(format!("{e:?}")))?;
        data.try_into_vec::<f32>().map_err(|e| self.lost(format!("{e:?}")))
    }

    /// The values of a tensor of words.
    pub async fn read_words<const D: usize>(&self, tensor: Tensor<D, Int>) -> Result<Vec<u32>, DeviceError> {
        let data = tensor.into_data_async().await.map_err(|e| self.lost(format!("{e:?}")))?;
        data.try_into_vec::<u32>().map_err(|e| self.lost(format!("{e:?}")))
    }

    /// Ends the device, as a driver reset would; everything that reads from it fails afterwards.
    pub fn destroy(&self) {
        self.wgpu.destroy();
    }

    /// The error to report instead of `reason`, if the device has been lost.
    pub fn lost(&self, reason: String) -> DeviceError {
        let said = self.lost.lock().ok().and_then(|lost| lost.clone());
        DeviceError::Lost { reason: said.unwrap_or(reason) }
    }
}

/// Every adapter of the machine.
pub async fn adapters() -> Vec<AdapterReport> {
    instance().enumerate_adapters(wgpu::Backends::all()).await.iter().map(AdapterReport::of).collect()
}

/// Vulkan, Metal, DX12, or what `WGPU_BACKEND` names; OpenGL lacks what the kernels need, and its loader is noisy.
///
/// Development builds validate, but unless `WGPU_DEBUG` asks for it kernels carry no line numbers: naga counts the lines
/// before each statement from the first one on, which was more than half of the time of the suite `tensors`.
fn instance() -> wgpu::Instance {
    let flags = wgpu::InstanceFlags::from_build_config().difference(wgpu::InstanceFlags::DEBUG);
    wgpu::Instance::new(wgpu::InstanceDescriptor {
        flags: flags.with_env(),
        backends: wgpu::Backends::from_env().unwrap_or(wgpu::Backends::PRIMARY),
        ..wgpu::InstanceDescriptor::new_without_display_handle_from_env()
    })
}

/// A device whose kernels are SPIR-V; `None` where this build or the adapter has only WGSL.
#[cfg(feature = "spirv")]
async fn native_device(adapter: &wgpu::Adapter) -> Result<Option<(wgpu::Device, wgpu::Queue)>, String> {
    if adapter.get_info().backend != wgpu::Backend::Vulkan {
        return Ok(None);
    }
    cubecl::wgpu::vulkan::try_request_vulkan_device(adapter).await.map_err(|e| e.to_string())
}

#[cfg(not(feature = "spirv"))]
async fn native_device(_: &wgpu::Adapter) -> Result<Option<(wgpu::Device, wgpu::Queue)>, String> {
    Ok(None)
}

/// A device whose kernels are WGSL.
async fn portable_device(adapter: &wgpu::Adapter, default_limits: bool) -> Result<(wgpu::Device, wgpu::Queue), String> {
    let descriptor = wgpu::DeviceDescriptor {
        label: Some("gptoss"),
        required_features: adapter.features()
            - wgpu::Features::all_experimental_mask()
            - wgpu::Features::MAPPABLE_PRIMARY_BUFFERS,
        required_limits: if default_limits { wgpu::Limits::default() } else { adapter.limits() },
        memory_hints: wgpu::MemoryHints::MemoryUsage,
        ..Default::default()
    };
    adapter.request_device(&descriptor).await.map_err(|e| e.to_string())
}

fn choose(mut adapters: Vec<wgpu::Adapter>, want: &str) -> Result<wgpu::Adapter, DeviceError> {
    if adapters.is_empty() {
        return Err(DeviceError::NoAdapter);
    }
    let names: Vec<String> = adapters.iter().map(|a| format!("`{}`", a.get_info().name)).collect();
    adapters.retain(|a| a.get_info().name.to_lowercase().contains(&want.to_lowercase()));
    let rank = |a: &wgpu::Adapter| {
        let info = a.get_info();
        let kind = match info.device_type {
            wgpu::DeviceType::DiscreteGpu => 0,
            wgpu::DeviceType::IntegratedGpu => 1,
            wgpu::DeviceType::VirtualGpu => 2,
            wgpu::DeviceType::Other => 3,
            wgpu::DeviceType::Cpu => 4,
        };
        // OpenGL last: it has the smallest limits.
        (info.backend == wgpu::Backend::Gl, kind)
    };
    adapters.sort_by_key(rank);
    let missing = || DeviceError::NoSuchAdapter { want: want.into(), found: names.join(", ") };
    adapters.into_iter().next().ok_or_else(missing)
}

fn cube_of(device: &Device) -> Option<CubeDevice> {
    match device.as_dispatch() {
        burn::backend::DispatchDevice::Cube(device @ CubeDevice::Wgpu(_)) => Some(device.clone()),
        _ => None,
    }
}

fn family_of(client: &Client, report: &AdapterReport) -> Family {
    let hardware = &client.properties().hardware;
    let planes = client.features().plane.contains(Plane::Ops) && hardware.plane_size_min == hardware.plane_size_max;
    match report.kind {
        "cpu" => report.lane_family(),
        // A plane kernel counts on its size: adapters that may choose another one take the tree.
        _ if planes && hardware.plane_size_max <= 64 => Family::Plane { size: hardware.plane_size_max },
        _ => Family::Workgroup,
    }
}

impl AdapterReport {
    /// The lane kernels that suit it.
    pub fn lane_family(&self) -> Family {
        let (size, max) = self.subgroup_sizes;
        // Browsers want to prove that a subgroup stays together, and cannot where a loop's end was loaded from storage.
        let together = size == max && self.features.contains(&"subgroups") && !cfg!(target_family = "wasm");
        Family::lane(if together { size } else { 1 })
    }

    fn of(adapter: &wgpu::Adapter) -> Self {
        let (info, limits, has) = (adapter.get_info(), adapter.limits(), adapter.features());
        let feature = |flag, name| has.contains(flag).then_some(name);
        Self {
            kind: match info.device_type {
                wgpu::DeviceType::DiscreteGpu => "discrete-gpu",
                wgpu::DeviceType::IntegratedGpu => "integrated-gpu",
                wgpu::DeviceType::VirtualGpu => "virtual-gpu",
                wgpu::DeviceType::Cpu => "cpu",
                wgpu::DeviceType::Other => "other",
            },
            api: format!("{:?}", info.backend).to_lowercase(),
            driver: format!("{} {}", info.driver, info.driver_info).trim().to_string(),
            binding_bytes_max: limits.max_storage_buffer_binding_size,
            buffer_bytes_max: limits.max_buffer_size,
            bindings_max: limits.max_storage_buffers_per_shader_stage,
            workgroup_bytes_max: limits.max_compute_workgroup_storage_size,
            units_max: limits.max_compute_invocations_per_workgroup,
            subgroup_sizes: (info.subgroup_min_size, info.subgroup_max_size),
            features: [
                feature(wgpu::Features::SUBGROUP, "subgroups"),
                feature(wgpu::Features::SHADER_F16, "f16"),
                feature(wgpu::Features::TIMESTAMP_QUERY, "timestamps"),
            ]
            .into_iter()
            .flatten()
            .collect(),
            unusable: shortfall(&limits),
            name: info.name,
        }
    }
}

/// What an adapter with these limits lacks, if it lacks anything.
fn shortfall(limits: &wgpu::Limits) -> Option<String> {
    let needs = [
        ("storage buffers of a launch", limits.max_storage_buffers_per_shader_stage, BINDINGS_NEEDED),
        ("workgroup memory", limits.max_compute_workgroup_storage_size, WORKGROUP_BYTES_NEEDED),
        ("units of a workgroup", limits.max_compute_invocations_per_workgroup, UNITS_NEEDED),
    ];
    let (what, have, need) = needs.into_iter().find(|(_, have, need)| have < need)?;
    Some(format!("{what} is {have}, needed are {need}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_without_adapters_is_told_from_one_without_the_wanted() {
        assert!(matches!(choose(Vec::new(), "any"), Err(DeviceError::NoAdapter)));
    }

    #[test]
    fn an_adapter_below_the_default_limits_is_unsuitable() {
        assert_eq!(shortfall(&wgpu::Limits::default()), None);
        let few = shortfall(&wgpu::Limits::downlevel_defaults());
        assert_eq!(few.as_deref(), Some("storage buffers of a launch is 4, needed are 8"));
        let small = shortfall(&wgpu::Limits { max_compute_workgroup_storage_size: 8192, ..wgpu::Limits::default() });
        assert_eq!(small.as_deref(), Some("workgroup memory is 8192, needed are 16384"));
    }
}
