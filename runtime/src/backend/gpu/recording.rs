//! Work that is done again and again: started one launch after the other the first time, recorded the second time with all its memory at fixed
//! places, and from then on started as a whole. Launches that do not touch the same memory may then run side by side.

use super::core::Gpu;
use super::device::{DeviceError, Launch, RecordingId, Step};
use super::memory::{Buffer, Memory};
use super::offsets::{offsets, Life};
use super::order::{dependencies, Footprint};
use super::poly::GpuPoly;
use super::touches::Touched;
use crate::rlwe::RlweError;
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::ThreadId;

/// What is kept of work, by what decides all that it does.
#[derive(Clone, Default)]
pub struct Recordings(Arc<Mutex<BTreeMap<Vec<u64>, Kept>>>);

enum Kept {
    /// Done once: the buffers it took.
    Known(Vec<Life>),
    Recorded(Arc<Recorded>),
    /// It did not do the same again, or there is no memory for it.
    Unfit,
}

/// Launches that can be started together, and everything they need.
struct Recorded {
    id: RecordingId,
    memory: Arc<Memory>,
    /// Where inputs have to be, and where outputs are afterwards.
    inputs: Vec<GpuPoly>,
    outputs: Vec<GpuPoly>,
    _slab: Arc<Buffer>,
    _keys: Vec<Arc<Buffer>>,
}

impl Drop for Recorded {
    fn drop(&mut self) {
        self.memory.device().forget(self.id);
    }
}

impl Recordings {
    /// Gives up everything recorded. Whether there was anything.
    pub(super) fn release(&self) -> bool {
        let Ok(mut kept) = self.0.lock() else {
            return false;
        };
        let mut any = false;
        for kept in kept.values_mut() {
            if matches!(kept, Kept::Recorded(_)) {
                (*kept, any) = (Kept::Unfit, true);
            }
        }
        any
    }

    pub(super) fn downgrade(&self) -> WeakRecordings {
        WeakRecordings(Arc::downgrade(&self.0))
    }
}

/// [`Recordings`] of somebody who may be gone.
pub(super) struct WeakRecordings(std::sync::Weak<Mutex<BTreeMap<Vec<u64>, Kept>>>);

impl WeakRecordings {
    pub(super) fn upgrade(&self) -> Option<Recordings> {
        self.0.upgrade().map(Recordings)
    }
}

/// A launch that was not started.
struct Written {
    kernel: String,
    grid: [u32; 3],
    threads: u32,
    shared: u32,
    arguments: Vec<u8>,
    moves: u64,
    footprint: Footprint,
}

/// What a thread does meanwhile.
pub(super) struct Recorder {
    thread: ThreadId,
    /// What no other recorder of the device has.
    serial: u64,
    /// Buffers so far, and what is a moment: their number and that of those given back.
    lives: Vec<Life>,
    moment: usize,
    /// None while nothing is recorded, but buffers are only counted.
    planned: Option<Planned>,
    /// Something that would not be the same again.
    unfit: bool,
}

struct Planned {
    slab: Arc<Buffer>,
    known: Vec<Life>,
    places: Vec<usize>,
    launches: Vec<Written>,
    /// Live buffers, and those that are always there, by first byte.
    live: Vec<Range<u64>>,
    keys: Vec<Arc<Buffer>>,
}

/// A buffer whose life a recorder follows.
pub(super) struct Followed {
    recorder: Arc<Mutex<Option<Recorder>>>,
    serial: u64,
    number: usize,
}

impl Drop for Followed {
    fn drop(&mut self) {
        if let Ok(mut recorder) = self.recorder.lock() {
            if let Some(recorder) = recorder.as_mut().filter(|r| r.serial == self.serial) {
                recorder.given_back(self.number);
            }
        }
    }
}

impl Recorder {
    fn new(planned: Option<Planned>) -> Recorder {
        static SERIAL: AtomicU64 = AtomicU64::new(0);
        Recorder {
            serial: SERIAL.fetch_add(1, Ordering::Relaxed),
            thread: std::thread::current().id(),
            lives: Vec::new(),
            moment: 0,
            planned,
            unfit: false,
        }
    }

    fn given_back(&mut self, number: usize) {
        self.moment += 1;
        let Some(life) = self.lives.get_mut(number) else {
            return;
        };
        life.moments.end = self.moment;
        if let Some(planned) = &mut self.planned {
            let start = planned.address(number);
            planned.live.retain(|range| range.start != start);
        }
    }

    /// The next buffer's number and, if it has one, its place.
    fn take(&mut self, words: usize) -> Option<(usize, Option<Place>)> {
        let number = self.lives.len();
        self.moment += 1;
        let place = match &mut self.planned {
            None => None,
            Some(planned) => {
                if planned.known.get(number).map(|life| life.words) != Some(words) {
                    self.unfit = true;
                    return None;
                }
                let start = planned.address(number);
                let range = start..start + 4 * words as u64;
                let at = planned.live.partition_point(|r| r.start < start);
                planned.live.insert(at, range);
                Some((Arc::clone(&planned.slab), planned.places[number]))
            }
        };
        self.lives.push(Life {
            words,
            moments: self.moment..usize::MAX,
        });
        Some((number, place))
    }
}

impl Planned {
    fn address(&self, number: usize) -> u64 {
        self.slab.address().plus(self.places[number]).0
    }
}

/// The run of memory that holds a buffer, and its first word there.
type Place = (Arc<Buffer>, usize);

/// A buffer as a recorder wants it.
pub(super) struct Taken {
    pub followed: Followed,
    /// None where it is to be any buffer.
    pub place: Option<Place>,
}

impl Gpu {
    /// Where this thread's next buffer is to be, if it is recording.
    pub(super) fn recorded_take(&self, words: usize) -> Option<Taken> {
        let mut recorder = self.recorder().lock().ok()?;
        let recorder = recorder.as_mut().filter(is_mine)?;
        let (number, place) = recorder.take(words)?;
        Some(Taken {
            followed: Followed {
                recorder: Arc::clone(self.recorder()),
                serial: recorder.serial,
                number,
            },
            place,
        })
    }

    /// Writes a launch down if this thread is recording; it is not to be started then.
    pub(super) fn recorded_launch(
        &self,
        launch: &Launch<'_>,
        touched: impl FnOnce() -> Touched,
    ) -> bool {
        let Ok(mut recorder) = self.recorder().lock() else {
            return false;
        };
        let planned = recorder.as_mut().filter(is_mine);
        let Some(planned) = planned.and_then(|r| r.planned.as_mut()) else {
            return false;
        };
        planned.launches.push(Written {
            kernel: launch.kernel.into(),
            grid: launch.grid,
            threads: launch.threads,
            shared: launch.shared,
            arguments: launch.arguments.to_vec(),
            moves: launch.moves,
            footprint: Footprint::new(&touched(), &planned.live),
        });
        true
    }

    /// Holds what a recorded launch needs besides its polynomials.
    pub(super) fn hold_for_recording(&self, key: &Arc<Buffer>) {
        if let Ok(mut recorder) = self.recorder().lock() {
            if let Some(planned) = recorder
                .as_mut()
                .filter(is_mine)
                .and_then(|r| r.planned.as_mut())
            {
                planned.keys.push(Arc::clone(key));
            }
        }
    }

    /// This thread does something that a recording cannot do again.
    pub(super) fn spoil_recording(&self) {
        if let Ok(mut recorder) = self.recorder().lock() {
            if let Some(recorder) = recorder.as_mut().filter(is_mine) {
                recorder.unfit = true;
            }
        }
    }

    /// See [`crate::backend::Backend::repeat`].
    pub(super) fn repeated<E: From<RlweError>>(
        &self,
        recordings: &Recordings,
        mut key: Vec<u64>,
        inputs: Vec<GpuPoly>,
        work: &mut dyn FnMut(Vec<GpuPoly>) -> Result<Vec<GpuPoly>, E>,
    ) -> Result<Vec<GpuPoly>, E> {
        if !self.records() {
            return work(inputs);
        }
        // A rehearsal shares what is prepared with the device itself: what is recorded on one is nothing to the other.
        key.push(self.serial());
        let known = {
            let Ok(mut kept) = recordings.0.lock() else {
                return work(inputs);
            };
            match kept.get(&key) {
                Some(Kept::Unfit) => return work(inputs),
                Some(Kept::Recorded(recorded)) => {
                    let recorded = Arc::clone(recorded);
                    drop(kept);
                    return Ok(self.started(&recorded, &inputs).map_err(RlweError::from)?);
                }
                Some(Kept::Known(lives)) => Some(lives.clone()),
                None => {
                    kept.insert(key.clone(), Kept::Unfit);
                    None
                }
            }
        };
        let Some(known) = known else {
            // The inputs are held by somebody else, as those of a recording are.
            let given = inputs.clone();
            let (made, recorder) = self.while_recording(Recorder::new(None), || work(given));
            let made = made?;
            self.keep(
                recordings,
                key,
                recorder.filter(|r| !r.unfit).map(|r| Kept::Known(r.lives)),
            );
            return Ok(made);
        };
        match self.recorded(known, &inputs, work)? {
            Some(recorded) => {
                let recorded = Arc::new(recorded);
                self.know(recordings);
                self.keep(recordings, key, Some(Kept::Recorded(Arc::clone(&recorded))));
                Ok(self.started(&recorded, &inputs).map_err(RlweError::from)?)
            }
            None => {
                self.keep(recordings, key, None);
                work(inputs)
            }
        }
    }

    fn keep(&self, recordings: &Recordings, key: Vec<u64>, kept: Option<Kept>) {
        if let Ok(mut all) = recordings.0.lock() {
            all.insert(key, kept.unwrap_or(Kept::Unfit));
        }
    }

    /// Does the work with a recorder for this thread; none if another is at it.
    fn while_recording<T>(
        &self,
        recorder: Recorder,
        work: impl FnOnce() -> T,
    ) -> (T, Option<Recorder>) {
        let begun = match self.recorder().lock() {
            Ok(mut place) if place.is_none() => {
                *place = Some(recorder);
                true
            }
            _ => false,
        };
        let made = work();
        let recorder = match (begun, self.recorder().lock()) {
            (true, Ok(mut place)) => place.take(),
            _ => None,
        };
        (made, recorder)
    }

    /// Records the work. None where it does not do what it did before, or where there is no memory for it.
    fn recorded<E: From<RlweError>>(
        &self,
        known: Vec<Life>,
        inputs: &[GpuPoly],
        work: &mut dyn FnMut(Vec<GpuPoly>) -> Result<Vec<GpuPoly>, E>,
    ) -> Result<Option<Recorded>, E> {
        let (places, words) = offsets(&known);
        let memory = self.memory();
        let places_for_inputs = || -> Result<(Buffer, Vec<GpuPoly>), DeviceError> {
            let slab = memory.take(words.max(1))?;
            let each = inputs.iter().map(|input| self.place_like(input, memory));
            Ok((slab, each.collect::<Result<_, _>>()?))
        };
        let Ok((slab, fixed)) = places_for_inputs() else {
            return Ok(None);
        };
        let slab = Arc::new(slab);
        let mut live = Vec::new();
        for input in &fixed {
            if let Some(buffer) = &input.buffer {
                let start = buffer.address().0;
                live.push(start..start + buffer.bytes());
            }
        }
        live.sort_by_key(|range| range.start);
        let planned = Planned {
            slab: Arc::clone(&slab),
            known,
            places,
            launches: Vec::new(),
            live,
            keys: Vec::new(),
        };
        let recorder = Recorder::new(Some(planned));
        let (made, recorder) = self.while_recording(recorder, || {
            let made = work(fixed.clone())?;
            // What is still pending of the results belongs to the recording.
            for poly in &made {
                self.place(poly).map_err(RlweError::from)?;
            }
            Ok::<_, E>(made)
        });
        let outputs = made?;
        let Some(Recorder {
            lives,
            planned: Some(planned),
            unfit: false,
            ..
        }) = recorder
        else {
            return Ok(None);
        };
        if lives != planned.known {
            return Ok(None);
        }
        let footprints: Vec<Footprint> = planned
            .launches
            .iter()
            .map(|l| l.footprint.clone())
            .collect();
        let after = dependencies(&footprints);
        let steps = planned
            .launches
            .iter()
            .zip(&after)
            .map(|(written, after)| Step {
                launch: Launch {
                    kernel: &written.kernel,
                    grid: written.grid,
                    threads: written.threads,
                    shared: written.shared,
                    arguments: &written.arguments,
                    moves: written.moves,
                },
                after,
            });
        // SAFETY: the arguments are those of launches that were to be started, and what they name is held.
        let id = unsafe { memory.device().record(&steps.collect::<Vec<_>>()) };
        // A device that cannot record can still run.
        Ok(id.ok().map(|id| Recorded {
            id,
            memory: Arc::clone(memory),
            inputs: fixed,
            outputs,
            _slab: slab,
            _keys: planned.keys,
        }))
    }

    fn place_like(&self, poly: &GpuPoly, memory: &Arc<Memory>) -> Result<GpuPoly, DeviceError> {
        Ok(GpuPoly {
            buffer: Some(Arc::new(memory.take(poly.limbs.len() * poly.degree)?)),
            offset: 0,
            limbs: Arc::clone(&poly.limbs),
            form: poly.form,
            degree: poly.degree,
            pending: None,
        })
    }

    /// Starts what was recorded, with these inputs.
    fn started(
        &self,
        recorded: &Recorded,
        inputs: &[GpuPoly],
    ) -> Result<Vec<GpuPoly>, DeviceError> {
        let like =
            |a: &GpuPoly, b: &GpuPoly| (&a.limbs, a.form, a.degree) == (&b.limbs, b.form, b.degree);
        let fits = inputs.len() == recorded.inputs.len();
        if !fits || !inputs.iter().zip(&recorded.inputs).all(|(a, b)| like(a, b)) {
            return Err(self.note(DeviceError::Driver {
                call: "a recording",
                what: "other inputs than those that were recorded".into(),
            }));
        }
        for (from, to) in inputs.iter().zip(&recorded.inputs) {
            self.copy_into(to, from)?;
        }
        if self.failure().is_some() {
            return Err(DeviceError::Lost);
        }
        // SAFETY: the recording holds everything it needs.
        let started = unsafe { self.memory().device().replay(recorded.id) };
        started.map_err(|error| self.note(error))?;
        let each = recorded.outputs.iter().map(|output| {
            let own = self.scratch(&output.limbs, output.form)?;
            self.copy_into(&own, output)?;
            Ok(own)
        });
        each.collect()
    }
}

/// Whether a recorder belongs to the thread that asks.
fn is_mine(recorder: &&mut Recorder) -> bool {
    recorder.thread == std::thread::current().id()
}
