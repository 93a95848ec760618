//! Inputs and outputs of a schedule as arrays.

use crate::failure::{Failure, Outcome};
use heron_compiler::npz::{Array, Arrays};
use heron_passes::witness::PREFIX;
use heron_runtime::exec::ports::{embedding_table, pack, unpack};
use heron_schedule::client::{result_shape, user_inputs, ClientGraph, Head};
use heron_schedule::params::ParameterSet;
use heron_schedule::proto::{Port, Program};
use heron_schedule::verify::port_elements;
use heron_schedule::Weights;
use std::collections::BTreeMap;

/// The inputs of a model: for each port, the values of each input.
pub struct InputSet {
    /// Number of inputs.
    pub count: usize,
    ports: Vec<Vec<Vec<f64>>>,
}

impl InputSet {
    /// Takes the first `limit` inputs of the arrays and computes what the client computes. Fails when an array is missing, of another
    /// shape, or the numbers differ.
    pub fn new(
        program: &Program,
        weights: &Weights,
        arrays: &Arrays,
        limit: Option<usize>,
    ) -> Outcome<InputSet> {
        let mut count = None;
        let mut given: Vec<(String, Vec<Vec<f64>>)> = Vec::new();
        for (name, shape) in user_inputs(program) {
            let known: Vec<&str> = arrays.0.keys().map(String::as_str).collect();
            let array = arrays.input(&name).ok_or_else(|| {
                Failure::new(
                    "mismatch",
                    format!(
                        "input `{name}`: no array of this name (or in_{name}); found: {}",
                        known.join(", ")
                    ),
                )
            })?;
            let values = entries(&name, &shape, array)?;
            let expected = *count.get_or_insert(values.len());
            if values.len() != expected {
                return Err(Failure::new(
                    "mismatch",
                    format!(
                        "input `{name}`: {} inputs, others have {expected}",
                        values.len()
                    ),
                ));
            }
            given.push((name, values));
        }
        let count = count.unwrap_or(0).min(limit.unwrap_or(usize::MAX));
        if count == 0 {
            return Err(Failure::new("shape", "no inputs; expected at least one"));
        }
        let client =
            ClientGraph::read(program, weights).map_err(|e| Failure::new("malformed", e))?;
        let mut ports = vec![Vec::with_capacity(count); program.inputs.len()];
        for i in 0..count {
            let mut all: BTreeMap<String, Vec<f64>> = given
                .iter_mut()
                .filter_map(|(name, values)| {
                    Some((name.clone(), std::mem::take(values.get_mut(i)?)))
                })
                .collect();
            client
                .extend(&mut all)
                .map_err(|e| Failure::new("range", format!("input number {i}: {e}")))?;
            for (port, values) in program.inputs.iter().zip(&mut ports) {
                values.push(all.get(&port.name).cloned().unwrap_or_default());
            }
        }
        Ok(InputSet { count, ports })
    }

    /// Numbers of the inputs of each run: consecutive, up to `batch`.
    pub fn runs(&self, batch: u32) -> Vec<std::ops::Range<usize>> {
        let batch = batch.max(1) as usize;
        (0..self.count)
            .step_by(batch)
            .map(|start| start..(start + batch).min(self.count))
            .collect()
    }

    /// One input as the user gives it: numbers by input name, without batch axis.
    pub fn user(&self, program: &Program, number: usize) -> BTreeMap<String, Vec<f64>> {
        let ports = program.inputs.iter().zip(&self.ports);
        ports
            .filter_map(|(port, values)| Some((port.name.clone(), values.get(number)?.clone())))
            .collect()
    }

    /// Slot vectors of every input port for these inputs.
    pub fn pack(
        &self,
        program: &Program,
        weights: &Weights,
        params: &ParameterSet,
        range: std::ops::Range<usize>,
    ) -> Outcome<Vec<Vec<Vec<f64>>>> {
        let mut packed = Vec::new();
        for (port, values) in program.inputs.iter().zip(&self.ports) {
            let table = embedding_table(port, program, weights)?;
            let lanes: Vec<&[f64]> = values
                .get(range.clone())
                .unwrap_or(&[])
                .iter()
                .map(Vec::as_slice)
                .collect();
            let batch = program.batch.max(1) as usize;
            packed.push(pack(port, table.as_deref(), batch, params.slots(), &lanes)?);
        }
        Ok(packed)
    }
}

fn entries(name: &str, shape: &[u32], array: &Array) -> Outcome<Vec<Vec<f64>>> {
    let shape: Vec<usize> = shape.iter().map(|&d| d as usize).collect();
    let size: usize = shape.iter().product();
    let count = if array.shape.get(1..) == Some(&shape) && !array.shape.is_empty() {
        array.batch()
    } else if array.shape == shape {
        1
    } else {
        let dims: Vec<String> = shape.iter().map(usize::to_string).collect();
        return Err(Failure::new(
            "shape",
            format!(
                "input `{name}`: expected [n, {}], found {:?}; save inputs with the batch as leading axis",
                dims.join(", "),
                array.shape
            ),
        ));
    };
    let parts = array.data.chunks_exact(size.max(1)).take(count);
    Ok(parts.map(<[f64]>::to_vec).collect())
}

/// Results of a model: for each output port, the values of each input.
#[derive(Clone, Default)]
pub struct OutputSet {
    /// By port, then input.
    pub ports: Vec<Vec<Vec<f64>>>,
}

impl OutputSet {
    /// No results yet.
    pub fn new(program: &Program) -> OutputSet {
        OutputSet {
            ports: program.outputs.iter().map(|_| Vec::new()).collect(),
        }
    }

    /// Appends the first `count` lanes of decrypted slots.
    pub fn extend(&mut self, program: &Program, slots: &[Vec<Vec<f64>>], count: usize) -> Outcome {
        let ports = program.outputs.iter().zip(slots).zip(&mut self.ports);
        for ((port, slots), values) in ports {
            values.extend(unpack(port, program.batch.max(1) as usize, slots, count)?);
        }
        Ok(())
    }

    /// Computes what is left to the client: results of ports with a head become those of the model.
    pub fn apply_heads(&mut self, program: &Program, weights: &Weights) -> Outcome {
        for (port, inputs) in program.outputs.iter().zip(&mut self.ports) {
            let head = Head::read(port, program, weights);
            let head = head.map_err(|e| Failure::new("malformed", e))?;
            for values in inputs.iter_mut().filter(|_| head.is_some()) {
                let found = head.as_ref().and_then(|h| h.apply(values));
                *values = found.ok_or_else(|| {
                    let message = format!("output `{}` does not fit its head", port.name);
                    Failure::new("malformed", message)
                })?;
            }
        }
        Ok(())
    }

    /// As arrays under the outputs' names, the inputs along the leading axis.
    pub fn to_arrays(&self, program: &Program) -> Arrays {
        let mut arrays = Arrays::default();
        let ports = program.outputs.iter().zip(&self.ports);
        for (port, values) in ports.filter(|(port, _)| !is_witness(port)) {
            let mut shape = vec![values.len()];
            shape.extend(result_shape(port).iter().map(|&d| d as usize));
            let array = Array {
                shape,
                data: values.concat(),
                integer: false,
            };
            arrays.0.insert(port.name.clone(), array);
        }
        arrays
    }

    /// Expected results from a file: the outputs' names, or `out_NAME`. `last`: results of more positions than the program has are those
    /// of the whole model, of which the last counts.
    pub fn expected(
        program: &Program,
        arrays: &Arrays,
        count: usize,
        last: bool,
    ) -> Outcome<OutputSet> {
        let mut ports = Vec::new();
        for port in &program.outputs {
            if is_witness(port) {
                ports.push(Vec::new());
                continue;
            }
            let name = &port.name;
            let array = arrays
                .0
                .get(name)
                .or_else(|| arrays.0.get(&format!("out_{name}")))
                .or_else(|| arrays.0.get(""))
                .ok_or_else(|| {
                    Failure::new("mismatch", format!("no array `{name}` (or out_{name})"))
                })?;
            let size: usize = result_shape(port).iter().map(|&d| d as usize).product();
            let positions = match array.shape[..] {
                [_, positions, features] if last && size == features => positions,
                _ => 1,
            };
            let values: Vec<Vec<f64>> = array
                .data
                .chunks_exact((positions * size).max(1))
                .take(count)
                .map(|one| one[one.len() - size..].to_vec())
                .collect();
            if array.data.len() != array.batch() * positions * size || values.len() < count {
                return Err(Failure::new(
                    "shape",
                    format!(
                        "expected output `{name}`: {count} results of shape {:?} needed, found {:?}",
                        result_shape(port),
                        array.shape
                    ),
                ));
            }
            ports.push(values);
        }
        Ok(OutputSet { ports })
    }

    /// What heads left to the client read, from a file that tells: arrays `hidden_NAME` for outputs NAME. `None` where it holds none, or
    /// others than the program decrypts.
    pub fn expected_hidden(program: &Program, arrays: &Arrays, count: usize) -> Option<OutputSet> {
        let one = |port: &Port| {
            let Some(array) = arrays.0.get(&format!("hidden_{}", port.name)) else {
                return Some(Vec::new());
            };
            let size = port_elements(port) as usize;
            let inputs = array.data.chunks_exact(size.max(1));
            let fits = array.data.len() == array.batch() * size && inputs.len() >= count;
            (fits && port.head.is_some()).then(|| inputs.take(count).map(<[f64]>::to_vec).collect())
        };
        let ports: Option<Vec<Vec<Vec<f64>>>> = program.outputs.iter().map(one).collect();
        let found = OutputSet { ports: ports? };
        (!found.ports.iter().all(Vec::is_empty)).then_some(found)
    }
}

/// Whether the output is there to check ranges by, and no result of the model.
pub fn is_witness(port: &Port) -> bool {
    port.name.starts_with(PREFIX)
}

/// Arguments of approximations that left the interval they were fitted on: for each input the name and how many times its half-width
/// the worst of them was from its middle.
pub fn left_intervals(program: &Program, found: &OutputSet) -> BTreeMap<usize, (String, f64)> {
    let mut left: BTreeMap<usize, (String, f64)> = BTreeMap::new();
    let ports = program.outputs.iter().zip(&found.ports);
    for (port, inputs) in ports.filter(|(port, _)| is_witness(port)) {
        for (input, values) in inputs.iter().enumerate() {
            let size = |x: &f64| if x.is_nan() { f64::INFINITY } else { x.abs() };
            let worst = values.iter().map(size).fold(0.0, f64::max);
            if worst > WITNESS_BORDER && left.get(&input).is_none_or(|(_, w)| worst > *w) {
                let name = port.name.strip_prefix(PREFIX).unwrap_or(&port.name);
                left.insert(input, (name.into(), worst));
            }
        }
    }
    left
}

/// What to say of an input that left an interval.
pub fn left_interval_warning(input: usize, name: &str, worst: f64) -> String {
    format!(
        "warning: input {input} left an interval that an approximation was fitted on (`{name}`: {worst:.3} half-widths from its middle, at most \
         1 expected): do not trust this result; calibrate with inputs like it"
    )
}

/// Noise may carry an argument at the end of its interval over it.
const WITNESS_BORDER: f64 = 1.0 + 1.0 / 1024.0;

/// How far results are from the reference.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Accuracy {
    /// Largest difference.
    pub max_abs: f64,
    /// Mean difference.
    pub mean_abs: f64,
    /// Largest difference over the standard deviation of the reference.
    pub relative: f64,
    /// Largest difference over the root mean square of the reference.
    pub over_rms: f64,
    /// Share of inputs whose arg-max, along the last axis and at the last position, is the reference's (first output).
    pub top1_agreement: f64,
}

/// Position of the largest of the last `width` values; the first of equals.
pub fn arg_max(values: &[f64], width: usize) -> usize {
    let start = values.len().saturating_sub(width);
    let row = values.get(start..).unwrap_or(&[]);
    let mut best = 0;
    for (i, v) in row.iter().enumerate() {
        if row.get(best).is_some_and(|b| v > b) {
            best = i;
        }
    }
    best
}

/// Width of the last axis of an output.
pub fn width(port: &Port) -> usize {
    result_shape(port).last().map_or(1, |&d| d as usize)
}

impl Accuracy {
    /// Compares all outputs of all inputs.
    pub fn new(program: &Program, found: &OutputSet, reference: &OutputSet) -> Accuracy {
        let (mut max, mut sum, mut n) = (0.0f64, 0.0, 0usize);
        let (mut mean, mut square) = (0.0, 0.0);
        let pairs = found
            .ports
            .iter()
            .flatten()
            .zip(reference.ports.iter().flatten());
        for (f, r) in pairs.flat_map(|(f, r)| f.iter().zip(r)) {
            let difference = (f - r).abs();
            // A NaN counts as infinitely far.
            max = if difference.is_nan() {
                f64::INFINITY
            } else {
                max.max(difference)
            };
            sum += difference;
            mean += r;
            square += r * r;
            n += 1;
        }
        let n = n.max(1) as f64;
        let deviation = (square / n - (mean / n).powi(2)).max(0.0).sqrt();
        let width = program.outputs.first().map_or(1, width);
        let agree = match (found.ports.first(), reference.ports.first()) {
            (Some(f), Some(r)) => {
                let same = f
                    .iter()
                    .zip(r)
                    .filter(|(f, r)| arg_max(f, width) == arg_max(r, width));
                same.count() as f64 / f.len().max(1) as f64
            }
            _ => 0.0,
        };
        Accuracy {
            max_abs: max,
            mean_abs: sum / n,
            relative: max / deviation.max(f64::MIN_POSITIVE),
            over_rms: max / (square / n).sqrt().max(f64::MIN_POSITIVE),
            top1_agreement: agree,
        }
    }
}
