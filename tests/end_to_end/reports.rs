//! `report` in its formats, `compile --report`, `diff`.

use crate::support::{repository, Folder};
use heron_schedule::Schedule;

fn compiled(folder: &Folder, model: &str, output: &str, more: &[&str]) {
    let path = repository(&format!("models/toy/{model}.onnx"));
    let path = path.to_str().expect("a path in UTF-8");
    let mut call = vec!["compile", path, "-o", output, "--profile", "toy"];
    call.extend(more);
    folder.heron(&call).ok();
}

fn report(folder: &Folder, file: &str, format: &str) -> String {
    let call = ["report", file, "--format", format];
    folder.heron(&call).ok().stdout
}

#[test]
fn the_text_report_fits_a_terminal_and_holds_no_json() {
    let folder = Folder::new();
    compiled(&folder, "toy-block", "toy.heron", &[]);
    let text = report(&folder, "toy.heron", "text");
    for line in text.lines() {
        assert!(line.chars().count() <= 80, "{line}");
        assert!(!line.contains('{') && !line.contains('"'), "{line}");
    }
    for heading in [
        "model",
        "parameters",
        "depth",
        "bootstraps",
        "placement",
        "keys",
        "estimate",
        "layer ",
        "calibration",
        "estimated time by layer kind",
    ] {
        assert!(text.lines().any(|l| l.starts_with(heading)), "{heading}");
    }
    // Every layer and every approximation of the JSON is there.
    let json: serde_json::Value =
        serde_json::from_str(&report(&folder, "toy.heron", "json")).expect("JSON");
    let layers = json["layers"].as_array().expect("layers");
    let fitted = layers.iter().filter(|l| !l["approximation"].is_null());
    assert!(fitted.clone().count() >= 2);
    for layer in fitted {
        let function = layer["approximation"]["function"].as_str().expect("a name");
        assert!(text.contains(&format!("    {function} on [")), "{function}");
    }
}

#[test]
fn the_critical_path_is_as_deep_as_the_report_says_and_every_plot_keeps_its_promise() {
    let folder = Folder::new();
    compiled(&folder, "toy-block", "toy.heron", &[]);
    let json: serde_json::Value =
        serde_json::from_str(&report(&folder, "toy.heron", "json")).expect("JSON");
    let path = json["critical_path"].as_array().expect("a path");
    let last = path.last().expect("steps");
    assert_eq!(last["depth"], json["multiplicative_depth"]);
    let boots = path.iter().filter(|s| s["step"] == "bootstrap").count() as u64;
    assert!(boots <= json["bootstraps"].as_u64().expect("bootstraps"));
    for layer in json["layers"].as_array().expect("layers") {
        let a = &layer["approximation"];
        let Some(points) = a["plot"]["points"].as_array() else {
            assert!(a.is_null(), "an approximation without a plot: {a}");
            continue;
        };
        let relative = a["function"].as_str().is_some_and(|f| f.starts_with("1/"));
        let at = |p: &serde_json::Value, i: usize| p[i].as_f64().expect("a number");
        let errors = points.iter().map(|p| {
            let size = if relative { at(p, 1).abs() } else { 1.0 };
            (at(p, 2) - at(p, 1)).abs() / size
        });
        let worst = errors.fold(0.0, f64::max);
        let claimed = a["max_error"].as_f64().expect("an error");
        println!("{}: {worst:.2e} of {claimed:.2e}", layer["name"]);
        assert!(worst <= 1.02 * claimed + 1e-7);
    }
}

#[test]
fn the_page_is_self_contained_and_the_same_from_both_commands() {
    let folder = Folder::new();
    compiled(&folder, "toy-block", "toy.heron", &["--report", "toy.html"]);
    let page = std::fs::read_to_string(folder.path("toy.html")).expect("the page");
    assert_eq!(page, report(&folder, "toy.heron", "html"));
    for forbidden in [
        "<script", "http:", "https:", "src=", "href=", "@import", "url(",
    ] {
        assert!(!page.contains(forbidden), "{forbidden}");
    }
    for section in [
        "Levels along the critical path",
        "Where the time is estimated to go",
        "<h2>Layers",
        "Ranges and approximations",
        "Placement of bootstraps",
        "Parameters and security",
        "prefers-color-scheme:dark",
    ] {
        assert!(page.contains(section), "{section}");
    }
    let tags = |name: &str| {
        (
            page.matches(&format!("<{name}")).count(),
            page.matches(&format!("</{name}>")).count(),
        )
    };
    for name in [
        "section", "table", "tbody", "figure", "svg", "ul", "dl", "main",
    ] {
        let (open, close) = tags(name);
        assert!(
            open == close && open > 0,
            "{name}: {open} opened, {close} closed"
        );
    }
}

#[test]
fn hostile_names_are_text_in_every_format() {
    let folder = Folder::new();
    compiled(&folder, "toy-block", "toy.heron", &[]);
    let schedule = Schedule::open(&folder.path("toy.heron")).expect("opens");
    let mut program = schedule.program().clone();
    let evil = "</svg><script>alert('x')</script>\" onload=\"x\u{1b}[31m\\";
    let known = program.layers[2].name.clone();
    program.layers[2].name = evil.into();
    program.name = evil.into();
    let facts = String::from_utf8(program.report_json.clone()).expect("UTF-8");
    let mut facts: serde_json::Value = serde_json::from_str(&facts).expect("JSON");
    for layer in facts["layers"].as_array_mut().expect("layers") {
        if layer["name"] == known.as_str() {
            layer["name"] = evil.into();
        }
    }
    program.report_json = facts.to_string().into_bytes();
    let altered = Schedule::new(program, schedule.weights().clone()).expect("verifies");
    altered.save(&folder.path("evil.heron")).expect("saves");
    let page = report(&folder, "evil.heron", "html");
    assert!(!page.contains("<script") && page.contains("&lt;script"));
    assert!(!page.contains("\" onload") && !page.contains('\u{1b}'));
    assert!(!report(&folder, "evil.heron", "text").contains('\u{1b}'));
    let dot = report(&folder, "evil.heron", "dot");
    assert!(!dot.contains('\u{1b}'));
    assert_dot_parses(&dot);
}

/// The grammar of what heron writes: statements of identifiers, arrows and attribute lists, strings closed on their line.
fn assert_dot_parses(dot: &str) {
    let lines: Vec<&str> = dot.lines().collect();
    let (first, rest) = lines.split_first().expect("lines");
    assert!(
        first.starts_with("digraph \"") && first.ends_with("\" {"),
        "{first}"
    );
    let (last, body) = rest.split_last().expect("a body");
    assert_eq!(*last, "}");
    for line in body {
        assert!(line.starts_with("  ") && line.ends_with(';'), "{line}");
        let mut inside = false;
        let mut outside = String::new();
        let mut escaped = false;
        for c in line.chars() {
            match c {
                _ if escaped => escaped = false,
                '\\' if inside => escaped = true,
                '"' => inside = !inside,
                c if !inside => outside.push(c),
                _ => {}
            }
        }
        assert!(!inside, "a string is not closed: {line}");
        let allowed = |c: char| c.is_ascii_alphanumeric() || " []=,;->".contains(c);
        assert!(outside.chars().all(allowed), "{outside}");
    }
}

#[test]
fn dot_is_deterministic_marks_bootstraps_and_joins_inputs_to_outputs() {
    let folder = Folder::new();
    compiled(&folder, "toy-block", "toy.heron", &[]);
    let dot = report(&folder, "toy.heron", "dot");
    assert_eq!(dot, report(&folder, "toy.heron", "dot"));
    assert_dot_parses(&dot);
    let json: serde_json::Value =
        serde_json::from_str(&report(&folder, "toy.heron", "json")).expect("JSON");
    let layers = json["layers"].as_array().expect("layers");
    let boots = layers.iter().filter(|l| l["bootstraps"].as_u64() > Some(0));
    assert_eq!(dot.matches("penwidth=2").count(), boots.count());
    let is_node = |l: &&str| l.starts_with("  layer") && l.contains("[label");
    assert_eq!(
        dot.lines()
            .filter(|l| !l.contains("->"))
            .filter(is_node)
            .count(),
        layers.len()
    );
    assert!(dot.contains("input0 -> layer") && dot.contains("-> output0"));
}

#[test]
fn diff_is_silent_about_equal_schedules_and_names_the_layer_of_a_change() {
    let folder = Folder::new();
    compiled(&folder, "toy-block", "a.heron", &[]);
    compiled(&folder, "toy-block", "b.heron", &[]);
    let same = folder.heron(&["diff", "a.heron", "b.heron"]).ok();
    assert_eq!(same.stdout, "no differences\n");
    // One weight of one layer.
    let schedule = Schedule::open(&folder.path("a.heron")).expect("opens");
    let program = schedule.program().clone();
    let used = program.instructions.iter().find_map(|i| match &i.op {
        Some(heron_schedule::proto::instruction::Op::Linear(op)) => {
            let giants = heron_schedule::body::giants(&program.bodies, &op.out[0]);
            Some((i.layer, giants[0].term[0].plaintext))
        }
        _ => None,
    });
    let (layer, plaintext) = used.expect("a linear step");
    let mut bytes = schedule.weights().bytes().to_vec();
    let at = program.plaintexts[plaintext as usize].offset as usize;
    bytes[at..at + 8].copy_from_slice(&0.375f64.to_le_bytes());
    let name = program.layers[layer as usize].name.clone();
    let altered = Schedule::new(program, bytes.into()).expect("verifies");
    altered.save(&folder.path("c.heron")).expect("saves");
    let found = folder.heron(&["diff", "a.heron", "c.heron"]).ok().stdout;
    assert!(found.contains(&format!("layer {name} (")), "{found}");
    assert!(found.contains("  weights differ"), "{found}");
    assert!(!found.contains("instructions differ"), "{found}");
    // Another tolerance: other approximations, and a JSON that says so.
    compiled(&folder, "toy-block", "d.heron", &["--tolerance", "0.0001"]);
    let json = folder
        .heron(&["diff", "a.heron", "d.heron", "--format", "json"])
        .ok()
        .json();
    assert_eq!(json["equal"], false);
    let layers = json["layers"].as_array().expect("layers");
    let changes = layers.iter().filter_map(|l| l["changes"].as_array());
    let whats: Vec<&str> = changes
        .flatten()
        .filter_map(|c| c["what"].as_str())
        .collect();
    assert!(whats.contains(&"approximation.max_error"), "{whats:?}");
    let text = folder.heron(&["diff", "a.heron", "d.heron"]).ok().stdout;
    assert!(text.starts_with("program\n"), "{text}");
}

#[test]
fn a_schedule_for_a_gpu_is_estimated_on_one_and_says_that_no_price_was_measured() {
    let folder = Folder::new();
    compiled(&folder, "toy-block", "cpu.heron", &[]);
    compiled(&folder, "toy-block", "gpu.heron", &["--target", "cuda"]);
    let estimate = |file: &str| {
        let text = report(&folder, file, "json");
        let json: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        json["estimate"].clone()
    };
    let (cpu, gpu) = (estimate("cpu.heron"), estimate("gpu.heron"));
    assert_eq!(
        (&cpu["target"], &cpu["measured"]),
        (&"cpu".into(), &true.into())
    );
    assert_eq!(
        (&gpu["target"], &gpu["measured"]),
        (&"cuda".into(), &false.into())
    );
    let seconds = |e: &serde_json::Value| e["seconds"].as_f64().expect("seconds");
    assert!(seconds(&gpu) < seconds(&cpu) / 10.0);
    let text = report(&folder, "gpu.heron", "text");
    assert!(text.contains("not measured"), "{text}");
    assert!(!report(&folder, "cpu.heron", "text").contains("not measured"));
}

#[test]
fn files_are_as_large_as_was_said_before_they_were_written() {
    let folder = Folder::new();
    compiled(&folder, "toy-block", "x.heron", &[]);
    let text = report(&folder, "x.heron", "json");
    let json: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    let said = &json["estimate"]["file_bytes"];
    folder
        .heron(&[
            "keygen",
            "x.client",
            "--client-key",
            "k",
            "--server-keys",
            "s",
        ])
        .ok();
    let calibration = repository("models/toy/toy-block.calibration.npz");
    let input = calibration.to_str().expect("a path in UTF-8");
    folder
        .heron(&[
            "encrypt",
            "x.client",
            "--client-key",
            "k",
            "--input",
            input,
            "--limit",
            "1",
            "-o",
            "in.ct",
        ])
        .ok();
    folder
        .heron(&[
            "run",
            "x.heron",
            "--server-keys",
            "s",
            "--input",
            "in.ct",
            "-o",
            "out.ct",
        ])
        .ok();
    for (name, file) in [
        ("schedule", "x.heron"),
        ("client", "x.client"),
        ("client_key", "k"),
        ("server_keys", "s"),
        ("inputs_of_a_run", "in.ct"),
        ("outputs_of_a_run", "out.ct"),
    ] {
        let found = std::fs::metadata(folder.path(file)).expect("a file").len() as f64;
        let said = said[name].as_f64().expect("bytes");
        println!("{file}: {said} said, {found} found");
        assert!(
            (said - found).abs() <= 0.1 * found,
            "{file}: {said} said, {found} found"
        );
    }
    let exact = ["schedule", "client"].map(|n| said[n].as_u64());
    let found =
        ["x.heron", "x.client"].map(|f| std::fs::metadata(folder.path(f)).ok().map(|m| m.len()));
    assert_eq!(exact, found);
}

#[test]
fn operations_of_layers_sum_to_those_of_the_run() {
    let folder = Folder::new();
    compiled(&folder, "toy-block", "x.heron", &[]);
    let text = report(&folder, "x.heron", "json");
    let json: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    let layers = json["layers"].as_array().expect("layers");
    let sum = |of: &dyn Fn(&serde_json::Value) -> u64| layers.iter().map(of).sum::<u64>();
    let switches = sum(&|l| l["key_switches"].as_u64().expect("a count"));
    assert!(switches > 0 && json["key_switches"] == switches);
    for kind in ["full", "complex_pair", "sparse"] {
        let bootstraps = sum(&|l| l["bootstraps_by_kind"][kind].as_u64().expect("a count"));
        assert_eq!(json["bootstraps_by_kind"][kind], bootstraps, "{kind}");
    }
    let mean = &json["per_attention"];
    assert_eq!(mean["attentions"], 1);
    assert!(mean["attention_products"]["key_switches"].as_f64() > Some(0.0));
    let text = report(&folder, "x.heron", "text");
    assert!(text.contains("mean of 1 transformer layers"), "{text}");
}
