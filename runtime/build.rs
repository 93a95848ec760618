//! Prints the codelets' assembly, and builds the simulator of the GPU's kernels, if asked to. Nothing else here needs a compiler other than
//! Rust's.

mod codelets;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    print_codelets();
    #[cfg(feature = "simulator")]
    simulator();
}

/// A file per loop, which `ring::ntt::avx2` and `avx512` include.
fn print_codelets() {
    println!("cargo:rerun-if-changed=codelets");
    let folder = std::path::PathBuf::from(std::env::var_os("OUT_DIR").expect("cargo sets it"));
    for (name, text) in codelets::transform::loops() {
        let file = folder.join(format!("{name}.s"));
        std::fs::write(&file, text).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
    }
}

/// Several builds of the kernels and the engine that runs them. HERON_SIMULATOR_SANITIZE names sanitizers ("address,undefined"); a binary with
/// the address sanitizer runs under its library (`runtime/gpu/simulate.sh`).
#[cfg(feature = "simulator")]
fn simulator() {
    println!("cargo:rerun-if-changed=kernels");
    println!("cargo:rerun-if-env-changed=HERON_SIMULATOR_SANITIZE");
    let sanitizers = std::env::var("HERON_SIMULATOR_SANITIZE").unwrap_or_default();
    let compiler = || {
        let mut build = cc::Build::new();
        build.cpp(true).std("c++17").opt_level(2).warnings(true);
        build.flag_if_supported("-Wno-unknown-pragmas");
        if !sanitizers.is_empty() {
            build.flag(format!("-fsanitize={sanitizers}"));
            build
                .flag("-fno-sanitize-recover=all")
                .flag("-fno-omit-frame-pointer");
        }
        build
    };
    for (build, define) in [
        ("plain", None),
        ("without_barriers", Some(("HERON_WITHOUT_BARRIERS", "1"))),
        ("shorter_quotient", Some(("QUOTIENT_BITS", "56"))),
        (
            "mixed_batch",
            Some(("BATCH_NUMBER(number)", "((number) / 2 * 2)")),
        ),
    ] {
        let mut kernels = compiler();
        kernels.file("kernels/simulator/kernels.cpp");
        kernels.define("HERON_BUILD", format!("heron_kernels_{build}").as_str());
        if let Some((name, value)) = define {
            kernels.define(name, value);
        }
        kernels.compile(&format!("heron_kernels_{build}"));
    }
    let mut engine = compiler();
    engine.file("kernels/simulator/engine.cpp");
    engine.compile("heron_simulator");
    for (sanitizer, library) in [("address", "asan"), ("undefined", "ubsan")] {
        if sanitizers.split(',').any(|s| s == sanitizer) {
            println!("cargo:rustc-link-lib=dylib={library}");
        }
    }
}
