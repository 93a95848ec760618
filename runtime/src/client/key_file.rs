//! `client.key`: the secrets on disk, readable by their owner only.

use super::keygen::ClientKey;
use super::secret::SecretKey;
use crate::rlwe::format::envelope::{
    frame_bytes, read_exactly, read_frame, FieldReader, FieldWriter, FileKind,
};
use crate::rlwe::format::{ring_header, FormatError};
use crate::rlwe::RlweContext;
use heron_schedule::params::SecretKind;
use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use zeroize::Zeroizing;

/// The weight field of a secret: its number of non-zero coefficients, or all ones where they are uniform.
fn weight(kind: SecretKind) -> u32 {
    match kind {
        SecretKind::UniformTernary => u32::MAX,
        SecretKind::SparseTernary { hamming_weight } => hamming_weight,
    }
}

impl ClientKey {
    /// Writes `client.key` with mode 0600, whole or not at all. An existing file is never replaced: the keys it decrypts for would be lost.
    ///
    /// # Errors
    /// If the file exists or cannot be written.
    pub fn write(&self, path: &Path) -> Result<(), FormatError> {
        let io = |action| move |source| FormatError::Io { action, source };
        let n = self.context.ring().degree();
        let mut payload = Zeroizing::new(Vec::with_capacity(2 * n));
        for secret in [self.secret.main(), self.secret.ephemeral()] {
            payload.extend(secret.iter().map(|&c| c as u8));
        }
        let mut out = FieldWriter::new();
        ring_header::write(&mut out, &self.context, &self.key_id);
        out.u32(weight(self.context.params().secret()));
        out.u32(weight(self.context.params().ephemeral_secret()));
        out.bytes(blake3::hash(&payload).as_bytes());
        let frame = frame_bytes(FileKind::ClientKey, &out.into_bytes(), payload.len() as u64);
        let parent = match path.parent() {
            Some(p) if !p.as_os_str().is_empty() => p,
            _ => Path::new("."),
        };
        // Created with O_EXCL and mode 0600 under a random name, so that no other process ever sees a readable or partial key.
        let mut file =
            tempfile::NamedTempFile::new_in(parent).map_err(io("create a file beside"))?;
        file.write_all(&frame).map_err(io("write"))?;
        file.write_all(&payload).map_err(io("write"))?;
        file.as_file().sync_all().map_err(io("flush"))?;
        file.persist_noclobber(path)
            .map_err(|e| io("create")(e.error))?;
        Ok(())
    }

    /// Reads `client.key`.
    ///
    /// # Errors
    /// If others can read the file, or it is damaged, or of another parameter set.
    pub fn read(path: &Path, context: Arc<RlweContext>) -> Result<Self, FormatError> {
        let io = |action| move |source| FormatError::Io { action, source };
        let mut file = File::open(path).map_err(io("open"))?;
        let metadata = file.metadata().map_err(io("read the mode of"))?;
        refuse_exposed(&metadata)?;
        let frame = read_frame(&mut file, metadata.len(), FileKind::ClientKey)?;
        let mut fields = FieldReader::new(&frame.header);
        let header = ring_header::expect(&mut fields, &context)?;
        for kind in [
            context.params().secret(),
            context.params().ephemeral_secret(),
        ] {
            let found = fields.u32("secret weight")?;
            if found != weight(kind) {
                return Err(FormatError::Field {
                    field: "secret weight",
                    expected: weight(kind).to_string(),
                    found: found.to_string(),
                });
            }
        }
        let hash = fields.id("hash of the secrets")?;
        fields.finish()?;
        let n = context.ring().degree();
        if frame.payload_length != 2 * n as u64 {
            return Err(FormatError::Field {
                field: "payload length",
                expected: (2 * n).to_string(),
                found: frame.payload_length.to_string(),
            });
        }
        let mut payload = Zeroizing::new(vec![0u8; 2 * n]);
        read_exactly(&mut file, &mut payload, "secrets")?;
        if blake3::hash(&payload).as_bytes() != &hash {
            return Err(FormatError::Hash {
                part: "the secrets".into(),
            });
        }
        let half = |range: std::ops::Range<usize>| {
            Zeroizing::new(payload[range].iter().map(|&b| b as i8).collect::<Vec<i8>>())
        };
        let secret = SecretKey::from_coefficients(n, half(0..n), half(n..2 * n)).ok_or(
            FormatError::Field {
                field: "secrets",
                expected: "coefficients in {-1, 0, 1}".into(),
                found: "others".into(),
            },
        )?;
        Ok(Self {
            context,
            secret,
            key_id: header.key_id,
            encryptions: Default::default(),
        })
    }
}

#[cfg(unix)]
fn refuse_exposed(metadata: &std::fs::Metadata) -> Result<(), FormatError> {
    use std::os::unix::fs::PermissionsExt;
    let mode = metadata.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(FormatError::Exposed { found: mode });
    }
    Ok(())
}

#[cfg(not(unix))]
fn refuse_exposed(_: &std::fs::Metadata) -> Result<(), FormatError> {
    Ok(())
}
