//! The weights section: plaintext vectors one after the other, little-endian, mapped from the file or held in memory.

use crate::base::Base;
use crate::matrix::file_name;
use crate::proto::{self, Plaintext};
use memmap2::Mmap;
use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use thiserror::Error;

/// The bytes of a weights section, and the numbers of the model beside it. Cheap to clone.
#[derive(Clone)]
pub struct Weights {
    section: Storage,
    bases: Arc<Vec<Base>>,
}

/// Bases begin at multiples of this many bytes.
const BASE_ALIGNMENT: u64 = 64;

#[derive(Clone)]
enum Storage {
    Owned(Arc<Vec<u8>>),
    Mapped(Arc<Mmap>, Range<usize>),
}

impl fmt::Debug for Weights {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Weights({} bytes)", self.bytes().len())
    }
}

impl From<Storage> for Weights {
    fn from(section: Storage) -> Self {
        let bases = Arc::default();
        Weights { section, bases }
    }
}

impl From<Vec<u8>> for Weights {
    fn from(bytes: Vec<u8>) -> Self {
        Storage::Owned(Arc::new(bytes)).into()
    }
}

/// A reference into the weights section that does not hold.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum WeightsError {
    /// No plaintext of that number.
    #[error("plaintext {index} does not exist; the program lists {count}")]
    NoSuchPlaintext {
        /// The number asked for.
        index: u32,
        /// Plaintexts listed.
        count: usize,
    },
    /// The vector ends beyond the section.
    #[error("plaintext {index}: {length} values of {width} bytes at offset {offset} leave the weights section of {section} bytes")]
    OutOfSection {
        /// Its number.
        index: u32,
        /// Values it claims to have.
        length: u32,
        /// Bytes of each.
        width: u64,
        /// Where it claims to begin.
        offset: u64,
        /// Bytes there are.
        section: usize,
    },
    /// A vector that takes elements of a matrix where numbers are wanted, or the other way round.
    #[error("plaintext {index}: numbers and elements of a matrix are mixed up")]
    Kind {
        /// Its number.
        index: u32,
    },
    /// Runs that are none.
    #[error(
        "plaintext {index}: its runs are not slots of a vector, ascending, each with an element"
    )]
    Runs {
        /// Its number.
        index: u32,
    },
    /// An infinity or NaN.
    #[error("plaintext {index}: value {position} is not finite")]
    NotFinite {
        /// Its number.
        index: u32,
        /// Which of its values.
        position: usize,
    },
}

impl Weights {
    /// The part `range` of a mapped file; `None` when the range leaves the file.
    pub fn mapped(map: Arc<Mmap>, range: Range<usize>) -> Option<Weights> {
        map.get(range.clone())?;
        Some(Storage::Mapped(map, range).into())
    }

    /// The same with these bases.
    pub fn with_bases(self, bases: Vec<Base>) -> Weights {
        let bases = Arc::new(bases);
        Weights { bases, ..self }
    }

    /// Numbers of the model, as [`Program.bases`](proto::Program) lists them.
    pub fn bases(&self) -> &[Base] {
        &self.bases
    }

    /// The list for `Program.bases`: with a folder, those that lie in files of the model stay there, and are found from that folder.
    pub fn list_bases(&self, folder: Option<&Path>) -> Vec<proto::Base> {
        let mut end = 0u64;
        let mut list = Vec::with_capacity(self.bases.len());
        for base in self.bases.iter() {
            let (file, offset) = match (base.origin(), folder) {
                (Some(origin), Some(folder)) => (file_name(&origin.file, folder), origin.offset),
                _ => {
                    let at = end.next_multiple_of(BASE_ALIGNMENT);
                    end = at + base.bytes().len() as u64;
                    (String::new(), at)
                }
            };
            list.push(proto::Base {
                kind: base.kind() as u32,
                values: base.len() as u64,
                offset,
                file,
                hash: base.hash().to_vec(),
            });
        }
        list
    }

    /// The section.
    pub fn bytes(&self) -> &[u8] {
        match &self.section {
            Storage::Owned(bytes) => bytes,
            Storage::Mapped(map, range) => map.get(range.clone()).unwrap_or(&[]),
        }
    }

    /// The bytes of one vector, after checking that they lie inside the section.
    pub fn raw(&self, plaintexts: &[Plaintext], index: u32) -> Result<&[u8], WeightsError> {
        let entry = plaintexts
            .get(index as usize)
            .ok_or(WeightsError::NoSuchPlaintext {
                index,
                count: plaintexts.len(),
            })?;
        let width = width(entry);
        let section = self.bytes();
        let range = entry
            .offset
            .checked_add(u64::from(entry.length) * width)
            .and_then(|end| Some(usize::try_from(entry.offset).ok()?..usize::try_from(end).ok()?));
        range
            .and_then(|range| section.get(range))
            .ok_or(WeightsError::OutOfSection {
                index,
                length: entry.length,
                width,
                offset: entry.offset,
                section: section.len(),
            })
    }

    /// One vector as f64. Fails when it leaves the section or holds an infinity or NaN.
    pub fn vector(&self, plaintexts: &[Plaintext], index: u32) -> Result<Vec<f64>, WeightsError> {
        if plaintexts
            .get(index as usize)
            .is_some_and(|p| !p.run.is_empty())
        {
            return Err(WeightsError::Kind { index });
        }
        let raw = self.raw(plaintexts, index)?;
        let single = plaintexts.get(index as usize).is_some_and(|p| p.single);
        let values: Vec<f64> = if single {
            raw.chunks_exact(4)
                .filter_map(|c| c.try_into().ok())
                .map(|c| f64::from(f32::from_le_bytes(c)))
                .collect()
        } else {
            raw.chunks_exact(8)
                .filter_map(|c| c.try_into().ok())
                .map(f64::from_le_bytes)
                .collect()
        };
        match values.iter().position(|v| !v.is_finite()) {
            Some(position) => Err(WeightsError::NotFinite { index, position }),
            None => Ok(values),
        }
    }
}

/// Bytes of one value of a vector.
pub fn width(entry: &Plaintext) -> u64 {
    if entry.single {
        4
    } else {
        8
    }
}

/// Collects vectors into a weights section; equal vectors are stored once. The result depends on the order of the calls only.
#[derive(Debug, Default)]
pub struct WeightsBuilder {
    bytes: Vec<u8>,
    plaintexts: Vec<Plaintext>,
    known: BTreeMap<([u8; 32], bool), u32>,
    bases: Vec<Base>,
}

impl WeightsBuilder {
    /// An empty section.
    pub fn new() -> WeightsBuilder {
        WeightsBuilder::default()
    }

    /// Adds a vector in f32 if `single`, else in f64, and returns its number for `Term.plaintext` and its like.
    pub fn push(&mut self, values: &[f64], single: bool) -> u32 {
        self.push_parts(single, |part| part(values))
    }

    /// The same for a vector that is made part by part: large tables need not be held.
    pub fn push_parts(&mut self, single: bool, parts: impl FnOnce(&mut dyn FnMut(&[f64]))) -> u32 {
        let before = self.bytes.len();
        let start = before.next_multiple_of(8);
        self.bytes.resize(start, 0);
        let mut length = 0;
        let bytes = &mut self.bytes;
        parts(&mut |values| {
            length += values.len();
            bytes.reserve(values.len() * if single { 4 } else { 8 });
            for v in values {
                if single {
                    bytes.extend_from_slice(&(*v as f32).to_le_bytes());
                } else {
                    bytes.extend_from_slice(&v.to_le_bytes());
                }
            }
        });
        let next = self.plaintexts.len() as u32;
        let raw = self.bytes.get(start..).unwrap_or(&[]);
        let key = (*blake3::hash(raw).as_bytes(), single);
        let index = *self.known.entry(key).or_insert(next);
        if index == next {
            self.plaintexts.push(Plaintext {
                offset: start as u64,
                length: length as u32,
                single,
                run: Vec::new(),
            });
        } else {
            self.bytes.truncate(before);
        }
        index
    }

    /// Adds a vector of `length` slots that takes elements of matrices: slot, count, element and step of each run.
    pub fn push_runs(&mut self, length: usize, run: Vec<i32>) -> u32 {
        self.plaintexts.push(Plaintext {
            offset: 0,
            length: length as u32,
            single: false,
            run,
        });
        self.plaintexts.len() as u32 - 1
    }

    /// Adds numbers of the model and returns their place in `Program.bases`.
    pub fn push_base(&mut self, base: Base) -> u32 {
        self.bases.push(base);
        self.bases.len() as u32 - 1
    }

    /// The list for `Program.plaintexts`, and the section.
    pub fn finish(self) -> (Vec<Plaintext>, Weights) {
        let weights = Weights::from(self.bytes);
        (self.plaintexts, weights.with_bases(self.bases))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vectors_come_back_and_equal_ones_are_stored_once() {
        let mut builder = WeightsBuilder::new();
        let a = builder.push(&[1.0, -2.5, 3.0], true);
        let b = builder.push(&[0.1], false);
        assert_eq!(builder.push(&[1.0, -2.5, 3.0], true), a);
        let (list, weights) = builder.finish();
        assert_eq!(list.len(), 2);
        assert_eq!(weights.vector(&list, a), Ok(vec![1.0, -2.5, 3.0]));
        assert_eq!(weights.vector(&list, b), Ok(vec![0.1]));
    }

    #[test]
    fn a_vector_beyond_the_section_is_refused() {
        let weights = Weights::from(vec![0u8; 16]);
        for (offset, length) in [(8, 2), (u64::MAX, 1), (16, 1), (0, u32::MAX)] {
            let list = [Plaintext {
                offset,
                length,
                ..Plaintext::default()
            }];
            let found = weights.vector(&list, 0);
            assert!(matches!(found, Err(WeightsError::OutOfSection { .. })));
        }
        assert!(weights.vector(&[], 0).is_err());
    }

    #[test]
    fn a_value_that_is_not_finite_is_refused() {
        let mut builder = WeightsBuilder::new();
        let at = builder.push(&[0.0, f64::NAN], false);
        let (list, weights) = builder.finish();
        let expected = WeightsError::NotFinite {
            index: at,
            position: 1,
        };
        assert_eq!(weights.vector(&list, at), Err(expected));
    }
}
