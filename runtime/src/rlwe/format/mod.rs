//! Files: the frame they share, and `server.keys`.

pub mod envelope;
pub mod ring_header;
pub mod server_keys;

use thiserror::Error;

/// Why a key or ciphertext file was refused or could not be written. The caller adds the path.
#[derive(Debug, Error)]
pub enum FormatError {
    /// The operating system refused.
    #[error("cannot {action} the file: {source}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// The system's reason.
        source: std::io::Error,
    },
    /// Not one of heron's files.
    #[error("not a heron file: expected {expected}, found another magic")]
    NotOurs {
        /// The kind of file asked for.
        expected: &'static str,
    },
    /// The file ends too early, or a count promises more than there is.
    #[error("truncated at `{field}`: expected {expected} bytes, found {found}")]
    Short {
        /// The field being read.
        field: &'static str,
        /// Bytes needed.
        expected: u64,
        /// Bytes left.
        found: u64,
    },
    /// A field holds what it may not.
    #[error("field `{field}`: expected {expected}, found {found}")]
    Field {
        /// The field.
        field: &'static str,
        /// What is allowed.
        expected: String,
        /// What is there.
        found: String,
    },
    /// Bytes and their BLAKE3 differ: the file was altered or damaged.
    #[error("damaged: the hash of {part} does not match; transfer or make the file again")]
    Hash {
        /// Which bytes.
        part: String,
    },
    /// The file belongs to other parameters, another key or another schedule.
    #[error("{what} does not belong here: expected {expected}…, found {found}…; {remedy}")]
    Mismatch {
        /// Which identifier.
        what: &'static str,
        /// First bytes of the identifier expected, in hexadecimal.
        expected: String,
        /// First bytes of the one found.
        found: String,
        /// What to do.
        remedy: &'static str,
    },
    /// A secret file that others may read.
    #[error("the client key is readable by others (mode {found:o}); run `chmod 600` on it")]
    Exposed {
        /// Permission bits found.
        found: u32,
    },
    /// The parameter set a file names is not known.
    #[error(transparent)]
    Parameters(#[from] heron_schedule::params::ParameterError),
}

/// First eight bytes in hexadecimal, as messages show identifiers.
pub fn short_hex(id: &[u8]) -> String {
    id.iter().take(8).map(|b| format!("{b:02x}")).collect()
}

/// Compares two identifiers.
pub fn require_same_id(
    what: &'static str,
    expected: &[u8; 32],
    found: &[u8; 32],
    remedy: &'static str,
) -> Result<(), FormatError> {
    if expected == found {
        return Ok(());
    }
    Err(FormatError::Mismatch {
        what,
        expected: short_hex(expected),
        found: short_hex(found),
        remedy,
    })
}
