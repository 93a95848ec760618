//! `clear`: the schedule on plain slot vectors, with noise as [`NoiseModel`] predicts it. No keys; the server's program, instruction by
//! instruction. The same seed gives the same output on any number of threads.

use super::noise::{NoiseModel, NoiseStream};
use super::{ExecError, Executor};
use heron_schedule::body::giants;
use heron_schedule::folding::{conjugations, term_rotations};
use heron_schedule::keys::normal_step;
use heron_schedule::params::Level;
use heron_schedule::proto::{Bootstrap, Combine, Input, Linear, MulSum, Output, Rotate};
use heron_schedule::Schedule;
use rayon::prelude::*;
use std::collections::BTreeMap;

/// A ciphertext in the clear: the values of its slots.
pub type Slots = Vec<f64>;

/// A value beyond [-1, 1] that met a bootstrap.
#[derive(Clone, Debug, PartialEq)]
pub struct RangeFlag {
    /// The instruction.
    pub instruction: usize,
    /// Its layer.
    pub layer: u32,
    /// The batch lane the value is in.
    pub lane: usize,
    /// The largest size found in that lane.
    pub worst: f64,
}

/// Values up to this size count as within [-1, 1]: noise may carry a value at the border over it.
const BORDER: f64 = 1.0 + 1.0 / 1024.0;

/// Runs a schedule on plain vectors.
pub struct Clear<'a> {
    schedule: &'a Schedule,
    noise: Option<NoiseModel>,
    seed: u64,
    inputs: Vec<Vec<Slots>>,
    outputs: Vec<Vec<Slots>>,
    flags: Vec<RangeFlag>,
    position: (usize, u32),
}

impl<'a> Clear<'a> {
    /// `inputs`: for each input port the slot vectors of its ciphertexts. `seed`: `None` runs without noise.
    pub fn new(
        schedule: &'a Schedule,
        inputs: Vec<Vec<Slots>>,
        seed: Option<u64>,
    ) -> Result<Clear<'a>, ExecError> {
        let slots = schedule.params().slots();
        let ports = &schedule.program().inputs;
        let fits = ports.len() == inputs.len()
            && ports.iter().zip(&inputs).all(|(port, given)| {
                port.ciphertexts.len() == given.len() && given.iter().all(|v| v.len() == slots)
            });
        if !fits {
            return Err(ExecError::Inputs(format!(
                "slot vectors for {} ports of {slots} slots expected",
                ports.len()
            )));
        }
        let outputs = schedule.program().outputs.iter();
        Ok(Clear {
            schedule,
            noise: seed.map(|_| NoiseModel::new(schedule.params())),
            seed: seed.unwrap_or(0),
            inputs,
            outputs: outputs
                .map(|p| vec![Slots::new(); p.ciphertexts.len()])
                .collect(),
            flags: Vec::new(),
            position: (0, 0),
        })
    }

    /// The slot vectors of each output port, after a walk.
    pub fn into_outputs(self) -> (Vec<Vec<Slots>>, Vec<RangeFlag>) {
        (self.outputs, self.flags)
    }

    fn stream(&self, result: usize) -> NoiseStream {
        NoiseStream::new(self.seed, self.position.0 as u64, result as u64)
    }

    fn deviation(
        &self,
        of: impl FnOnce(&NoiseModel) -> Result<f64, heron_schedule::params::ParameterError>,
    ) -> Result<f64, ExecError> {
        Ok(self.noise.as_ref().map_or(Ok(0.0), of)?)
    }

    fn slots(&self) -> usize {
        self.schedule.params().slots()
    }

    fn batch(&self) -> usize {
        self.schedule.program().batch.max(1) as usize
    }
}

fn level(level: u32) -> Level {
    Level(u8::try_from(level).unwrap_or(u8::MAX))
}

/// out\[i\] = x\[i + step\], cyclic.
fn rotated(x: &[f64], step: i32) -> Slots {
    let mut out = x.to_vec();
    out.rotate_left(normal_step(step, x.len()) as usize);
    out
}

/// acc\[v·batch + b\] += vector\[v\] · x\[v·batch + b\], the vector repeating.
fn multiply_add(acc: &mut [f64], vector: &[f64], x: &[f64], batch: usize) {
    if batch == 1 && vector.len() >= 8 {
        // Period by period, as one loop without a wrap.
        let periods = acc.chunks_mut(vector.len()).zip(x.chunks(vector.len()));
        for (acc, x) in periods {
            let rows = acc.iter_mut().zip(x).zip(vector);
            rows.for_each(|((a, x), p)| *a += p * x);
        }
        return;
    }
    let rows = acc.chunks_exact_mut(batch).zip(x.chunks_exact(batch));
    for ((a, x), p) in rows.zip(vector.iter().cycle()) {
        for (a, x) in a.iter_mut().zip(x) {
            *a += p * x;
        }
    }
}

fn add_bias(acc: &mut [f64], vector: &[f64], batch: usize) {
    for (row, p) in acc.chunks_exact_mut(batch).zip(vector.iter().cycle()) {
        row.iter_mut().for_each(|a| *a += p);
    }
}

impl Executor for Clear<'_> {
    type Ct = Slots;

    fn begin(&mut self, index: usize, layer: u32) {
        self.position = (index, layer);
    }

    fn input(&mut self, op: &Input) -> Result<Slots, ExecError> {
        let found = self.inputs.get(op.port as usize);
        let found = found.and_then(|p| p.get(op.ciphertext as usize)).cloned();
        let mut values = found.ok_or_else(|| ExecError::Inputs("no such ciphertext".into()))?;
        let deviation = self.deviation(|n| n.fresh(level(op.level)))?;
        self.stream(0).add(&mut values, deviation);
        Ok(values)
    }

    fn output(&mut self, op: &Output, source: &Slots) -> Result<(), ExecError> {
        let place = self.outputs.get_mut(op.port as usize);
        let place = place.and_then(|p| p.get_mut(op.ciphertext as usize));
        *place.ok_or_else(|| ExecError::Inputs("no such output".into()))? = source.clone();
        Ok(())
    }

    fn linear(&mut self, op: &Linear, sources: &[&Slots]) -> Result<Vec<Slots>, ExecError> {
        let (slots, batch) = (self.slots(), self.batch());
        let switch = self.deviation(|n| n.key_switch(level(op.level_in)))?;
        let below = level(op.level_in.saturating_sub(1));
        let rescale = self.deviation(|n| n.rescale(below))?;
        let conjugation = match conjugations(op) {
            0 => 0.0,
            _ => self.deviation(|n| n.key_switch(below))?,
        };
        let bodies = &self.schedule.program().bodies;
        let steps = term_rotations(bodies, op, slots);
        let steps: Vec<(u32, i32)> = steps.into_iter().collect();
        let babies: BTreeMap<(u32, i32), Slots> = steps
            .par_iter()
            .enumerate()
            .filter_map(|(number, &(src, step))| {
                let mut x = rotated(sources.get(src as usize)?, step);
                self.stream(1 << 20 | number).add(&mut x, switch);
                Some(((src, step), x))
            })
            .collect();
        op.out
            .par_iter()
            .enumerate()
            .map(|(number, out)| {
                let mut total = vec![0.0; slots];
                for giant in giants(bodies, out) {
                    let mut inner = vec![0.0; slots];
                    for term in &giant.term {
                        let step = normal_step(term.baby, slots);
                        let x = match step {
                            0 => sources.get(term.src as usize).copied(),
                            _ => babies.get(&(term.src, step)),
                        };
                        let x = x.ok_or_else(|| ExecError::Inputs("no such source".into()))?;
                        let vector = self.schedule.factors(out.matrix, term.plaintext)?;
                        multiply_add(&mut inner, &vector, x, batch);
                    }
                    let turned = rotated(&inner, giant.step);
                    total.iter_mut().zip(&turned).for_each(|(t, x)| *t += x);
                }
                if let Some(bias) = &out.bias {
                    add_bias(&mut total, &self.schedule.vector(bias.plaintext)?, batch);
                }
                self.stream(number)
                    .add(&mut total, rescale.hypot(conjugation));
                Ok(total)
            })
            .collect()
    }

    fn combine(&mut self, op: &Combine, sources: &[&Slots]) -> Result<Slots, ExecError> {
        let mut total = vec![op.constant; self.slots()];
        let rescale = self.deviation(|n| n.rescale(level(op.level_out)))?;
        let mut stream = self.stream(0);
        for (term, source) in op.term.iter().zip(sources) {
            let pairs = total.iter_mut().zip(source.iter());
            pairs.for_each(|(t, x)| *t += term.coefficient * x);
            if term.level > op.level_out {
                stream.add(&mut total, rescale);
            }
        }
        if let Some(bias) = &op.bias {
            add_bias(
                &mut total,
                &self.schedule.vector(bias.plaintext)?,
                self.batch(),
            );
        }
        Ok(total)
    }

    fn mul_sum(&mut self, op: &MulSum, pairs: &[(&Slots, &Slots)]) -> Result<Slots, ExecError> {
        let mut total = vec![0.0; self.slots()];
        for (a, b) in pairs {
            let products = total.iter_mut().zip(a.iter().zip(b.iter()));
            products.for_each(|(t, (a, b))| *t += a * b);
        }
        for t in &mut total {
            *t = f64::from(op.factor) * *t + op.constant;
        }
        let rescale = self.deviation(|n| n.rescale(level(op.level_in.saturating_sub(1))))?;
        self.stream(0).add(&mut total, rescale);
        Ok(total)
    }

    fn rotate(&mut self, op: &Rotate, source: &Slots) -> Result<Vec<Slots>, ExecError> {
        let deviation = self.deviation(|n| n.key_switch(level(op.level)))?;
        let slots = self.slots();
        Ok(op
            .out
            .iter()
            .enumerate()
            .map(|(number, out)| {
                let mut x = rotated(source, out.step);
                if normal_step(out.step, slots) != 0 {
                    self.stream(number).add(&mut x, deviation);
                }
                x
            })
            .collect())
    }

    fn bootstrap(&mut self, op: &Bootstrap, sources: &[&Slots]) -> Result<Vec<Slots>, ExecError> {
        let batch = self.batch();
        let wrap = NoiseModel::new(self.schedule.params()).bootstrap_wrap()?;
        let deviation = self.deviation(|n| Ok(n.bootstrap()))?;
        let period = match op.kind() {
            heron_schedule::proto::bootstrap::Kind::Sparse => 1usize << op.log_slots.min(30),
            _ => self.slots(),
        };
        let mut results = Vec::with_capacity(sources.len());
        for (number, source) in sources.iter().enumerate() {
            let mut worst = vec![0.0f64; batch];
            for row in source.chunks_exact(batch) {
                for (w, x) in worst.iter_mut().zip(row) {
                    *w = w.max(x.abs());
                }
            }
            let (instruction, layer) = self.position;
            let beyond = worst.iter().enumerate().filter(|(_, w)| **w > BORDER);
            self.flags.extend(beyond.map(|(lane, &worst)| RangeFlag {
                instruction,
                layer,
                lane,
                worst,
            }));
            // A sparse bootstrap averages over the copies: what does not repeat with the period is lost.
            let copies = (source.len() / period.max(1)).max(1);
            let mut head = vec![0.0; source.len() / copies];
            for part in source.chunks_exact(head.len().max(1)) {
                head.iter_mut().zip(part).for_each(|(h, x)| *h += x);
            }
            for h in &mut head {
                *h /= copies as f64;
                // Reduction modulo q0, centred: exact for all that fits, but for the sine.
                *h -= 2.0 * wrap * (*h / (2.0 * wrap)).round();
                if let Some(model) = &self.noise {
                    *h = model.bootstrapped(*h)?;
                }
            }
            self.stream(number).add(&mut head, deviation);
            results.push(head.repeat(copies));
        }
        Ok(results)
    }
}
