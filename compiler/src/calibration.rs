//! Calibration sets: from a file, beside the model, or synthetic.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::npz::{self, Arrays, NpzError};
use crate::onnx::InputSpec;

/// One input of the batch: per graph input its numbers, row-major, without batch axis.
pub type UserInput = BTreeMap<String, Vec<f64>>;

/// Why inputs do not fit a model.
#[derive(Debug, thiserror::Error)]
pub enum InputError {
    /// The file is not readable as arrays.
    #[error(transparent)]
    File(#[from] NpzError),
    /// There is no calibration set.
    #[error("no calibration set: {looked} does not exist; give --calibration FILE or --calibration synthetic:SEED")]
    NoCalibration {
        /// Where it was looked for.
        looked: String,
    },
    /// An array is missing.
    #[error("input `{name}`: no array of this name (or in_{name}); found: {found}")]
    Missing {
        /// The graph input.
        name: String,
        /// The arrays there are.
        found: String,
    },
    /// An array has the wrong shape.
    #[error("input `{name}`: expected [n, {}], found {found:?}; save inputs with the batch as leading axis", list(.expected))]
    Shape {
        /// The graph input.
        name: String,
        /// Shape of one input.
        expected: Vec<usize>,
        /// Shape of the array.
        found: Vec<usize>,
    },
    /// Arrays differ in their number of inputs.
    #[error("inputs differ in number: `{name}` has {found}, others {expected}")]
    Count {
        /// The graph input.
        name: String,
        /// Number in the arrays before.
        expected: usize,
        /// Number found.
        found: usize,
    },
    /// A number is not finite.
    #[error("input `{name}`: entry {entry} holds {found}; remove it")]
    NonFinite {
        /// The graph input.
        name: String,
        /// Which entry.
        entry: usize,
        /// The number.
        found: f64,
    },
}

fn list(shape: &[usize]) -> String {
    let s: Vec<String> = shape.iter().map(usize::to_string).collect();
    s.join(", ")
}

impl InputError {
    /// The word for `error[KIND]`.
    pub fn kind(&self) -> crate::onnx::ErrorKind {
        use crate::onnx::ErrorKind as K;
        match self {
            InputError::File(e) => e.kind(),
            InputError::NoCalibration { .. } => K::Mismatch,
            InputError::Missing { .. } | InputError::Count { .. } => K::Mismatch,
            InputError::Shape { .. } => K::Shape,
            InputError::NonFinite { .. } => K::NonFinite,
        }
    }
}

/// Where the calibration set of a model lies if none is named: `NAME.calibration.npz` beside `NAME.onnx`.
pub fn beside(model: &Path) -> PathBuf {
    model.with_extension("calibration.npz")
}

/// Reads the calibration arrays: the file given, else the one beside the model.
pub fn read(model: &Path, given: Option<&Path>) -> Result<(PathBuf, Arrays), InputError> {
    let path = match given {
        Some(p) => p.to_path_buf(),
        None => beside(model),
    };
    if given.is_none() && !path.exists() {
        return Err(InputError::NoCalibration {
            looked: path.display().to_string(),
        });
    }
    let arrays = npz::read(&path)?;
    Ok((path, arrays))
}

/// The inputs in arrays, one per entry of the leading axis. An array of exactly one input's shape is one input.
pub fn user_inputs(specs: &[InputSpec], arrays: &Arrays) -> Result<Vec<UserInput>, InputError> {
    let mut out: Vec<UserInput> = Vec::new();
    let mut count = None;
    for spec in specs {
        let array = arrays
            .input(&spec.name)
            .ok_or_else(|| InputError::Missing {
                name: spec.name.clone(),
                found: arrays.0.keys().cloned().collect::<Vec<_>>().join(", "),
            })?;
        let n = if array.shape.len() == spec.shape.len() + 1 && array.shape[1..] == spec.shape[..] {
            array.shape[0]
        } else if array.shape == spec.shape {
            1
        } else {
            return Err(InputError::Shape {
                name: spec.name.clone(),
                expected: spec.shape.clone(),
                found: array.shape.clone(),
            });
        };
        let expected = *count.get_or_insert(n);
        if n != expected {
            return Err(InputError::Count {
                name: spec.name.clone(),
                expected,
                found: n,
            });
        }
        out.resize_with(n, UserInput::new);
        let size: usize = spec.shape.iter().product();
        for (entry, numbers) in array.data.chunks_exact(size.max(1)).enumerate().take(n) {
            if let Some(&found) = numbers.iter().find(|x| !x.is_finite()) {
                return Err(InputError::NonFinite {
                    name: spec.name.clone(),
                    entry,
                    found,
                });
            }
            out[entry].insert(spec.name.clone(), numbers.to_vec());
        }
    }
    Ok(out)
}

/// `count` generated inputs: standard normal numbers, ids spread over `vocabulary`, and for other integers (attention masks) ones on a
/// beginning of at least half the last axis, zeros after it. The same for the same seed everywhere.
pub fn synthetic(
    specs: &[InputSpec],
    vocabulary: &BTreeMap<String, usize>,
    seed: u64,
    count: usize,
) -> Vec<UserInput> {
    let mut state = seed ^ 0x9e37_79b9_7f4a_7c15;
    // splitmix64 (Steele, Lea, Flood 2014).
    let mut next = move || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    };
    (0..count)
        .map(|_| {
            specs
                .iter()
                .map(|s| {
                    let n: usize = s.shape.iter().product();
                    if s.integer && !vocabulary.contains_key(&s.name) {
                        let l = s.shape.last().copied().unwrap_or(1).max(1);
                        let half = l.div_ceil(2);
                        let real = half + (next() * (l - half + 1) as f64) as usize;
                        let mask = (0..n).map(|i| f64::from(u8::from(i % l < real)));
                        return (s.name.clone(), mask.collect());
                    }
                    let numbers = (0..n)
                        .map(|_| match vocabulary.get(&s.name) {
                            Some(&v) => (next() * v as f64).floor(),
                            // Irwin–Hall: the sum of twelve uniform numbers, less 6.
                            None => (0..12).map(|_| next()).sum::<f64>() - 6.0,
                        })
                        .collect();
                    (s.name.clone(), numbers)
                })
                .collect()
        })
        .collect()
}
