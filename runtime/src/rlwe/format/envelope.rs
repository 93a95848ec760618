//! The frame every key and ciphertext file shares: a fixed start, a header of fields, a payload. `docs/formats.md` has every byte.

use super::FormatError;
use std::io::{Read, Write};
use std::path::Path;

/// First bytes of every file.
pub const MAGIC: [u8; 8] = *b"HERONFHE";
/// Version of the frame and of the headers in it.
pub const VERSION: u32 = 1;
/// Payloads start at a multiple of this many bytes, so that mapped residues are aligned.
pub const ALIGNMENT: u64 = 4096;
/// Bytes before the header.
pub const PREFIX: usize = 64;
/// A header larger than this is refused before anything is allocated.
pub const MAX_HEADER: u64 = 64 << 20;

/// What a file holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum FileKind {
    /// The secrets. Never leaves the client.
    ClientKey = 1,
    /// Evaluation keys for the server.
    ServerKeys = 2,
    /// Encrypted inputs.
    Inputs = 3,
    /// Encrypted outputs.
    Outputs = 4,
}

impl FileKind {
    /// The name used in messages.
    pub fn name(self) -> &'static str {
        match self {
            FileKind::ClientKey => "client key",
            FileKind::ServerKeys => "server keys",
            FileKind::Inputs => "encrypted inputs",
            FileKind::Outputs => "encrypted outputs",
        }
    }
}

/// Writes header fields, little-endian.
#[derive(Default)]
pub struct FieldWriter(Vec<u8>);

impl FieldWriter {
    /// An empty header.
    pub fn new() -> Self {
        Self::default()
    }
    /// A 16-bit field.
    pub fn u16(&mut self, v: u16) {
        self.0.extend_from_slice(&v.to_le_bytes());
    }
    /// A 32-bit field.
    pub fn u32(&mut self, v: u32) {
        self.0.extend_from_slice(&v.to_le_bytes());
    }
    /// A signed 32-bit field.
    pub fn i32(&mut self, v: i32) {
        self.0.extend_from_slice(&v.to_le_bytes());
    }
    /// A 64-bit field.
    pub fn u64(&mut self, v: u64) {
        self.0.extend_from_slice(&v.to_le_bytes());
    }
    /// A 128-bit field.
    pub fn u128(&mut self, v: u128) {
        self.0.extend_from_slice(&v.to_le_bytes());
    }
    /// An IEEE 754 double.
    pub fn f64(&mut self, v: f64) {
        self.0.extend_from_slice(&v.to_le_bytes());
    }
    /// Bytes whose number the reader knows.
    pub fn bytes(&mut self, v: &[u8]) {
        self.0.extend_from_slice(v);
    }
    /// A 32-bit length, then that many bytes.
    pub fn text(&mut self, v: &str) {
        self.u32(v.len() as u32);
        self.bytes(v.as_bytes());
    }
    /// The header so far.
    pub fn into_bytes(self) -> Vec<u8> {
        self.0
    }
}

/// Reads header fields; every read is checked against what is left.
pub struct FieldReader<'a> {
    rest: &'a [u8],
}

impl<'a> FieldReader<'a> {
    /// Reads from the start of `bytes`.
    pub fn new(bytes: &'a [u8]) -> Self {
        FieldReader { rest: bytes }
    }
    /// The next `n` bytes.
    pub fn bytes(&mut self, n: usize, field: &'static str) -> Result<&'a [u8], FormatError> {
        if n > self.rest.len() {
            return Err(FormatError::Short {
                field,
                expected: n as u64,
                found: self.rest.len() as u64,
            });
        }
        let (head, tail) = self.rest.split_at(n);
        self.rest = tail;
        Ok(head)
    }
    fn array<const K: usize>(&mut self, field: &'static str) -> Result<[u8; K], FormatError> {
        let mut out = [0; K];
        out.copy_from_slice(self.bytes(K, field)?);
        Ok(out)
    }
    /// A 32-byte identifier or hash.
    pub fn id(&mut self, field: &'static str) -> Result<[u8; 32], FormatError> {
        self.array(field)
    }
    /// A 16-bit field.
    pub fn u16(&mut self, field: &'static str) -> Result<u16, FormatError> {
        Ok(u16::from_le_bytes(self.array(field)?))
    }
    /// A 32-bit field.
    pub fn u32(&mut self, field: &'static str) -> Result<u32, FormatError> {
        Ok(u32::from_le_bytes(self.array(field)?))
    }
    /// A signed 32-bit field.
    pub fn i32(&mut self, field: &'static str) -> Result<i32, FormatError> {
        Ok(i32::from_le_bytes(self.array(field)?))
    }
    /// A 64-bit field.
    pub fn u64(&mut self, field: &'static str) -> Result<u64, FormatError> {
        Ok(u64::from_le_bytes(self.array(field)?))
    }
    /// A 128-bit field.
    pub fn u128(&mut self, field: &'static str) -> Result<u128, FormatError> {
        Ok(u128::from_le_bytes(self.array(field)?))
    }
    /// An IEEE 754 double.
    pub fn f64(&mut self, field: &'static str) -> Result<f64, FormatError> {
        Ok(f64::from_le_bytes(self.array(field)?))
    }
    /// A count of items of at least `item` bytes each: refused when so many cannot be left.
    pub fn count(&mut self, item: usize, field: &'static str) -> Result<usize, FormatError> {
        let n = self.u32(field)? as usize;
        let most = self.rest.len() / item.max(1);
        if n > most {
            return Err(FormatError::Short {
                field,
                expected: n as u64 * item as u64,
                found: self.rest.len() as u64,
            });
        }
        Ok(n)
    }
    /// A 32-bit length, then that many bytes of UTF-8.
    pub fn text(&mut self, field: &'static str) -> Result<String, FormatError> {
        let n = self.count(1, field)?;
        let bytes = self.bytes(n, field)?;
        String::from_utf8(bytes.to_vec()).map_err(|_| FormatError::Field {
            field,
            expected: "UTF-8 text".into(),
            found: "other bytes".into(),
        })
    }
    /// Fails unless everything was read.
    pub fn finish(self) -> Result<(), FormatError> {
        if self.rest.is_empty() {
            return Ok(());
        }
        Err(FormatError::Field {
            field: "header length",
            expected: "no byte after the last field".into(),
            found: format!("{} more", self.rest.len()),
        })
    }
}

/// The checked frame of a file.
pub struct Frame {
    /// The header's bytes, their hash verified.
    pub header: Vec<u8>,
    /// First byte of the payload.
    pub payload_offset: u64,
    /// Bytes of payload: exactly what is left of the file.
    pub payload_length: u64,
}

/// Where the payload starts, for a header of this length.
fn payload_offset(header: u64) -> u64 {
    (PREFIX as u64 + header + 32).div_ceil(ALIGNMENT) * ALIGNMENT
}

/// The bytes before the payload: prefix, header, hash of both, zeros up to the payload.
pub fn frame_bytes(kind: FileKind, header: &[u8], payload_length: u64) -> Vec<u8> {
    let offset = payload_offset(header.len() as u64);
    let mut out = Vec::with_capacity(offset as usize);
    out.extend_from_slice(&MAGIC);
    out.extend_from_slice(&VERSION.to_le_bytes());
    out.extend_from_slice(&(kind as u32).to_le_bytes());
    out.extend_from_slice(&(header.len() as u64).to_le_bytes());
    out.extend_from_slice(&offset.to_le_bytes());
    out.extend_from_slice(&payload_length.to_le_bytes());
    out.resize(PREFIX, 0);
    out.extend_from_slice(header);
    let hash = blake3::hash(&out);
    out.extend_from_slice(hash.as_bytes());
    out.resize(offset as usize, 0);
    out
}

/// Reads and checks a file's frame: magic, version, kind, lengths against the file's real length, hash. Leaves `file` at the payload.
pub fn read_frame(
    file: &mut impl Read,
    file_length: u64,
    kind: FileKind,
) -> Result<Frame, FormatError> {
    let mut prefix = [0u8; PREFIX];
    read_exactly(file, &mut prefix, "prefix")?;
    let mut fields = FieldReader::new(&prefix);
    let field = |field, expected: String, found: String| FormatError::Field {
        field,
        expected,
        found,
    };
    if fields.bytes(8, "magic")? != MAGIC {
        return Err(FormatError::NotOurs {
            expected: kind.name(),
        });
    }
    let version = fields.u32("version")?;
    if version != VERSION {
        return Err(field("version", VERSION.to_string(), version.to_string()));
    }
    let found = fields.u32("kind")?;
    if found != kind as u32 {
        return Err(field(
            "kind",
            format!("{} ({})", kind as u32, kind.name()),
            found.to_string(),
        ));
    }
    let header_length = fields.u64("header length")?;
    if header_length > MAX_HEADER || header_length > file_length {
        return Err(field(
            "header length",
            format!("at most {}", MAX_HEADER.min(file_length)),
            header_length.to_string(),
        ));
    }
    let offset = fields.u64("payload offset")?;
    if offset != payload_offset(header_length) {
        return Err(field(
            "payload offset",
            payload_offset(header_length).to_string(),
            offset.to_string(),
        ));
    }
    let payload_length = fields.u64("payload length")?;
    if offset.checked_add(payload_length) != Some(file_length) {
        return Err(field(
            "payload length",
            format!(
                "{} (what is left of the file)",
                file_length.saturating_sub(offset)
            ),
            payload_length.to_string(),
        ));
    }
    let mut rest = vec![0u8; (offset - PREFIX as u64) as usize];
    read_exactly(file, &mut rest, "header")?;
    let (header, tail) = rest.split_at(header_length as usize);
    let (hash, padding) = tail.split_at(32);
    let mut hasher = blake3::Hasher::new();
    hasher.update(&prefix);
    hasher.update(header);
    if hasher.finalize().as_bytes() != hash {
        return Err(FormatError::Hash {
            part: "header".into(),
        });
    }
    if padding.iter().chain(&prefix[40..]).any(|&b| b != 0) {
        return Err(field("padding", "zeros".into(), "other bytes".into()));
    }
    Ok(Frame {
        header: header.to_vec(),
        payload_offset: offset,
        payload_length,
    })
}

/// `read_exact` with the place in the error.
pub fn read_exactly(
    file: &mut impl Read,
    into: &mut [u8],
    field: &'static str,
) -> Result<(), FormatError> {
    file.read_exact(into).map_err(|source| {
        if source.kind() == std::io::ErrorKind::UnexpectedEof {
            FormatError::Short {
                field,
                expected: into.len() as u64,
                found: 0,
            }
        } else {
            FormatError::Io {
                action: "read",
                source,
            }
        }
    })
}

/// Writes a whole file or nothing; anybody may read it, for nothing secret is in it.
pub fn write_atomically(
    path: &Path,
    write: impl FnOnce(&mut dyn Write) -> std::io::Result<()>,
) -> Result<(), FormatError> {
    heron_schedule::atomic::write_file(path, false, |out| write(out)).map_err(|source| {
        FormatError::Io {
            action: "write",
            source,
        }
    })
}
