//! `X.client`: what a schedule tells its client.

use super::read::Source;
use super::write::{save, Parts};
use super::{malformed, ContainerError, FileKind, Schedule};
use crate::client::ClientGraph;
use crate::params::ParameterSet;
use crate::proto::{Plaintext, Program};
use crate::verify::verify_head;
use crate::weights::{Weights, WeightsBuilder, WeightsError};
use std::path::Path;

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
    /// What the client may know.
    pub fn client(&self) -> Result<ClientSchedule, WeightsError> {
        let program = self.program();
        let mut builder = WeightsBuilder::new();
        let mut inputs = program.inputs.clone();
        for port in &mut inputs {
            if let Some(embedding) = &mut port.embedding {
                let single = self.single(embedding.plaintext);
                embedding.plaintext = builder.push(&self.vector(embedding.plaintext)?, single);
            }
        }
        let mut outputs = program.outputs.clone();
        for head in outputs.iter_mut().filter_map(|port| port.head.as_mut()) {
            let single = self.single(head.weight);
            head.weight = builder.push(&self.vector(head.weight)?, single);
            if let Some(bias) = &mut head.bias {
                let single = self.single(bias.plaintext);
                bias.plaintext = builder.push(&self.vector(bias.plaintext)?, single);
            }
        }
        // Tables were read when the program was verified.
        let graph = ClientGraph::read(program, self.weights()).unwrap_or_default();
        let client = program
            .client
            .as_ref()
            .map(|_| graph.to_proto(&mut builder));
        let (plaintexts, weights) = builder.finish();
        let program = Program {
            client,
            name: program.name.clone(),
            parameters: program.parameters.clone(),
            batch: program.batch,
            inputs,
            outputs,
            keys: program.keys.clone(),
            bootstraps: program.bootstraps.clone(),
            plaintexts,
            ..Program::default()
        };
        Ok(ClientSchedule {
            program,
            weights,
            params: self.params().clone(),
            id: self.id(),
        })
    }

    fn single(&self, index: u32) -> bool {
        let entry: Option<&Plaintext> = self.program().plaintexts.get(index as usize);
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
        if !parsed.program.instructions.is_empty() || !parsed.program.bodies.is_empty() {
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
