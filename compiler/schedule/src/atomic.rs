//! Output files are written whole or not at all.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

/// Writes a file through a temporary one beside it and a rename. On failure nothing is left behind and what was there stays.
/// `private`: readable by the owner only (mode 0600).
pub fn write_file(
    path: &Path,
    private: bool,
    write: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>,
) -> io::Result<()> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let temporary = tempfile::Builder::new()
        .prefix(".heron-")
        .tempfile_in(folder)?;
    let (file, temporary) = temporary.into_parts();
    let mut out = BufWriter::new(file);
    write(&mut out)?;
    let file = out.into_inner().map_err(|e| e.into_error())?;
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mode = if private { 0o600 } else { 0o644 };
        file.set_permissions(std::fs::Permissions::from_mode(mode))?;
    }
    #[cfg(not(unix))]
    let _ = private;
    file.sync_all()?;
    temporary.persist(path).map_err(|e| e.error)?;
    Ok(())
}

/// [`write_file`] of bytes at hand.
pub fn write_bytes(path: &Path, private: bool, bytes: &[u8]) -> io::Result<()> {
    write_file(path, private, |out| out.write_all(bytes))
}
