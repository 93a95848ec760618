//! `X.heron` and `X.client`: a header, the program as protobuf, and a page-aligned weights section that can be mapped.
//!
//! | offset | bytes | content |
//! |---|---|---|
//! | 0 | 8 | magic `HERONSCH` |
//! | 8 | 4 | version, 2 |
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

mod bases;
mod client;
mod read;
mod schedule;
mod write;

use crate::verify::VerifyError;
use std::io;
use std::path::{Path, PathBuf};
use thiserror::Error;

pub use client::ClientSchedule;
pub use schedule::{schedule_id, Schedule};

const MAGIC: &[u8; 8] = b"HERONSCH";
const VERSION: u32 = 2;
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

fn malformed(path: &Path, reason: &str) -> ContainerError {
    ContainerError::Malformed {
        path: path.into(),
        reason: reason.into(),
    }
}
