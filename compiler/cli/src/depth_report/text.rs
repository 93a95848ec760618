//! The depth report for a terminal of 80 columns.

use super::operations;
use super::units::{bytes, count, fit, float, interval, number, plural, seconds, show};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt::Write;

/// Columns that lines are kept within.
pub const WIDTH: usize = 80;
/// Columns of the headings on the left.
const HEAD: usize = 13;

/// Lines under headings, wrapped.
#[derive(Default)]
struct Page(String);

impl Page {
    /// A heading with the items after it, wrapped between items.
    fn items(&mut self, head: &str, items: &[String]) {
        let mut line = format!("{head:<HEAD$}");
        let mut empty = true;
        for (i, item) in items.iter().enumerate() {
            let comma = if i + 1 < items.len() { "," } else { "" };
            let wanted = line.chars().count() + item.chars().count() + comma.len() + 1;
            if !empty && wanted > WIDTH {
                self.line(&line);
                line = " ".repeat(HEAD);
                empty = true;
            }
            if !empty {
                line.push(' ');
            }
            line.push_str(item);
            line.push_str(comma);
            empty = false;
        }
        if !empty {
            self.line(&line);
        }
    }

    /// Prose under a heading, wrapped between words.
    fn prose(&mut self, head: &str, text: &str) {
        let mut line = format!("{head:<HEAD$}");
        let mut empty = true;
        for word in text.split_whitespace() {
            let word = fit(word, WIDTH - HEAD);
            if !empty && line.chars().count() + word.chars().count() + 1 > WIDTH {
                self.line(&line);
                line = " ".repeat(HEAD);
                empty = true;
            }
            if !empty {
                line.push(' ');
            }
            line.push_str(&word);
            empty = false;
        }
        if !empty {
            self.line(&line);
        }
    }

    fn line(&mut self, text: &str) {
        // Writing to a string cannot fail.
        let _ = writeln!(self.0, "{}", text.trim_end());
    }
}

/// The report as text; every line but those with unbreakable words fits 80 columns.
pub fn to_text(report: &Value) -> String {
    let mut page = Page::default();
    model(&mut page, &report["model"]);
    parameters(&mut page, &report["parameters"]);
    cost(&mut page, report);
    plain_softmax(&mut page, &report["softmax_variant"]);
    layers(&mut page, report["layers"].as_array());
    page.0.push_str(&operations::table(report));
    where_time_goes(&mut page, report);
    page.0
}

fn model(page: &mut Page, model: &Value) {
    let mut items = vec![fit(model["name"].as_str().unwrap_or("-"), 50)];
    if let Some(opset) = model["opset"].as_i64() {
        items.push(format!("opset {opset}"));
    }
    if let Some(n) = model["parameters"].as_u64() {
        items.push(plural(n, "weight"));
    }
    page.items("model", &items);
    for (side, name) in [("inputs", "  input"), ("outputs", "  output")] {
        for port in model[side].as_array().into_iter().flatten() {
            let dims: Vec<String> = port["shape"]
                .as_array()
                .into_iter()
                .flatten()
                .map(show)
                .collect();
            let name_of = fit(port["name"].as_str().unwrap_or("-"), 40);
            let mut items = vec![format!("{name_of} [{}]", dims.join(", "))];
            if port["head"] == "client" {
                items.push("its head left to the client".into());
            }
            page.items(name, &items);
        }
    }
}

fn parameters(page: &mut Page, p: &Value) {
    let security = match float(&p["security_bits"]) {
        Some(bits) if bits > 0.0 => format!("{} bits of security", number(bits)),
        _ => "INSECURE, for tests only".into(),
    };
    let mut items = vec![
        format!("profile {}", show(&p["profile"])),
        security,
        format!("N = 2^{}", show(&p["log2_n"])),
    ];
    if let Some(log_qp) = float(&p["log_qp"]) {
        items.push(format!("log QP {}", number(log_qp)));
    }
    items.push(format!("secret {}", show(&p["secret"])));
    items.push(format!(
        "{} levels after a bootstrap",
        show(&p["levels_after_bootstrap"])
    ));
    items.push(format!("scale 2^{}", show(&p["scale_bits"])));
    items.push(format!("{} key switching digits", show(&p["digits"])));
    page.items("parameters", &items);
    if let Some(reason) = p["chosen_because"].as_str() {
        page.prose("", &format!("chosen because {reason}"));
    }
    let mut items = vec![format!(
        "{} in one run",
        plural(p["inputs_per_run"].as_u64().unwrap_or(0), "input")
    )];
    if let Some(slots) = p["slots"].as_u64() {
        items.push(format!("{} slots", count(slots)));
    }
    page.items("batch", &items);
    if let Some(f) = float(&p["failure_probability_log2"]) {
        let text = if f <= -1e6 {
            "impossible".to_string()
        } else {
            format!("probability 2^{} in one run", number(f))
        };
        page.items("failure", &[text]);
    }
}

fn cost(page: &mut Page, report: &Value) {
    page.items(
        "depth",
        &[format!(
            "{} levels on the longest path",
            show(&report["multiplicative_depth"])
        )],
    );
    let kinds = &report["bootstraps_by_kind"];
    let mut items = vec![show(&report["bootstraps"])];
    for (key, name) in [
        ("full", "full"),
        ("complex_pair", "pairs of two"),
        ("sparse", "sparse"),
    ] {
        if let Some(n) = kinds[key].as_u64().filter(|n| *n > 0) {
            items.push(format!("{} {name}", count(n)));
        }
    }
    page.items("bootstraps", &items);
    placement(page, &report["placement"]);
    let operations: Vec<String> = report["operations"]
        .as_object()
        .into_iter()
        .flatten()
        .filter(|(name, _)| *name != "bootstrap")
        .filter_map(|(name, n)| Some((name, n.as_u64().filter(|n| *n > 0)?)))
        .map(|(name, n)| format!("{} {}", count(n), operation(name)))
        .collect();
    page.items("operations", &operations);
    let keys = &report["keys"];
    page.items(
        "keys",
        &[
            plural(keys["rotation"].as_u64().unwrap_or(0), "rotation key"),
            format!(
                "{} with all others",
                bytes(float(&keys["bytes"]).unwrap_or(0.0))
            ),
        ],
    );
    let estimate = &report["estimate"];
    let mut items = Vec::new();
    if let Some(s) = float(&estimate["seconds"]) {
        items.push(format!("{} on {}", seconds(s), show(&estimate["target"])));
        if estimate["measured"] == false {
            items.push(show(&estimate["basis"]));
        }
    }
    if let Some(b) = float(&estimate["peak_bytes"]) {
        items.push(format!("{} of memory", bytes(b)));
    }
    if let Some(e) = float(&estimate["output_error"]) {
        items.push(format!("relative error {}", number(e)));
    }
    page.items("estimate", &items);
    page.items("files", &files(&estimate["file_bytes"]));
    let calibration = &report["calibration"];
    if calibration.is_object() {
        let mut items = vec![show(&calibration["source"])];
        if let Some(n) = calibration["inputs"].as_u64() {
            items.push(plural(n, "input"));
        }
        page.items("calibration", &items);
    }
}

/// Sizes of files in words.
pub fn files(sizes: &Value) -> Vec<String> {
    let names = [
        ("schedule", "schedule"),
        ("client", "client"),
        ("server_keys", "server keys"),
        ("inputs_of_a_run", "inputs of a run"),
        ("outputs_of_a_run", "outputs"),
    ];
    names
        .into_iter()
        .filter_map(|(key, name)| Some(format!("{name} {}", bytes(float(&sizes[key])?))))
        .collect()
}

/// The name of an operation for reading.
pub fn operation(name: &str) -> &str {
    match name {
        "ct_ct_multiply" => "ciphertext products",
        "ct_pt_multiply" => "plaintext products",
        "rotate" => "rotations",
        "conjugate" => "conjugations",
        "relinearize" => "relinearisations",
        "rescale" => "rescalings",
        "add" => "additions",
        "bootstrap" => "bootstraps",
        other => other,
    }
}

fn placement(page: &mut Page, placement: &Value) {
    if !placement.is_object() {
        return;
    }
    let mut items = Vec::new();
    if let Some(s) = float(&placement["cost_seconds"]) {
        items.push(seconds(s));
    }
    if let Some(s) = float(&placement["lower_bound_seconds"]) {
        items.push(format!("no placement under {}", seconds(s)));
    }
    if let Some(gap) = float(&placement["gap"]) {
        items.push(format!("gap {} %", number(100.0 * gap)));
    }
    if let Some(n) = float(&placement["lower_bound_bootstraps"]) {
        items.push(format!("at least {} bootstraps", number(n)));
    }
    page.items("placement", &items);
    page.prose("", &show(&placement["method"]));
    for policy in placement["policies"].as_array().into_iter().flatten() {
        let mut items = vec![fit(policy["name"].as_str().unwrap_or("-"), 40)];
        match float(&policy["bootstraps"]) {
            Some(n) => items.push(format!("{} bootstraps", number(n))),
            None => items.push("no plan".into()),
        }
        if let Some(s) = float(&policy["cost_seconds"]) {
            items.push(seconds(s));
        }
        page.items("  policy", &items);
    }
}

fn plain_softmax(page: &mut Page, variant: &Value) {
    if !variant.is_object() {
        return;
    }
    let mut items = vec!["plain Softmax instead".to_string()];
    if let Some(d) = variant["multiplicative_depth"].as_u64() {
        items.push(format!("depth {d}"));
    }
    if let Some(n) = variant["bootstraps"].as_u64() {
        items.push(plural(n, "bootstrap"));
    }
    if let Some(s) = float(&variant["estimate_seconds"]) {
        items.push(seconds(s));
    }
    page.items("softmax", &items);
    if let Some(note) = variant["note"].as_str() {
        page.prose("", note);
    }
}

/// One approximation in words.
pub fn approximation(a: &Value) -> Option<String> {
    if !a.is_object() {
        return None;
    }
    let mut text = show(&a["function"]);
    if let Some(range) = interval(&a["interval"]) {
        let _ = write!(text, " on {range}");
    }
    let degree = show(&a["degree_or_iterations"]);
    let method = show(&a["method"]);
    let of = match method.as_str() {
        "minimax" | "chebyshev" => format!("{method} of degree {degree}"),
        _ => format!("{method}, {degree} steps"),
    };
    let _ = write!(text, ": {of}");
    if let Some(e) = float(&a["max_error"]) {
        let _ = write!(text, ", error {}", number(e));
    }
    Some(text)
}

/// A layer's approximations: the list where there is one, else the single one.
pub fn approximations(layer: &Value) -> Vec<&Value> {
    match layer["approximations"].as_array() {
        Some(list) if !list.is_empty() => list.iter().collect(),
        _ => vec![&layer["approximation"]],
    }
}

fn layers(page: &mut Page, layers: Option<&Vec<Value>>) {
    page.line("");
    page.line(&format!(
        "{:<30} {:<16} {:>5} {:>6} {:>5} {:>5} {:>7}",
        "layer", "kind", "depth", "level", "boots", "cts", "seconds"
    ));
    for layer in layers.into_iter().flatten() {
        let levels = format!(
            "{}>{}",
            level(&layer["level_in"]),
            show(&layer["level_out"])
        );
        let time = float(&layer["estimate_seconds"]).map_or("-".into(), |s| format!("{s:.3}"));
        page.line(&format!(
            "{:<30} {:<16} {:>5} {levels:>6} {:>5} {:>5} {:>7}",
            fit(layer["name"].as_str().unwrap_or("-"), 30),
            show(&layer["kind"]),
            show(&layer["depth"]),
            show(&layer["bootstraps"]),
            show(&layer["ciphertexts"]),
            fit(&time, 7),
        ));
        for text in approximations(layer).into_iter().filter_map(approximation) {
            page.line(&format!("    {}", fit(&text, WIDTH - 4)));
        }
    }
}

/// A level that is read; nothing is read by the inputs.
fn level(v: &Value) -> String {
    v.as_u64().map_or(String::new(), |l| l.to_string())
}

/// Estimated seconds by kind of layer, largest first; ties by name.
pub fn by_layer_kind(report: &Value) -> Vec<(String, f64)> {
    let mut kinds: BTreeMap<String, f64> = BTreeMap::new();
    for layer in report["layers"].as_array().into_iter().flatten() {
        if let Some(s) = float(&layer["estimate_seconds"]).filter(|s| *s > 0.0) {
            *kinds.entry(show(&layer["kind"])).or_default() += s;
        }
    }
    sorted(kinds)
}

/// Estimated seconds by kind of instruction, largest first.
pub fn by_primitive(report: &Value) -> Vec<(String, f64)> {
    let mut kinds: BTreeMap<String, f64> = BTreeMap::new();
    for entry in report["by_primitive"].as_array().into_iter().flatten() {
        if let Some(s) = float(&entry["seconds"]).filter(|s| *s > 0.0) {
            *kinds.entry(show(&entry["kind"])).or_default() += s;
        }
    }
    sorted(kinds)
}

fn sorted(kinds: BTreeMap<String, f64>) -> Vec<(String, f64)> {
    let mut list: Vec<(String, f64)> = kinds.into_iter().collect();
    list.sort_by(|a, b| b.1.total_cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    list
}

fn where_time_goes(page: &mut Page, report: &Value) {
    for (title, list) in [
        ("estimated time by layer kind", by_layer_kind(report)),
        ("estimated time by instruction", by_primitive(report)),
    ] {
        let total: f64 = list.iter().map(|(_, s)| s).sum();
        if total <= 0.0 {
            continue;
        }
        page.line("");
        page.line(title);
        for (kind, s) in list {
            let share = s / total;
            let bar = "#".repeat((share * 32.0).round() as usize);
            page.line(&format!(
                "  {kind:<20} {:>9} {:>5.1} %  {bar}",
                seconds(s),
                100.0 * share
            ));
        }
    }
}
