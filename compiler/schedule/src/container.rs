//! `X.heron` and `X.client`: a header, the program as protobuf, and a page-aligned weights section that can be mapped.
//!
//! | offset | bytes | content |
//! |---|---|---|
//! | 0 | 8 | magic `HERONSCH` |
//! | 8 | 4 | version, 1 |
//! | 12 | 4 | kind: 1 schedule, 2 client |
//! | 16 | 8 | length of the program section, which begins at 256 |
//! | 24 | 8 | offset of the weights section, a multiple of 4096 |
//! | 32 | 8 | length of the weights section |
//! | 40 | 32 | BLAKE3 of the program section |
//! | 72 | 32 | BLAKE3 of the weights section |
//! | 104 | 32 | schedule id |
//! | 136 | 32 | parameter set id |
//! | 168 | 32 | BLAKE3 of bytes 0 to 168 |
//! | 200 | 8 | length of the record section, which follows the weights at the next multiple of 8; schedules only |
//! | 208 | 32 | BLAKE3 of the record section, if it has a byte |
//!
//! After the record, at the next multiple of 4096, the bases section holds those numbers of the model that the program does not leave in
//! files of their own, each where `Program.bases` says, with its hash. A schedule without bases has no such section.
//!
//! The record is for looking into runs (`heron bisect`): no part of the program, its id or what runs.
//! Integers are little-endian; every byte not named is zero. Equal programs and weights give equal bytes.

use crate::atomic::write_file;
use crate::base::{Base, FloatKind};
use crate::client::ClientGraph;
use crate::matrix::{kind_of, Matrix};
use crate::params::ParameterSet;
use crate::proto::{Plaintext, Program};
use crate::verify::{verify, verify_head, VerifyError};
use crate::weights::{Weights, WeightsBuilder, WeightsError};
use memmap2::Mmap;
use prost::Message;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use thiserror::Error;

const MAGIC: &[u8; 8] = b"HERONSCH";
const VERSION: u32 = 1;
const HEADER: usize = 256;
const SIGNED: usize = 168;
/// Where the header speaks of the record.
const RECORD: usize = SIGNED + 32;
const ALIGNMENT: usize = 4096;
/// Larger program sections are refused before anything is allocated for them.
const MAX_PROGRAM: u64 = 1 << 30;

/// Which of the two files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileKind {
    /// `X.heron`, for the server.
    Schedule,
    /// `X.client`, for the client.
    Client,
}

/// Why a file was refused.
#[derive(Debug, Error)]
pub enum ContainerError {
    /// Reading or writing failed.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Not a file of this kind, or a damaged one.
    #[error("{path}: {reason}")]
    Malformed {
        /// The file, or `memory`.
        path: PathBuf,
        /// What was expected and found.
        reason: String,
    },
    /// Numbers that are kept in a file of the model are not there.
    #[error("{path}: its weights in {file}: {reason}; put back the model that was compiled, or compile again")]
    External {
        /// The schedule.
        path: PathBuf,
        /// The file of the model.
        file: PathBuf,
        /// What was found.
        reason: String,
    },
    /// The content contradicts itself.
    #[error("{path}: {source}")]
    Verify {
        /// The file, or `memory`.
        path: PathBuf,
        /// What is wrong.
        source: VerifyError,
    },
}

/// A verified program with its weights.
#[derive(Clone, Debug)]
pub struct Schedule {
    program: Program,
    weights: Weights,
    params: ParameterSet,
    id: [u8; 32],
    record: Weights,
    matrices: Arc<Vec<Matrix>>,
}

/// What the client knows of a schedule: ports, what it computes itself, embedding tables, a head
/// that is left to it, parameters, keys to make. No instruction, no other weight.
#[derive(Clone, Debug)]
pub struct ClientSchedule {
    program: Program,
    weights: Weights,
    params: ParameterSet,
    id: [u8; 32],
}

impl Schedule {
    /// Takes a program that passes [`verify`].
    pub fn new(program: Program, weights: Weights) -> Result<Schedule, VerifyError> {
        let params = verify(&program, &weights)?;
        let id = schedule_id(&program, &weights);
        let matrices = Arc::new(Matrix::read_all(&program, &weights)?);
        Ok(Schedule {
            matrices,
            program,
            weights,
            params,
            id,
            record: Vec::new().into(),
        })
    }

    /// Puts a record beside the program; it has no part in the id.
    pub fn with_record(self, record: Vec<u8>) -> Schedule {
        Schedule {
            record: record.into(),
            ..self
        }
    }

    /// The record, empty where there is none.
    pub fn record(&self) -> &[u8] {
        self.record.bytes()
    }

    /// Verifies again: [`Schedule::new`] did it once.
    pub fn verify(&self) -> Result<(), VerifyError> {
        verify(&self.program, &self.weights).map(|_| ())
    }

    /// The program.
    pub fn program(&self) -> &Program {
        &self.program
    }
    /// The weights section.
    pub fn weights(&self) -> &Weights {
        &self.weights
    }
    /// The parameters the program names.
    pub fn params(&self) -> &ParameterSet {
        &self.params
    }
    /// Hash of the canonical program, its report left out, and the weights. Keys and ciphertexts carry it.
    pub fn id(&self) -> [u8; 32] {
        self.id
    }

    /// The plaintext vector of that number.
    pub fn vector(&self, index: u32) -> Result<Vec<f64>, WeightsError> {
        self.weights.vector(&self.program.plaintexts, index)
    }

    /// The plaintext vector of that number for a linear map that names this matrix (1 + its number, 0 for none).
    pub fn factors(&self, matrix: u32, index: u32) -> Result<Vec<f64>, WeightsError> {
        let Some(number) = matrix.checked_sub(1) else {
            return self.vector(index);
        };
        let list = &self.program.plaintexts;
        let missing = WeightsError::NoSuchPlaintext {
            index,
            count: list.len(),
        };
        let entry = list.get(index as usize).ok_or(missing)?;
        let matrix = self.matrices.get(number as usize);
        Ok(matrix.ok_or(WeightsError::Kind { index })?.vector(entry))
    }

    /// The matrices, as the program lists them.
    pub fn matrices(&self) -> &[Matrix] {
        &self.matrices
    }

    fn parts(&self) -> Parts<'_> {
        Parts {
            bases: self.weights.bases(),
            kind: FileKind::Schedule,
            program: &self.program,
            weights: self.weights.bytes(),
            record: self.record.bytes(),
            id: self.id,
            params_id: self.params.id(),
        }
    }

    /// The file's bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.parts().to_bytes()
    }

    /// How many bytes the file will have.
    pub fn file_bytes(&self) -> u64 {
        self.parts().length() as u64
    }

    /// Writes `X.heron`, whole or not at all.
    pub fn save(&self, path: &Path) -> Result<(), ContainerError> {
        save(path, &self.parts())
    }

    /// Maps and verifies `X.heron`.
    pub fn open(path: &Path) -> Result<Schedule, ContainerError> {
        Self::read(path, Source::open(path)?)
    }

    /// Reads `X.heron` from memory.
    pub fn from_bytes(bytes: &[u8]) -> Result<Schedule, ContainerError> {
        Self::read(Path::new("memory"), Source::Memory(bytes))
    }

    fn read(path: &Path, source: Source) -> Result<Schedule, ContainerError> {
        let parsed = source.parse(path)?;
        if parsed.kind != FileKind::Schedule {
            return Err(malformed(
                path,
                "a client file; the schedule itself (X.heron) is needed here",
            ));
        }
        let record = parsed.record;
        let schedule = Schedule::new(parsed.program, parsed.weights).map_err(|source| {
            ContainerError::Verify {
                path: path.into(),
                source,
            }
        })?;
        let schedule = Schedule { record, ..schedule };
        if schedule.id != parsed.id || schedule.params.id() != parsed.params_id {
            return Err(malformed(path, "its id is not the hash of its content"));
        }
        Ok(schedule)
    }

    /// What the client may know.
    pub fn client(&self) -> Result<ClientSchedule, WeightsError> {
        let mut builder = WeightsBuilder::new();
        let mut inputs = self.program.inputs.clone();
        for port in &mut inputs {
            if let Some(embedding) = &mut port.embedding {
                let single = self.single(embedding.plaintext);
                embedding.plaintext = builder.push(&self.vector(embedding.plaintext)?, single);
            }
        }
        let mut outputs = self.program.outputs.clone();
        for head in outputs.iter_mut().filter_map(|port| port.head.as_mut()) {
            let single = self.single(head.weight);
            head.weight = builder.push(&self.vector(head.weight)?, single);
            if let Some(bias) = &mut head.bias {
                let single = self.single(bias.plaintext);
                bias.plaintext = builder.push(&self.vector(bias.plaintext)?, single);
            }
        }
        // Tables were read when the program was verified.
        let graph = ClientGraph::read(&self.program, &self.weights).unwrap_or_default();
        let client = self
            .program
            .client
            .as_ref()
            .map(|_| graph.to_proto(&mut builder));
        let (plaintexts, weights) = builder.finish();
        let program = Program {
            client,
            name: self.program.name.clone(),
            parameters: self.program.parameters.clone(),
            batch: self.program.batch,
            inputs,
            outputs,
            keys: self.program.keys.clone(),
            bootstraps: self.program.bootstraps.clone(),
            plaintexts,
            ..Program::default()
        };
        Ok(ClientSchedule {
            program,
            weights,
            params: self.params.clone(),
            id: self.id,
        })
    }

    fn single(&self, index: u32) -> bool {
        let entry: Option<&Plaintext> = self.program.plaintexts.get(index as usize);
        entry.is_some_and(|p| p.single)
    }
}

impl ClientSchedule {
    /// Ports, keys and parameters; no instructions.
    pub fn program(&self) -> &Program {
        &self.program
    }
    /// The embedding tables.
    pub fn weights(&self) -> &Weights {
        &self.weights
    }
    /// The parameters.
    pub fn params(&self) -> &ParameterSet {
        &self.params
    }
    /// The id of the schedule this file belongs to.
    pub fn id(&self) -> [u8; 32] {
        self.id
    }

    fn parts(&self) -> Parts<'_> {
        Parts {
            bases: &[],
            kind: FileKind::Client,
            program: &self.program,
            weights: self.weights.bytes(),
            record: &[],
            id: self.id,
            params_id: self.params.id(),
        }
    }

    /// The file's bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.parts().to_bytes()
    }

    /// How many bytes the file will have.
    pub fn file_bytes(&self) -> u64 {
        self.parts().length() as u64
    }

    /// Writes `X.client`, whole or not at all.
    pub fn save(&self, path: &Path) -> Result<(), ContainerError> {
        save(path, &self.parts())
    }

    /// Reads `X.client`, or the client's part of `X.heron`.
    pub fn open(path: &Path) -> Result<ClientSchedule, ContainerError> {
        Self::read(path, Source::open(path)?)
    }

    /// Reads either file from memory.
    pub fn from_bytes(bytes: &[u8]) -> Result<ClientSchedule, ContainerError> {
        Self::read(Path::new("memory"), Source::Memory(bytes))
    }

    fn read(path: &Path, source: Source) -> Result<ClientSchedule, ContainerError> {
        let parsed = source.parse(path)?;
        if parsed.kind == FileKind::Schedule {
            let schedule = Schedule::read(path, source)?;
            return schedule
                .client()
                .map_err(|e| malformed(path, &e.to_string()));
        }
        if !parsed.record.bytes().is_empty() {
            return Err(malformed(path, "a client file has no record"));
        }
        if !parsed.program.instructions.is_empty() {
            return Err(malformed(path, "a client file has no instructions"));
        }
        let params = verify_head(&parsed.program, &parsed.weights).map_err(|source| {
            ContainerError::Verify {
                path: path.into(),
                source,
            }
        })?;
        if params.id() != parsed.params_id {
            return Err(malformed(
                path,
                "header and program name different parameters",
            ));
        }
        Ok(ClientSchedule {
            program: parsed.program,
            weights: parsed.weights,
            params,
            id: parsed.id,
        })
    }
}

/// BLAKE3 over the canonical program (prost's bytes, the report left out) and the weights, each preceded by its length.
pub fn schedule_id(program: &Program, weights: &Weights) -> [u8; 32] {
    let bare = Program {
        report_json: Vec::new(),
        ..program.clone()
    };
    let bytes = bare.encode_to_vec();
    let mut hasher = blake3::Hasher::new_derive_key("heron 2026-11 schedule v1");
    hasher.update(&(bytes.len() as u64).to_le_bytes());
    hasher.update(&bytes);
    hasher.update(&(weights.bytes().len() as u64).to_le_bytes());
    hasher.update(weights.bytes());
    *hasher.finalize().as_bytes()
}

fn save(path: &Path, parts: &Parts<'_>) -> Result<(), ContainerError> {
    write_file(path, false, |out| parts.write(out)).map_err(|source| ContainerError::Io {
        path: path.into(),
        source,
    })
}

fn malformed(path: &Path, reason: &str) -> ContainerError {
    ContainerError::Malformed {
        path: path.into(),
        reason: reason.into(),
    }
}

/// What a file is made of.
struct Parts<'a> {
    kind: FileKind,
    bases: &'a [Base],
    program: &'a Program,
    weights: &'a [u8],
    record: &'a [u8],
    id: [u8; 32],
    params_id: [u8; 32],
}

impl Parts<'_> {
    fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        // Writing to a vector cannot fail.
        let _ = self.write(&mut out);
        out
    }

    fn length(&self) -> usize {
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

/// Bytes of the bases section; `None` where a base says what cannot be.
fn bases_length(program: &Program) -> Option<u64> {
    let mut end = 0u64;
    for base in program.bases.iter().filter(|b| b.file.is_empty()) {
        let length = base.values.checked_mul(kind_of(base)?.width() as u64)?;
        if base.offset < end {
            return None;
        }
        end = base.offset.checked_add(length)?;
    }
    Some(end)
}

/// Maps a whole file.
fn map(path: &Path) -> io::Result<Mmap> {
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
struct Shared(Arc<Mmap>);

impl AsRef<[u8]> for Shared {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

struct Parsed {
    kind: FileKind,
    program: Program,
    weights: Weights,
    record: Weights,
    id: [u8; 32],
    params_id: [u8; 32],
}

enum Source<'a> {
    Memory(&'a [u8]),
    File(Arc<Mmap>),
}

impl Source<'_> {
    fn open(path: &Path) -> Result<Source<'static>, ContainerError> {
        let io = |source| ContainerError::Io {
            path: path.into(),
            source,
        };
        Ok(Source::File(Arc::new(map(path).map_err(io)?)))
    }

    /// The bases that a program lists: from `first` on in this file, or in others.
    fn bases(
        &self,
        path: &Path,
        program: &Program,
        first: u64,
    ) -> Result<Vec<Base>, ContainerError> {
        let own: Arc<dyn AsRef<[u8]> + Send + Sync> = match self {
            Source::File(map) => Arc::new(Shared(Arc::clone(map))),
            // Only what is needed is copied.
            Source::Memory(bytes) => {
                let part = bytes.get(first as usize..).unwrap_or(&[]);
                Arc::new(part.to_vec())
            }
        };
        let own_first = match self {
            Source::File(_) => first,
            Source::Memory(_) => 0,
        };
        let mut files: BTreeMap<&str, Arc<dyn AsRef<[u8]> + Send + Sync>> = BTreeMap::new();
        let mut bases = Vec::with_capacity(program.bases.len());
        for (number, listed) in program.bases.iter().enumerate() {
            let kind = kind_of(listed);
            let kind = kind.ok_or_else(|| {
                malformed(
                    path,
                    &format!(
                        "base {number} has kind {}, which this version does not know",
                        listed.kind
                    ),
                )
            })?;
            let folder = path.parent().unwrap_or(Path::new(""));
            let file = folder.join(&listed.file);
            let (holder, from) = match listed.file.is_empty() {
                true => (Arc::clone(&own), own_first.checked_add(listed.offset)),
                false => {
                    let holder = match files.get(listed.file.as_str()) {
                        Some(known) => Arc::clone(known),
                        None => {
                            let map = map(&file).map_err(|source| ContainerError::External {
                                path: path.into(),
                                file: file.clone(),
                                reason: source.to_string(),
                            })?;
                            files.entry(&listed.file).or_insert(Arc::new(map)).clone()
                        }
                    };
                    (holder, Some(listed.offset))
                }
            };
            let length = listed.values.checked_mul(kind.width() as u64);
            let range = from.and_then(|from| {
                let end = from.checked_add(length?)?;
                Some(usize::try_from(from).ok()?..usize::try_from(end).ok()?)
            });
            let base = range.and_then(|range| Base::new(kind, holder, range));
            let sound = base.filter(|b| listed.hash == b.hash());
            let base = sound.ok_or_else(|| match listed.file.is_empty() {
                true => malformed(path, &format!("base {number} is damaged")),
                false => ContainerError::External {
                    path: path.into(),
                    file: file.clone(),
                    reason: format!(
                        "{} floats at byte {} are not those that the schedule was compiled with",
                        listed.values, listed.offset
                    ),
                },
            })?;
            bases.push(match listed.file.is_empty() {
                true => base,
                false => base.from_file(&file, listed.offset),
            });
        }
        Ok(bases)
    }

    fn parse(&self, path: &Path) -> Result<Parsed, ContainerError> {
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
        let bases_first = least.next_multiple_of(ALIGNMENT) as u64;
        let total = match bases_length(&program) {
            Some(0) => Some(least as u64),
            Some(n) => bases_first.checked_add(n),
            None => return Err(bad("its bases lie in one another or have no end")),
        };
        if total != Some(bytes.len() as u64) {
            return Err(bad(&format!(
                "truncated or lengthened: {} bytes found, {} expected",
                bytes.len(),
                total.unwrap_or(u64::MAX)
            )));
        }
        let mut at = least;
        for base in program.bases.iter().filter(|b| b.file.is_empty()) {
            // Offsets ascend and end where the file does.
            let from = (bases_first + base.offset) as usize;
            let gap = bytes.get(at..from).unwrap_or(&[]);
            if gap.iter().any(|&b| b != 0) {
                return Err(bad("bytes that must be zero are not"));
            }
            at = from + base.values as usize * kind_of(base).map_or(0, FloatKind::width);
        }
        let bases = self.bases(path, &program, bases_first)?;
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
