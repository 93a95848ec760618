//! A folder to work in and a way to call heron there.

use heron_compiler::npz::{self, Array, Arrays};
use heron_schedule::params::Profile;
use heron_schedule::sample::{sample, SAMPLE_ELEMENTS};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// A temporary folder.
pub struct Folder(tempfile::TempDir);

/// What a call of heron gave.
pub struct Called {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Called {
    /// Insists on success.
    pub fn ok(self) -> Called {
        assert_eq!(self.code, Some(0), "{}", self.stderr);
        self
    }

    /// Insists on exit code 1 with one error line of this kind and without a backtrace; returns the line.
    pub fn refused(self, kind: &str) -> String {
        let errors: Vec<&str> = self
            .stderr
            .lines()
            .filter(|l| l.starts_with("error"))
            .collect();
        assert_eq!(self.code, Some(1), "{}", self.stderr);
        assert_eq!(errors.len(), 1, "{}", self.stderr);
        assert!(
            errors[0].starts_with(&format!("error[{kind}]: ")),
            "{}",
            errors[0]
        );
        assert!(!self.stderr.contains("panicked"), "{}", self.stderr);
        errors[0].to_string()
    }

    /// Stdout as JSON.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdout).expect("JSON on stdout")
    }
}

impl Folder {
    pub fn new() -> Folder {
        Folder(tempfile::tempdir().expect("a temporary folder"))
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Calls heron in the folder.
    pub fn heron(&self, arguments: &[&str]) -> Called {
        self.heron_in(arguments, &[])
    }

    /// Runs the binary in this folder with some variables set.
    pub fn heron_in(&self, arguments: &[&str], variables: &[(&str, &str)]) -> Called {
        let output: Output = Command::new(env!("CARGO_BIN_EXE_heron"))
            .args(arguments)
            .envs(variables.iter().copied())
            .current_dir(self.0.path())
            .output()
            .expect("heron starts");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Called {
            code: output.status.code(),
            stdout: text(&output.stdout),
            stderr: text(&output.stderr),
        }
    }

    /// Writes the sample schedule, its client file and `count` inputs: `sample.heron`, `sample.client`, `in.npz`.
    pub fn with_sample(count: usize) -> Folder {
        let folder = Folder::new();
        let schedule = sample(Profile::Toy).expect("sample");
        schedule.save(&folder.path("sample.heron")).expect("saves");
        let client = schedule.client().expect("client part");
        client.save(&folder.path("sample.client")).expect("saves");
        folder.write("in.npz", &sample_inputs(count), &[count, SAMPLE_ELEMENTS]);
        folder
    }

    /// Leaves the folder where it is.
    pub fn keep(self) -> PathBuf {
        self.0.keep()
    }

    /// Writes `x` as an array.
    pub fn write(&self, name: &str, data: &[f64], shape: &[usize]) {
        let array = Array {
            shape: shape.to_vec(),
            data: data.to_vec(),
            integer: false,
        };
        let arrays = Arrays([("x".to_string(), array)].into());
        npz::write(&self.path(name), &arrays).expect("writes");
    }

    /// Reads the array `name` of a file.
    pub fn read(&self, file: &str, name: &str) -> Array {
        let arrays = npz::read(&self.path(file)).expect("reads");
        arrays.0.get(name).cloned().expect("the array is there")
    }

    /// Names of the files in the folder.
    pub fn files(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.0.path()).expect("lists");
        let mut names: Vec<String> = entries
            .map(|e| {
                e.expect("an entry")
                    .file_name()
                    .to_string_lossy()
                    .into_owned()
            })
            .collect();
        names.sort();
        names
    }
}

/// `count` inputs of the sample, in [-1, 1], exact in f32.
pub fn sample_inputs(count: usize) -> Vec<f64> {
    let value = |i: usize| ((i * 37) % 64) as f64 / 32.0 - 1.0;
    (0..count * SAMPLE_ELEMENTS).map(value).collect()
}

/// A file of the repository.
pub fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../..")
        .join(path)
}
