//! `X.heron`: a verified program with its weights.

use super::read::Source;
use super::write::{save, Parts};
use super::{malformed, ContainerError, FileKind};
use crate::matrix::Matrix;
use crate::params::ParameterSet;
use crate::proto::Program;
use crate::verify::{verify, VerifyError};
use crate::weights::{Weights, WeightsError};
use prost::Message;
use std::path::Path;
use std::sync::Arc;

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

    pub(super) fn read(path: &Path, source: Source) -> Result<Schedule, ContainerError> {
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
