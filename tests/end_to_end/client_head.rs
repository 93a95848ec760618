//! `--head client`: the schedule ends at the hidden state, the client computes the rest.

use crate::support::{repository, Folder};

/// Tolerance of INTERFACE.md.
const TOLERANCE: f64 = 1e-2;
const DECODER: &str = "models/toy/toy-decoder";

fn file(path: &str) -> String {
    let path = repository(path);
    path.to_str().expect("a path in UTF-8").to_string()
}

/// Runs the decoder on its test inputs.
fn infer(folder: &Folder, backend: &str, limit: &str, more: &[&str]) -> serde_json::Value {
    let (model, test) = (
        file(&format!("{DECODER}.onnx")),
        file(&format!("{DECODER}.test.npz")),
    );
    let mut call = vec![
        "infer", &model, "--input", &test, "--expect", &test, "--limit", limit,
    ];
    call.extend(["--backend", backend, "--profile", "toy", "--format", "json"]);
    call.extend(["--positions", "last", "--output", "out.npz"]);
    call.extend(more);
    folder.heron(&call).ok().json()
}

#[test]
fn logits_computed_by_the_client_equal_those_of_the_model() {
    let folder = Folder::new();
    for (backend, limit) in [("clear", "3"), ("cpu", "1")] {
        let server = infer(&folder, backend, limit, &[]);
        let shape = folder.read("out.npz", "logits").shape;
        let client = infer(&folder, backend, limit, &["--head", "client"]);
        assert_eq!(folder.read("out.npz", "logits").shape, shape);
        let relative = |r: &serde_json::Value| r["error"]["relative"].as_f64().expect("an error");
        println!(
            "{backend}: server {:.2e}, client {:.2e}",
            relative(&server),
            relative(&client)
        );
        assert!(
            relative(&client) <= TOLERANCE,
            "{backend}: {:.2e}",
            relative(&client)
        );
        assert_eq!(client["top1_agreement"], 1.0, "{backend}");
        // The test file also tells what the head reads: an error there, and none where the server computed the head.
        let hidden = client["hidden_error"].as_f64().expect("an error");
        println!("{backend}: hidden state {hidden:.2e}");
        assert!(
            hidden > 0.0 && hidden <= TOLERANCE,
            "{backend}: {hidden:.2e}"
        );
        assert!(server["hidden_error"].is_null(), "{backend}");
    }
}

#[test]
fn four_processes_end_at_the_hidden_state_and_decrypt_applies_the_head() {
    let folder = Folder::new();
    let (model, test) = (
        file(&format!("{DECODER}.onnx")),
        file(&format!("{DECODER}.test.npz")),
    );
    let sizes = |name: &str, side: &str| {
        let output = format!("{name}.heron");
        let mut call = vec!["compile", &model, "-o", &output, "--profile", "toy"];
        call.extend(["--positions", "last", "--head", side]);
        call.extend(["--shape", "input_ids=1,8"]);
        folder.heron(&call).ok();
        let report = folder
            .heron(&["report", &output, "--format", "json"])
            .ok()
            .json();
        let output = &report["model"]["outputs"][0];
        assert_eq!(output["head"] == "client", side == "client");
        assert_eq!(
            report["model"]["outputs"][0]["shape"],
            serde_json::json!([1, 40])
        );
        let size = std::fs::metadata(folder.path(&format!("{name}.client"))).expect("a file");
        (
            size.len(),
            report["operations"]["ct_pt_multiply"]
                .as_u64()
                .expect("a count"),
        )
    };
    let (server, client) = (sizes("s", "server"), sizes("c", "client"));
    // 32 x 40 weights of four bytes went to the client, and their products with them.
    assert!(
        client.0 >= server.0 + 4 * 32 * 40,
        "{} {}",
        client.0,
        server.0
    );
    assert!(client.1 < server.1, "{} {}", client.1, server.1);
    for call in [
        &[
            "keygen",
            "c.client",
            "--client-key",
            "k",
            "--server-keys",
            "s.keys",
        ][..],
        &[
            "encrypt",
            "c.client",
            "--client-key",
            "k",
            "--input",
            &test,
            "--limit",
            "1",
            "-o",
            "in.ct",
        ],
        &[
            "run",
            "c.heron",
            "--server-keys",
            "s.keys",
            "--input",
            "in.ct",
            "-o",
            "out.ct",
        ],
        &[
            "decrypt",
            "c.client",
            "--client-key",
            "k",
            "--input",
            "out.ct",
            "-o",
            "out.npz",
        ],
    ] {
        folder.heron(call).ok();
    }
    let found = folder.read("out.npz", "logits");
    assert_eq!(found.shape, [1, 1, 40]);
    let expected = heron_compiler::npz::read(&repository(&format!("{DECODER}.test.npz")));
    let expected = expected
        .expect("reads")
        .0
        .remove("logits")
        .expect("logits")
        .data;
    let expected = &expected[..40];
    let mean = expected.iter().sum::<f64>() / 40.0;
    let deviation = (expected.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / 40.0).sqrt();
    let differences = found.data.iter().zip(expected).map(|(a, b)| (a - b).abs());
    let worst = differences.fold(0.0, f64::max) / deviation;
    println!("largest difference {worst:.2e} standard deviations");
    assert!(worst <= TOLERANCE);
}

#[test]
fn models_without_a_linear_head_are_refused_in_one_sentence() {
    let folder = Folder::new();
    let model = file("models/toy/toy-head.onnx");
    let call = [
        "compile",
        &model,
        "-o",
        "x.heron",
        "--head",
        "client",
        "--profile",
        "toy",
    ];
    let error = folder.heron(&call).refused("range");
    assert!(
        error.contains("expected an output that is a linear map of one value"),
        "{error}"
    );
    assert!(error.contains("--head server"), "{error}");
    assert!(folder.files().is_empty(), "{:?}", folder.files());
}
