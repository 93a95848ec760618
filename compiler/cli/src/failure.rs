//! `error[KIND]: …`: every way a request can fail, in one line.

use heron_compiler::calibration::InputError;
use heron_compiler::npz::NpzError;
use heron_compiler::onnx::ImportError;
use heron_compiler::reference::ReferenceError;
use heron_runtime::ckks::CkksError;
use heron_runtime::exec::ports::PortError;
use heron_runtime::exec::ExecError;
use heron_runtime::rlwe::format::FormatError;
use heron_runtime::rlwe::RlweError;
use heron_schedule::params::ParameterError;
use heron_schedule::{ContainerError, VerifyError, WeightsError};
use std::fmt;
use std::path::Path;

/// A request that could not be met.
#[derive(Debug)]
pub struct Failure {
    /// The word in brackets; one of INTERFACE's.
    pub kind: &'static str,
    /// What went wrong, where, and what to do.
    pub message: String,
}

/// Result of a command.
pub type Outcome<T = ()> = Result<T, Failure>;

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "error[{}]: {}", self.kind, self.message)
    }
}

impl Failure {
    /// A failure of a kind.
    pub fn new(kind: &'static str, message: impl Into<String>) -> Failure {
        Failure {
            kind,
            message: message.into(),
        }
    }

    /// What this version does not do yet.
    pub fn not_yet(what: &str, instead: &str) -> Failure {
        Failure::new(
            "resource",
            format!("{what} is not available in this version; {instead}"),
        )
    }

    /// Names the file a failure is about.
    pub fn at(mut self, path: &Path) -> Failure {
        self.message = format!("{}: {}", path.display(), self.message);
        self
    }
}

/// Adds the file to an error.
pub trait At<T> {
    /// As [`Failure::at`].
    fn at(self, path: &Path) -> Outcome<T>;
}

impl<T, E: Into<Failure>> At<T> for Result<T, E> {
    fn at(self, path: &Path) -> Outcome<T> {
        self.map_err(|e| e.into().at(path))
    }
}

impl From<std::io::Error> for Failure {
    fn from(e: std::io::Error) -> Self {
        Failure::new("io", e.to_string())
    }
}

impl From<ParameterError> for Failure {
    fn from(e: ParameterError) -> Self {
        let kind = match e {
            ParameterError::Security(_) => "security",
            ParameterError::IdMismatch { .. } => "mismatch",
            _ => "malformed",
        };
        Failure::new(kind, e.to_string())
    }
}

impl From<VerifyError> for Failure {
    fn from(e: VerifyError) -> Self {
        match e {
            VerifyError::Parameters(e) => e.into(),
            e => Failure::new("malformed", e.to_string()),
        }
    }
}

impl From<WeightsError> for Failure {
    fn from(e: WeightsError) -> Self {
        let kind = match e {
            WeightsError::NotFinite { .. } => "non-finite",
            _ => "malformed",
        };
        Failure::new(kind, e.to_string())
    }
}

impl From<ContainerError> for Failure {
    fn from(e: ContainerError) -> Self {
        let kind = match &e {
            ContainerError::Io { .. } => "io",
            ContainerError::External { .. } => "external-data",
            ContainerError::Malformed { .. } => "malformed",
            ContainerError::Verify { source, .. } => Failure::from(source.clone()).kind,
        };
        Failure::new(kind, e.to_string())
    }
}

impl From<FormatError> for Failure {
    fn from(e: FormatError) -> Self {
        let kind = match &e {
            FormatError::Io { .. } => "io",
            FormatError::Mismatch { .. } => "mismatch",
            FormatError::Exposed { .. } => "security",
            FormatError::Parameters(p) => Failure::from(p.clone()).kind,
            _ => "malformed",
        };
        Failure::new(kind, e.to_string())
    }
}

impl From<RlweError> for Failure {
    fn from(e: RlweError) -> Self {
        let kind = match &e {
            RlweError::Security(_) | RlweError::KeyNotAllowed { .. } => "security",
            RlweError::NoKey { .. } => "mismatch",
            RlweError::Device(_) => "resource",
            _ => "malformed",
        };
        Failure::new(kind, e.to_string())
    }
}

impl From<CkksError> for Failure {
    fn from(e: CkksError) -> Self {
        match e {
            CkksError::Rlwe(e) => e.into(),
            CkksError::Parameters(e) => e.into(),
            e => Failure::new("malformed", e.to_string()),
        }
    }
}

impl From<ExecError> for Failure {
    fn from(e: ExecError) -> Self {
        match e {
            ExecError::Verify(e) => e.into(),
            ExecError::Weights(e) => e.into(),
            ExecError::Parameters(e) => e.into(),
            ExecError::Device(e) => e.into(),
            ExecError::Inputs(_) => Failure::new("mismatch", e.to_string()),
            e => Failure::new("malformed", e.to_string()),
        }
    }
}

impl From<PortError> for Failure {
    fn from(e: PortError) -> Self {
        let kind = match &e {
            PortError::Count { .. } | PortError::Shape { .. } => "shape",
            PortError::NotFinite { .. } => "non-finite",
            PortError::Token { .. } => "range",
            PortError::Output { .. } => "mismatch",
            PortError::Weights(_) => "malformed",
        };
        Failure::new(kind, e.to_string())
    }
}

impl From<NpzError> for Failure {
    fn from(e: NpzError) -> Self {
        Failure::new(e.kind().name(), e.to_string())
    }
}

impl From<InputError> for Failure {
    fn from(e: InputError) -> Self {
        Failure::new(e.kind().name(), e.to_string())
    }
}

impl From<ImportError> for Failure {
    fn from(e: ImportError) -> Self {
        Failure::new(e.kind().name(), e.to_string())
    }
}

impl From<ReferenceError> for Failure {
    fn from(e: ReferenceError) -> Self {
        match e {
            ReferenceError::Import(e) => e.into(),
            e => Failure::new("graph", e.to_string()),
        }
    }
}
