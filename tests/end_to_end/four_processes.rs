//! keygen, encrypt, run, decrypt as four processes.

use crate::support::{sample_inputs, Folder};
use heron_schedule::sample::{sample_reference, SAMPLE_ELEMENTS};

const KEYGEN: [&str; 6] = [
    "keygen",
    "sample.client",
    "--client-key",
    "client.key",
    "--server-keys",
    "server.keys",
];
const ENCRYPT: [&str; 8] = [
    "encrypt",
    "sample.client",
    "--client-key",
    "client.key",
    "--input",
    "in.npz",
    "-o",
    "in.ct",
];
const RUN: [&str; 10] = [
    "run",
    "sample.heron",
    "--server-keys",
    "server.keys",
    "--input",
    "in.ct",
    "-o",
    "out.ct",
    "--profile-out",
    "profile.json",
];
const DECRYPT: [&str; 8] = [
    "decrypt",
    "sample.client",
    "--client-key",
    "client.key",
    "--input",
    "out.ct",
    "-o",
    "out.npz",
];

/// The bootstrap dominates: at least 16 bits in the worst slot, and squaring a value below 2 multiplies its error by at most 4.
const BOUND: f64 = 4.0 / 65536.0;

fn worst(found: &[f64], count: usize) -> f64 {
    let inputs = sample_inputs(count);
    let expected: Vec<f64> = inputs
        .chunks(SAMPLE_ELEMENTS)
        .flat_map(sample_reference)
        .collect();
    assert_eq!(found.len(), expected.len());
    let differences = found.iter().zip(&expected).map(|(a, b)| (a - b).abs());
    differences.fold(0.0, f64::max)
}

#[test]
fn four_processes_compute_what_the_formula_says_and_the_server_never_sees_the_key() {
    // Six inputs of a batch of four: two runs, the second half empty.
    let client = Folder::with_sample(6);
    let warned = client.heron(&KEYGEN).ok();
    assert!(warned.stderr.contains("INSECURE"), "{}", warned.stderr);
    let warned = client.heron(&ENCRYPT).ok();
    assert!(warned.stderr.contains("INSECURE"), "{}", warned.stderr);
    let server = Folder::new();
    for name in ["server.keys", "in.ct"] {
        std::fs::copy(client.path(name), server.path(name)).expect("copies");
    }
    std::fs::copy(client.path("sample.heron"), server.path("sample.heron")).expect("copies");
    let ran = server.heron(&RUN).ok();
    assert!(ran.stderr.contains("INSECURE"), "{}", ran.stderr);
    let there = [
        "in.ct",
        "out.ct",
        "profile.json",
        "sample.heron",
        "server.keys",
    ];
    assert_eq!(server.files(), there);
    std::fs::copy(server.path("out.ct"), client.path("out.ct")).expect("copies");
    client.heron(&DECRYPT).ok();
    let found = client.read("out.npz", "y");
    assert_eq!(found.shape, vec![6, SAMPLE_ELEMENTS]);
    let error = worst(&found.data, 6);
    println!("largest error {error:.2e} (bound {BOUND:.2e})");
    assert!(error < BOUND);

    let profile = std::fs::read_to_string(server.path("profile.json")).expect("a profile");
    let profile: serde_json::Value = serde_json::from_str(&profile).expect("JSON");
    let bytes = |field: &str| profile[field].as_u64().expect("bytes");
    let keys = std::fs::metadata(server.path("server.keys")).expect("keys");
    assert!(bytes("estimated_peak_bytes") > keys.len() && bytes("peak_bytes") > keys.len());
    assert!(ran.stderr.contains("GiB (estimated"), "{}", ran.stderr);
    let total = profile["seconds"].as_f64().expect("seconds");
    for rows in ["by_kind", "by_primitive", "by_layer_kind"] {
        let rows_of = profile[rows].as_array().expect("rows").iter();
        let sum: f64 = rows_of.filter_map(|k| k["seconds"].as_f64()).sum();
        println!("{sum:.6} s {rows} of {total:.6} s");
        assert!((sum - total).abs() <= 1e-6 * total);
    }
    let primitives = profile["by_primitive"].as_array().expect("rows").iter();
    let counted: Vec<(&str, u64)> = primitives
        .map(|p| {
            let name = p["primitive"].as_str().expect("a name");
            let took = p["seconds"].as_f64() > Some(0.0);
            assert_eq!(took, name != "ciphertext_product", "{name}");
            (name, p["count"].as_u64().expect("a count"))
        })
        .collect();
    // Two runs of three plaintext products and a bias, two rotations inside the linear map and one outside, two squares.
    let expected = [
        ("bootstrap", 2),
        ("plaintext_product", 6),
        ("ciphertext_product", 0),
        ("rotation", 6),
        ("encoding", 8),
        ("polynomial", 4),
        ("rest", 6),
    ];
    assert_eq!(counted, expected);
    assert!(ran.stderr.contains("seconds              all    boot"));

    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mode = std::fs::metadata(client.path("client.key"))
            .expect("a key")
            .permissions();
        assert_eq!(mode.mode() & 0o777, 0o600);
    }
}

#[test]
fn clear_and_encrypted_inference_of_a_schedule_agree() {
    let folder = Folder::with_sample(4);
    let call = |backend, output| {
        folder
            .heron(&[
                "infer",
                "sample.heron",
                "--input",
                "in.npz",
                "--backend",
                backend,
                "--output",
                output,
                "--format",
                "json",
            ])
            .ok()
    };
    let clear = call("clear", "clear.npz").json();
    let cpu = call("cpu", "cpu.npz").json();
    assert_eq!(clear["bootstraps"], 1);
    assert_eq!(
        (cpu["inputs"].as_u64(), cpu["runs"].as_u64()),
        (Some(4), Some(1))
    );
    for file in ["clear.npz", "cpu.npz"] {
        let error = worst(&folder.read(file, "y").data, 4);
        println!("{file}: {error:.2e} (bound {BOUND:.2e})");
        assert!(error < BOUND);
    }
}

#[test]
fn keys_and_ciphertexts_of_another_schedule_or_key_are_refused() {
    let folder = Folder::with_sample(1);
    folder.heron(&KEYGEN).ok();
    folder.heron(&ENCRYPT).ok();
    let again = folder.heron(&KEYGEN).refused("io");
    assert!(again.contains("never replaced"), "{again}");

    let other = Folder::with_sample(1);
    other.heron(&KEYGEN).ok();
    std::fs::copy(other.path("server.keys"), folder.path("other.keys")).expect("copies");
    let mut run = RUN;
    run[3] = "other.keys";
    folder.heron(&run).refused("mismatch");
    std::fs::copy(other.path("client.key"), folder.path("other.key")).expect("copies");
    folder.heron(&RUN).ok();
    let mut decrypt = DECRYPT;
    decrypt[3] = "other.key";
    folder.heron(&decrypt).refused("mismatch");

    // The same program with one weight changed is another schedule.
    let (program, weights) =
        heron_schedule::sample::sample_program(heron_schedule::params::Profile::Toy)
            .expect("sample");
    let mut bytes = weights.bytes().to_vec();
    bytes[6] ^= 8;
    let changed = heron_schedule::Schedule::new(program, bytes.into()).expect("a schedule");
    changed.save(&folder.path("sample.heron")).expect("saves");
    folder.heron(&RUN).refused("mismatch");
}
