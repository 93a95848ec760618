//! Reads a file, its checksums before what they protect.

use super::bases::bases_start;
use super::{
    malformed, ContainerError, FileKind, ALIGNMENT, HEADER, MAGIC, MAX_PROGRAM, RECORD, SIGNED,
    VERSION,
};
use crate::proto::Program;
use crate::weights::Weights;
use memmap2::Mmap;
use prost::Message;
use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::Arc;

/// Maps a whole file.
pub(super) fn map(path: &Path) -> io::Result<Mmap> {
    let file = File::open(path)?;
    if !file.metadata()?.is_file() {
        let message = "not a regular file";
        return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
    }
    // SAFETY: the map is read-only and private to this process. heron replaces its files by rename and never writes into one in
    // place; another program truncating it while it is mapped would end this process, as it would any reader of a mapped file.
    unsafe { Mmap::map(&file) }
}

/// A map that sections share.
pub(super) struct Shared(pub(super) Arc<Mmap>);

impl AsRef<[u8]> for Shared {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

/// The sections of a file, checked.
pub(super) struct Parsed {
    pub(super) kind: FileKind,
    pub(super) program: Program,
    pub(super) weights: Weights,
    pub(super) record: Weights,
    pub(super) id: [u8; 32],
    pub(super) params_id: [u8; 32],
}

/// Where the bytes are.
pub(super) enum Source<'a> {
    Memory(&'a [u8]),
    File(Arc<Mmap>),
}

impl Source<'_> {
    pub(super) fn open(path: &Path) -> Result<Source<'static>, ContainerError> {
        let io = |source| ContainerError::Io {
            path: path.into(),
            source,
        };
        Ok(Source::File(Arc::new(map(path).map_err(io)?)))
    }

    pub(super) fn parse(&self, path: &Path) -> Result<Parsed, ContainerError> {
        let bytes: &[u8] = match self {
            Source::Memory(bytes) => bytes,
            Source::File(map) => map,
        };
        let bad = |reason: &str| malformed(path, reason);
        let Some(header) = bytes.get(..HEADER) else {
            return Err(bad(
                "too short for a schedule; expected a file heron compile wrote",
            ));
        };
        if header.get(..8) != Some(MAGIC.as_slice()) {
            return Err(bad("not a schedule; expected a file heron compile wrote"));
        }
        let word = |at: usize| {
            let bytes = header.get(at..at + 4).and_then(|b| b.try_into().ok());
            bytes.map_or(0, u32::from_le_bytes)
        };
        let long = |at: usize| u64::from(word(at)) | u64::from(word(at + 4)) << 32;
        let hash = |at: usize| -> [u8; 32] {
            let bytes = header.get(at..at + 32).and_then(|b| b.try_into().ok());
            bytes.unwrap_or([0; 32])
        };
        if word(8) != VERSION {
            return Err(bad(&format!(
                "version {} of the format; this heron reads version {VERSION}; compile again",
                word(8)
            )));
        }
        if *blake3::hash(&header[..SIGNED]).as_bytes() != hash(SIGNED) {
            return Err(bad("its header is damaged"));
        }
        let kind = match word(12) {
            1 => FileKind::Schedule,
            2 => FileKind::Client,
            _ => return Err(bad("neither a schedule nor a client file")),
        };
        let (length, start, size) = (long(16), long(24), long(32));
        let end = (HEADER as u64).checked_add(length);
        let extra = long(RECORD);
        let weights_end = start.checked_add(size);
        let record_start = match extra {
            0 => weights_end,
            _ => weights_end.and_then(|e| e.checked_next_multiple_of(8)),
        };
        let least = record_start.and_then(|r| r.checked_add(extra));
        if length > MAX_PROGRAM
            || !start.is_multiple_of(ALIGNMENT as u64)
            || end.is_none_or(|end| end > start)
            || least.is_none_or(|n| n > bytes.len() as u64)
        {
            return Err(bad(&format!(
                "truncated or lengthened: {} bytes found, {} expected",
                bytes.len(),
                least.unwrap_or(u64::MAX)
            )));
        }
        let section = bytes.get(HEADER..HEADER + length as usize).unwrap_or(&[]);
        let range = start as usize..(start + size) as usize;
        let least = least.unwrap_or(0) as usize;
        let after = least - extra as usize..least;
        let weights = bytes.get(range.clone()).unwrap_or(&[]);
        let record = bytes.get(after.clone()).unwrap_or(&[]);
        let gap = bytes.get(HEADER + length as usize..start as usize);
        let second = bytes.get(range.end..after.start);
        let unused = match extra {
            0 => RECORD,
            _ => RECORD + 40,
        };
        if header[unused..]
            .iter()
            .chain(gap.unwrap_or(&[]))
            .chain(second.unwrap_or(&[]))
            .any(|&b| b != 0)
        {
            return Err(bad("bytes that must be zero are not"));
        }
        if *blake3::hash(section).as_bytes() != hash(40) {
            return Err(bad("its program section is damaged"));
        }
        if *blake3::hash(weights).as_bytes() != hash(72) {
            return Err(bad("its weights section is damaged"));
        }
        if extra > 0 && *blake3::hash(record).as_bytes() != hash(RECORD + 8) {
            return Err(bad("its record section is damaged"));
        }
        let program = Program::decode(section)
            .map_err(|e| bad(&format!("its program section does not decode: {e}")))?;
        if program.encode_to_vec() != section {
            return Err(bad(
                "its program section is not canonical; a newer heron may have written it",
            ));
        }
        let first = bases_start(path, bytes, &program, least)?;
        let bases = self.bases(path, &program, first)?;
        let taken = |part: &[u8], range| match self {
            Source::Memory(_) => Ok(part.to_vec().into()),
            Source::File(map) => Weights::mapped(map.clone(), range)
                .ok_or_else(|| bad("one of its sections leaves the file")),
        };
        let weights = taken(weights, range)?.with_bases(bases);
        let record = taken(record, after)?;
        Ok(Parsed {
            kind,
            program,
            weights,
            record,
            id: hash(104),
            params_id: hash(136),
        })
    }
}
