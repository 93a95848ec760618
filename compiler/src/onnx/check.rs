//! What `heron check` says.

use std::collections::BTreeMap;
use std::path::Path;

use super::error::{ImportError, Obstacle};
use super::graph::{operators, run, Shapes};
use super::proto::Model;
use crate::npz::Arrays;

/// Whether a model compiles, and everything that keeps it from doing so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckReport {
    /// No obstacle was found.
    pub compiles: bool,
    /// Nodes per ONNX operator.
    pub operators: BTreeMap<String, usize>,
    /// Blocks recognised, per kind; empty if there are obstacles.
    pub blocks: BTreeMap<String, usize>,
    /// All obstacles, in the order of the model.
    pub obstacles: Vec<Obstacle>,
}

/// Reads a model and says whether it compiles. Calibration arrays, where there are any, give open dimensions.
///
/// Fails only if the file cannot be read; a malformed file is an obstacle.
pub fn check(
    path: &Path,
    shapes: &Shapes,
    arrays: Option<&Arrays>,
) -> Result<CheckReport, ImportError> {
    let model = match Model::read(path) {
        Ok(m) => m,
        Err(e @ ImportError::Io { .. }) => return Err(e),
        Err(ImportError::Refused { obstacles, .. }) => {
            return Ok(CheckReport {
                compiles: false,
                operators: BTreeMap::new(),
                blocks: BTreeMap::new(),
                obstacles,
            })
        }
    };
    let (blocks, obstacles) = match run(&model, shapes, arrays) {
        Ok(imported) => (imported.blocks, Vec::new()),
        Err(obstacles) => (BTreeMap::new(), obstacles),
    };
    Ok(CheckReport {
        compiles: obstacles.is_empty(),
        operators: operators(&model),
        blocks,
        obstacles,
    })
}
