//! The weights section: plaintext vectors one after the other, little-endian, mapped from the file or held in memory.

use crate::proto::Plaintext;
use memmap2::Mmap;
use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use thiserror::Error;

/// The bytes of a weights section. Cheap to clone.
#[derive(Clone)]
pub struct Weights(Storage);

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

impl From<Vec<u8>> for Weights {
    fn from(bytes: Vec<u8>) -> Self {
        Weights(Storage::Owned(Arc::new(bytes)))
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
        Some(Weights(Storage::Mapped(map, range)))
    }

    /// The section.
    pub fn bytes(&self) -> &[u8] {
        match &self.0 {
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
}

impl WeightsBuilder {
    /// An empty section.
    pub fn new() -> WeightsBuilder {
        WeightsBuilder::default()
    }

    /// Adds a vector in f32 if `single`, else in f64, and returns its number for `Term.plaintext` and its like.
    pub fn push(&mut self, values: &[f64], single: bool) -> u32 {
        let mut raw = Vec::with_capacity(values.len() * if single { 4 } else { 8 });
        for v in values {
            if single {
                raw.extend_from_slice(&(*v as f32).to_le_bytes());
            } else {
                raw.extend_from_slice(&v.to_le_bytes());
            }
        }
        let next = self.plaintexts.len() as u32;
        let key = (*blake3::hash(&raw).as_bytes(), single);
        let index = *self.known.entry(key).or_insert(next);
        if index == next {
            let padding = self.bytes.len().next_multiple_of(8);
            self.bytes.resize(padding, 0);
            self.plaintexts.push(Plaintext {
                offset: self.bytes.len() as u64,
                length: values.len() as u32,
                single,
            });
            self.bytes.extend_from_slice(&raw);
        }
        index
    }

    /// The list for `Program.plaintexts`, and the section.
    pub fn finish(self) -> (Vec<Plaintext>, Weights) {
        (self.plaintexts, self.bytes.into())
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
                single: false,
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
