//! The kernels' source, inside the binary: one text, and a name for what it compiles to.

/// In the order of their includes.
const FILES: [(&str, &str); 18] = [
    ("device.cuh", include_str!("../../../kernels/device.cuh")),
    ("word.cuh", include_str!("../../../kernels/word.cuh")),
    ("ring.cuh", include_str!("../../../kernels/ring.cuh")),
    (
        "automorphism.cuh",
        include_str!("../../../kernels/automorphism.cuh"),
    ),
    (
        "extension.cuh",
        include_str!("../../../kernels/extension.cuh"),
    ),
    (
        "key_product.cuh",
        include_str!("../../../kernels/key_product.cuh"),
    ),
    (
        "linear_sums.cuh",
        include_str!("../../../kernels/linear_sums.cuh"),
    ),
    ("passes.cuh", include_str!("../../../kernels/passes.cuh")),
    ("encode.cuh", include_str!("../../../kernels/encode.cuh")),
    ("ntt.cuh", include_str!("../../../kernels/ntt.cuh")),
    (
        "extend_columns.cuh",
        include_str!("../../../kernels/extend_columns.cuh"),
    ),
    ("pipes.cuh", include_str!("../../../kernels/pipes.cuh")),
    (
        "pointwise.cuh",
        include_str!("../../../kernels/pointwise.cuh"),
    ),
    ("product.cuh", include_str!("../../../kernels/product.cuh")),
    (
        "rotated_sums.cuh",
        include_str!("../../../kernels/rotated_sums.cuh"),
    ),
    (
        "rows_key_product.cuh",
        include_str!("../../../kernels/rows_key_product.cuh"),
    ),
    (
        "shared_products.cuh",
        include_str!("../../../kernels/shared_products.cuh"),
    ),
    ("heron.cu", include_str!("../../../kernels/heron.cu")),
];

/// All files as one, without the lines that would include them.
pub fn source() -> String {
    let mut text = String::new();
    for (name, file) in FILES {
        text.push_str(&format!("#line 1 \"{name}\"\n"));
        for line in file.lines() {
            let skipped = line.starts_with("#include \"") || line.starts_with("#pragma once");
            text.push_str(if skipped { "" } else { line });
            text.push('\n');
        }
    }
    text
}

/// What the source and the options decide, as a name: equal names, equal machine code from one compiler.
pub fn fingerprint(options: &[String]) -> String {
    let mut hasher = blake3::Hasher::new();
    hasher.update(source().as_bytes());
    for option in options {
        hasher.update(option.as_bytes());
        hasher.update(&[0]);
    }
    hasher.finalize().to_hex()[..24].to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kernel_file_is_in_the_source_once_after_what_it_includes() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/kernels");
        let mut names: Vec<String> = std::fs::read_dir(folder)
            .expect("kernels")
            .map(|entry| {
                entry
                    .expect("entry")
                    .file_name()
                    .into_string()
                    .expect("a name")
            })
            .filter(|name| name.contains(".cu"))
            .collect();
        names.sort();
        let mut listed: Vec<&str> = FILES.iter().map(|(name, _)| *name).collect();
        for (i, (name, file)) in FILES.iter().enumerate() {
            for line in file.lines().filter(|l| l.starts_with("#include \"")) {
                let included = line.split('"').nth(1).expect("a quoted name");
                let before = FILES[..i].iter().any(|(n, _)| *n == included);
                assert!(before, "{name} includes {included}, which comes later");
            }
        }
        listed.sort_unstable();
        assert_eq!(names, listed);
        assert!(!source().contains("#include"));
    }

    #[test]
    fn a_fingerprint_depends_on_the_options() {
        let a = fingerprint(&["-DHERON_LOG_N=16".into()]);
        assert_eq!(a.len(), 24);
        assert_ne!(a, fingerprint(&["-DHERON_LOG_N=15".into()]));
    }
}
