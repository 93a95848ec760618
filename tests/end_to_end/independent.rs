//! `tests/independent/verify.py`, which shares no code with heron, agrees that this is encryption.

use crate::support::{repository, Folder};
use std::process::Command;

#[test]
fn an_independent_program_decrypts_the_files_and_finds_sound_keys() {
    let has_numpy = |python: &&str| {
        let output = Command::new(python).args(["-c", "import numpy"]).output();
        output.is_ok_and(|o| o.status.success())
    };
    // The system's own python too: packages of the distribution are not seen by another one that comes first in PATH.
    let Some(python) = ["python3", "/usr/bin/python3"]
        .into_iter()
        .find(|p| has_numpy(p))
    else {
        println!("SKIPPED: no python3 with numpy");
        return;
    };
    let folder = Folder::with_sample(6);
    let encrypt = |output| {
        folder.heron(&[
            "encrypt",
            "sample.client",
            "--client-key",
            "client.key",
            "--input",
            "in.npz",
            "-o",
            output,
        ])
    };
    let keygen = |key, keys| {
        folder.heron(&[
            "keygen",
            "sample.client",
            "--client-key",
            key,
            "--server-keys",
            keys,
        ])
    };
    keygen("client.key", "server.keys").ok();
    keygen("other.key", "other.keys").ok();
    encrypt("in.ct").ok();
    encrypt("again.ct").ok();
    for call in [
        [
            "run",
            "sample.heron",
            "--server-keys",
            "server.keys",
            "--input",
            "in.ct",
            "-o",
            "out.ct",
        ],
        [
            "decrypt",
            "sample.client",
            "--client-key",
            "client.key",
            "--input",
            "out.ct",
            "-o",
            "out.npz",
        ],
    ] {
        folder.heron(&call).ok();
    }
    let script = repository("tests/independent/verify.py");
    let arguments = [
        "client.key",
        "--server-keys",
        "server.keys",
        "--values",
        "in.ct",
        "in.npz",
        "--values",
        "out.ct",
        "out.npz",
        "--twice",
        "in.ct",
        "again.ct",
        "--other-key",
        "other.key",
    ];
    let output = Command::new(python)
        .arg(script)
        .args(arguments)
        .current_dir(folder.path(""))
        .output()
        .expect("python3 starts");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    println!("{text}");
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        output.status.success() && text.contains("all checks passed"),
        "{errors}"
    );
}
