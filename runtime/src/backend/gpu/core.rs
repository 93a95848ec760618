//! The backend's parts: memory, tables, keys, and what happens when the device fails.

use super::arguments::MAX_BATCH;
use super::device::{Address, Device, DeviceError, KernelTime, Launch};
use super::keys::Keys;
use super::limits;
use super::memory::{Buffer, Memory};
use super::poly::GpuPoly;
use super::recording::{Recorder, Recordings, WeakRecordings};
use super::tables::Tables;
use super::touches::Touches;
use crate::ring::{Buffer as Words, Form, LimbId, RingContext, RnsPoly};
use crate::rlwe::{RlweContext, RlweError};
use bytemuck::Pod;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

/// A backend on a device. Clones share the device and everything on it.
///
/// Most operations of [`crate::backend::Backend`] cannot fail, but a device can, by running out of memory for instance. The first failure is
/// kept ([`Gpu::failure`]); from then on operations do nothing, those that may fail say so, and [`Gpu::fetch`] refuses.
#[derive(Clone)]
pub struct Gpu {
    inner: Arc<Inner>,
}

struct Inner {
    context: Arc<RlweContext>,
    /// What no other backend of this process has.
    serial: u64,
    tables: Tables,
    keys: Keys,
    // Dropped after what holds buffers.
    memory: Arc<Memory>,
    failure: OnceLock<DeviceError>,
    fused: bool,
    /// Most ciphertexts worked on at once.
    together: AtomicUsize,
    /// Whether work that is done again is recorded, and what a thread records now.
    records: AtomicBool,
    recorder: Arc<Mutex<Option<Recorder>>>,
    /// Everybody's recordings, to be given up where memory is short.
    recordings: Mutex<Vec<WeakRecordings>>,
}

impl From<DeviceError> for RlweError {
    fn from(error: DeviceError) -> Self {
        RlweError::Device(error.to_string())
    }
}

impl Gpu {
    /// Uploads the tables of a ring (0.5 MiB per prime at N = 2^16).
    ///
    /// # Errors
    /// A device without memory for them, or a failure of its driver.
    pub fn new(device: Arc<dyn Device>, context: Arc<RlweContext>) -> Result<Self, DeviceError> {
        Self::with(device, context, true)
    }

    /// A backend whose launches do one thing each: what those that do several are held against.
    ///
    /// # Errors
    /// As [`Gpu::new`].
    pub fn unfused(
        device: Arc<dyn Device>,
        context: Arc<RlweContext>,
    ) -> Result<Self, DeviceError> {
        Self::with(device, context, false)
    }

    fn with(
        device: Arc<dyn Device>,
        context: Arc<RlweContext>,
        fused: bool,
    ) -> Result<Self, DeviceError> {
        static SERIAL: AtomicU64 = AtomicU64::new(0);
        let memory = Memory::new(device);
        Ok(Self {
            inner: Arc::new(Inner {
                serial: SERIAL.fetch_add(1, Ordering::Relaxed),
                tables: Tables::new(&memory, &context)?,
                keys: Keys::default(),
                context,
                memory,
                failure: OnceLock::new(),
                fused,
                together: AtomicUsize::new(MAX_BATCH),
                records: AtomicBool::new(true),
                recorder: Arc::default(),
                recordings: Mutex::default(),
            }),
        })
    }

    /// The device's name.
    pub fn device_name(&self) -> String {
        self.inner.memory.device().name()
    }

    /// Most bytes of the device that polynomials, keys and tables took together.
    pub fn most_bytes(&self) -> u64 {
        self.inner.memory.most_bytes()
    }

    /// Bytes of the device that polynomials, keys and tables take now.
    pub fn used_bytes(&self) -> u64 {
        self.inner.memory.used_bytes()
    }

    /// Bytes of the device.
    pub fn total_bytes(&self) -> u64 {
        self.inner.memory.device().total_bytes()
    }

    /// Most ciphertexts that are worked on at once.
    pub fn most_together(&self) -> usize {
        self.inner.together.load(Ordering::Relaxed)
    }

    /// Works on no more ciphertexts at once, for want of memory.
    pub fn limit_together(&self, most: usize) {
        let most = most.clamp(1, MAX_BATCH);
        self.inner.together.store(most, Ordering::Relaxed);
    }

    /// Whether work that is done again and again is recorded and then started as a whole; it is unless this says otherwise.
    pub fn record_repeated(&self, on: bool) {
        self.inner.records.store(on, Ordering::Relaxed);
    }
    pub(super) fn records(&self) -> bool {
        self.inner.records.load(Ordering::Relaxed)
    }
    pub(super) fn serial(&self) -> u64 {
        self.inner.serial
    }
    pub(super) fn recorder(&self) -> &Arc<Mutex<Option<Recorder>>> {
        &self.inner.recorder
    }
    pub(super) fn memory(&self) -> &Arc<Memory> {
        &self.inner.memory
    }

    /// Remembers recordings, to give them up where memory is short.
    pub(super) fn know(&self, recordings: &Recordings) {
        if let Ok(mut all) = self.inner.recordings.lock() {
            all.retain(|known| known.upgrade().is_some());
            all.push(recordings.downgrade());
        }
    }

    fn release_recordings(&self) -> bool {
        let Ok(all) = self.inner.recordings.lock() else {
            return false;
        };
        let mut any = false;
        for recordings in all.iter().filter_map(WeakRecordings::upgrade) {
            any |= recordings.release();
        }
        any
    }

    /// Bytes of the keys that are on the device.
    pub fn key_bytes(&self) -> u64 {
        self.keys().bytes()
    }

    /// The first failure of the device, after which every result is void.
    pub fn failure(&self) -> Option<&DeviceError> {
        self.inner.failure.get()
    }

    /// What `work` takes of the device, by kernel.
    ///
    /// # Errors
    /// The first failure of the device, whenever it was.
    pub fn timed<T>(&self, work: impl FnOnce() -> T) -> Result<(T, Vec<KernelTime>), DeviceError> {
        let device = self.inner.memory.device();
        self.settle()?;
        // What others left behind.
        device.times()?;
        device.take_times(true);
        let made = work();
        device.take_times(false);
        let times = device.times();
        self.settle()?;
        Ok((made, times.map_err(|error| self.note(error))?))
    }

    /// Waits for everything that was started.
    ///
    /// # Errors
    /// The first failure of the device, whenever it was.
    pub fn settle(&self) -> Result<(), DeviceError> {
        let result = self.inner.memory.device().synchronise();
        match self.failure() {
            Some(first) => Err(first.clone()),
            None => result.map_err(|error| self.note(error)),
        }
    }

    /// Brings a polynomial back.
    ///
    /// # Errors
    /// The first failure of the device, whenever it was.
    pub fn fetch(&self, poly: &GpuPoly) -> Result<RnsPoly, DeviceError> {
        let result = self.copied(poly);
        match (self.failure(), result) {
            (Some(first), _) => Err(first.clone()),
            (None, Ok(found)) => Ok(found),
            (None, Err(error)) => Err(self.note(error)),
        }
    }

    fn copied(&self, poly: &GpuPoly) -> Result<RnsPoly, DeviceError> {
        self.spoil_recording();
        let mut words = Words::scratch(poly.limbs.len() * poly.degree);
        let from = self.place(poly)?;
        // SAFETY: a polynomial's buffer holds all its words.
        unsafe { self.inner.memory.device().download(from, &mut words)? };
        let limbs = poly.limbs.to_vec();
        Ok(RnsPoly::from_parts(limbs, poly.form, poly.degree, words))
    }

    pub(super) fn ring_context(&self) -> &RingContext {
        self.inner.context.ring()
    }
    pub(super) fn is_fused(&self) -> bool {
        self.inner.fused
    }
    pub(crate) fn shared_limit(&self) -> u32 {
        self.inner.memory.device().shared_bytes()
    }
    pub(super) fn tables(&self) -> &Tables {
        &self.inner.tables
    }
    pub(super) fn keys(&self) -> &Keys {
        &self.inner.keys
    }

    /// Keeps a failure, if it is the first, and returns it.
    pub(super) fn note(&self, error: DeviceError) -> DeviceError {
        // A loss follows from another failure, which says more.
        if !matches!(error, DeviceError::Lost) {
            let _ = self.inner.failure.set(error.clone());
        }
        error
    }

    /// The result, or a polynomial that is lost.
    pub(super) fn or_lost(
        &self,
        result: Result<GpuPoly, DeviceError>,
        limbs: &[LimbId],
        form: Form,
    ) -> GpuPoly {
        result.unwrap_or_else(|error| {
            self.note(error);
            GpuPoly {
                buffer: None,
                offset: 0,
                limbs: limbs.into(),
                form,
                degree: self.ring_context().degree(),
                pending: None,
            }
        })
    }

    /// Changes a polynomial, which is lost if that fails.
    pub(super) fn change(
        &self,
        poly: &mut GpuPoly,
        change: impl FnOnce(&Self, &mut GpuPoly) -> Result<(), DeviceError>,
    ) {
        if let Err(error) = change(self, poly) {
            self.note(error);
            poly.buffer = None;
        }
    }

    /// Words of device memory with arbitrary contents, where a recording wants them if this thread makes one.
    pub(super) fn take(&self, words: usize) -> Result<Buffer, DeviceError> {
        let Some(taken) = self.recorded_take(words) else {
            return self.take_anywhere(words);
        };
        let buffer = match taken.place {
            Some((whole, first)) => Buffer::part(whole, first, words),
            None => self.take_anywhere(words)?,
        };
        Ok(buffer.follow(taken.followed))
    }

    /// Words of device memory. Recordings and then keys that are only kept for later make room.
    fn take_anywhere(&self, words: usize) -> Result<Buffer, DeviceError> {
        let memory = &self.inner.memory;
        let mut taken = memory.take(words);
        for release in [Self::release_recordings, |gpu: &Self| gpu.keys().forget()] {
            if matches!(taken, Err(DeviceError::Memory { .. })) && release(self) {
                taken = memory.take(words);
            }
        }
        taken.map_err(|error| self.note(error))
    }

    /// Words of device memory with these contents, which stay: no part of a recording.
    pub(super) fn filled(&self, words: &[u32]) -> Result<Buffer, DeviceError> {
        let buffer = self.take_anywhere(words.len())?;
        // SAFETY: the buffer is at least as long.
        unsafe { self.copy_to(words, buffer.address())? };
        Ok(buffer)
    }

    /// Copies words to the device.
    ///
    /// # Safety
    /// As [`Device::upload`].
    pub(super) unsafe fn copy_to(&self, words: &[u32], to: Address) -> Result<(), DeviceError> {
        if self.failure().is_some() {
            return Err(DeviceError::Lost);
        }
        // SAFETY: the caller's.
        let copied = unsafe { self.inner.memory.device().upload(words, to) };
        copied.map_err(|error| self.note(error))
    }

    /// A polynomial with arbitrary residues.
    pub(super) fn scratch(&self, limbs: &[LimbId], form: Form) -> Result<GpuPoly, DeviceError> {
        let degree = self.ring_context().degree();
        Ok(GpuPoly {
            buffer: Some(Arc::new(self.take(limbs.len() * degree)?)),
            offset: 0,
            limbs: limbs.into(),
            form,
            degree,
            pending: None,
        })
    }

    /// Makes residues from a polynomial's own: in place when it is their only holder, else elsewhere, leaving the others theirs.
    pub(super) fn update(
        &self,
        poly: &mut GpuPoly,
        launch: impl FnOnce(Address, Address) -> Result<(), DeviceError>,
    ) -> Result<(), DeviceError> {
        let from = self.place(poly)?;
        // Done by now.
        poly.pending = None;
        if poly.is_alone() {
            return launch(from, from);
        }
        let fresh = self.take(poly.limbs.len() * poly.degree)?;
        launch(from, fresh.address())?;
        poly.buffer = Some(Arc::new(fresh));
        poly.offset = 0;
        Ok(())
    }

    /// Starts a kernel, unless the device has failed before. `moves`: words that it reads and writes.
    ///
    /// # Safety
    /// As [`Device::launch`].
    pub(super) unsafe fn launch<A: Pod + Touches>(
        &self,
        kernel: &str,
        grid: [u32; 3],
        threads: u32,
        shared: u32,
        moves: usize,
        arguments: &A,
    ) -> Result<(), DeviceError> {
        if grid.contains(&0) {
            return Ok(());
        }
        if self.failure().is_some() {
            return Err(DeviceError::Lost);
        }
        let launch = Launch {
            kernel,
            grid,
            threads,
            shared,
            arguments: bytemuck::bytes_of(arguments),
            moves: 4 * moves as u64,
        };
        let started = limits::check(&launch, self.shared_limit()).and_then(|()| {
            if self.recorded_launch(&launch, || arguments.touched()) {
                return Ok(());
            }
            // SAFETY: the caller vouches for the arguments.
            unsafe { self.inner.memory.device().launch(&launch) }
        });
        started.map_err(|error| self.note(error))
    }
}
