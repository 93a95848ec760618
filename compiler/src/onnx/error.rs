//! Why a model is refused.

use std::fmt;

/// The word in `error[KIND]` (INTERFACE.md).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ErrorKind {
    /// An operator, or a use of one, that cannot run under encryption.
    UnsupportedOp,
    /// Shapes that do not fit together.
    Shape,
    /// An interval that a function cannot take.
    Range,
    /// Names that are missing, doubled or on a cycle.
    Graph,
    /// Bytes that are not what the format says.
    Malformed,
    /// An operator set that is not known.
    Opset,
    /// Larger than the limits.
    Size,
    /// NaN or infinity among the weights.
    NonFinite,
    /// Weights in other files.
    ExternalData,
    /// Arrays that do not fit the model.
    Mismatch,
    /// Files that cannot be read or written.
    Io,
}

impl ErrorKind {
    /// The name printed between brackets.
    pub fn name(self) -> &'static str {
        match self {
            ErrorKind::UnsupportedOp => "unsupported-op",
            ErrorKind::Shape => "shape",
            ErrorKind::Range => "range",
            ErrorKind::Graph => "graph",
            ErrorKind::Malformed => "malformed",
            ErrorKind::Opset => "opset",
            ErrorKind::Size => "size",
            ErrorKind::NonFinite => "non-finite",
            ErrorKind::ExternalData => "external-data",
            ErrorKind::Mismatch => "mismatch",
            ErrorKind::Io => "io",
        }
    }
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// One thing that keeps a model from compiling.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Obstacle {
    /// What sort of thing.
    pub kind: ErrorKind,
    /// The ONNX node or tensor; an unnamed node goes by its first output.
    pub node: String,
    /// Its operator; empty for a tensor.
    pub op: String,
    /// What was expected and what was found.
    pub reason: String,
    /// What to do about it.
    pub remedy: String,
}

impl Obstacle {
    pub(crate) fn new(
        kind: ErrorKind,
        node: impl Into<String>,
        reason: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Obstacle {
            kind,
            node: node.into(),
            op: String::new(),
            reason: reason.into(),
            remedy: remedy.into(),
        }
    }
}

impl fmt::Display for Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.node.is_empty(), self.op.is_empty()) {
            (true, _) => write!(f, "{}", self.reason)?,
            (false, true) => write!(f, "`{}`: {}", self.node, self.reason)?,
            (false, false) => write!(f, "node `{}` ({}): {}", self.node, self.op, self.reason)?,
        }
        if !self.remedy.is_empty() {
            write!(f, "; {}", self.remedy)?;
        }
        Ok(())
    }
}

/// Why a file was not imported.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// A file could not be read.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// Everything found wrong, at least one entry; the first gives the kind.
    #[error("{path}: {}", list(.obstacles))]
    Refused {
        /// The file.
        path: String,
        /// All of them, in the order of the model.
        obstacles: Vec<Obstacle>,
    },
}

fn list(obstacles: &[Obstacle]) -> String {
    let lines: Vec<String> = obstacles.iter().map(|o| o.to_string()).collect();
    lines.join("\n  ")
}

impl ImportError {
    /// The word for `error[KIND]`.
    pub fn kind(&self) -> ErrorKind {
        match self {
            ImportError::Io { .. } => ErrorKind::Io,
            ImportError::Refused { obstacles, .. } => {
                obstacles.first().map_or(ErrorKind::Malformed, |o| o.kind)
            }
        }
    }

    /// The obstacles, empty for a file that could not be read.
    pub fn obstacles(&self) -> &[Obstacle] {
        match self {
            ImportError::Io { .. } => &[],
            ImportError::Refused { obstacles, .. } => obstacles,
        }
    }
}
