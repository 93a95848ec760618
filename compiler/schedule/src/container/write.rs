//! Writes the sections of a file one after the other.

use super::bases::bases_length;
use super::{ContainerError, FileKind, ALIGNMENT, HEADER, MAGIC, VERSION};
use crate::atomic::write_file;
use crate::base::Base;
use crate::proto::Program;
use prost::Message;
use std::io::{self, Write};
use std::path::Path;

/// What a file is made of.
pub(super) struct Parts<'a> {
    pub(super) kind: FileKind,
    pub(super) bases: &'a [Base],
    pub(super) program: &'a Program,
    pub(super) weights: &'a [u8],
    pub(super) record: &'a [u8],
    pub(super) id: [u8; 32],
    pub(super) params_id: [u8; 32],
}

impl Parts<'_> {
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        // Writing to a vector cannot fail.
        let _ = self.write(&mut out);
        out
    }

    pub(super) fn length(&self) -> usize {
        let start = (HEADER + self.program.encoded_len()).next_multiple_of(ALIGNMENT);
        let end = match self.record.len() {
            0 => start + self.weights.len(),
            record => (start + self.weights.len()).next_multiple_of(8) + record,
        };
        match bases_length(self.program) {
            Some(0) | None => end,
            Some(bases) => end.next_multiple_of(ALIGNMENT) + bases as usize,
        }
    }

    /// Section by section: the weights of a large model are not copied first.
    fn write(&self, out: &mut impl Write) -> io::Result<()> {
        let (weights, record) = (self.weights, self.record);
        let bytes = self.program.encode_to_vec();
        let start = (HEADER + bytes.len()).next_multiple_of(ALIGNMENT);
        let mut head = Vec::with_capacity(start);
        head.extend_from_slice(MAGIC);
        head.extend_from_slice(&VERSION.to_le_bytes());
        let kind: u32 = match self.kind {
            FileKind::Schedule => 1,
            FileKind::Client => 2,
        };
        head.extend_from_slice(&kind.to_le_bytes());
        for number in [bytes.len(), start, weights.len()] {
            head.extend_from_slice(&(number as u64).to_le_bytes());
        }
        head.extend_from_slice(blake3::hash(&bytes).as_bytes());
        head.extend_from_slice(blake3::hash(weights).as_bytes());
        head.extend_from_slice(&self.id);
        head.extend_from_slice(&self.params_id);
        let signed = *blake3::hash(&head).as_bytes();
        head.extend_from_slice(&signed);
        if !record.is_empty() {
            head.extend_from_slice(&(record.len() as u64).to_le_bytes());
            head.extend_from_slice(blake3::hash(record).as_bytes());
        }
        head.resize(HEADER, 0);
        head.extend_from_slice(&bytes);
        head.resize(start, 0);
        out.write_all(&head)?;
        out.write_all(weights)?;
        if !record.is_empty() {
            let end = weights.len();
            out.write_all(&[0; 8][..end.next_multiple_of(8) - end])?;
            out.write_all(record)?;
        }
        if bases_length(self.program).is_none_or(|n| n == 0) {
            return Ok(());
        }
        let end = match record.len() {
            0 => start + weights.len(),
            n => (start + weights.len()).next_multiple_of(8) + n,
        };
        let mut at = end as u64;
        let first = end.next_multiple_of(ALIGNMENT) as u64;
        for (listed, base) in self.program.bases.iter().zip(self.bases) {
            if listed.file.is_empty() {
                let gap = (first + listed.offset).saturating_sub(at);
                out.write_all(&vec![0; gap as usize])?;
                out.write_all(base.bytes())?;
                at = first + listed.offset + base.bytes().len() as u64;
            }
        }
        Ok(())
    }
}

pub(super) fn save(path: &Path, parts: &Parts<'_>) -> Result<(), ContainerError> {
    write_file(path, false, |out| parts.write(out)).map_err(|source| ContainerError::Io {
        path: path.into(),
        source,
    })
}
