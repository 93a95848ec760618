//! The axes of a model's inputs, before any of them is given a size.

use std::path::Path;

use super::error::ImportError;
use super::graph::{declared, Dim};
use super::proto::Model;

/// One axis of a graph input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Axis {
    /// Of this size.
    Fixed(usize),
    /// Open, under this name.
    Symbolic(String),
    /// Open, without a name.
    Open,
}

/// The axes of each graph input that is no initialiser, batch axis included.
///
/// # Errors
/// A file that is no model.
pub fn axes(path: &Path) -> Result<Vec<(String, Vec<Axis>)>, ImportError> {
    let model = Model::read(path)?;
    let inputs = model.graph.input.iter();
    let inputs = inputs.filter(|i| !model.initializers.contains_key(&i.name));
    Ok(inputs
        .map(|i| {
            let dims = declared(i).map(|(_, dims)| dims).unwrap_or_default();
            let axis = |dim| match dim {
                Dim::Fixed(n) => Axis::Fixed(n),
                Dim::Named(name) => Axis::Symbolic(name),
                Dim::Open => Axis::Open,
            };
            (i.name.clone(), dims.into_iter().map(axis).collect())
        })
        .collect())
}
