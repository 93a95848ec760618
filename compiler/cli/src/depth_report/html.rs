//! The depth report as one page: no scripts, nothing from the network, light and dark. Everything the model named is escaped.

use super::svg::{esc, plot, samples, staircase};
use super::text::{approximation, approximations, by_layer_kind, by_primitive, operation};
use super::units::{bytes, count, fit, float, interval, number, plural, seconds, show};
use serde_json::Value;
use std::fmt::Write;

/// The whole page.
pub fn to_html(report: &Value) -> String {
    let name = esc(&fit(
        report["model"]["name"].as_str().unwrap_or("model"),
        80,
    ));
    let mut out = format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"><title>{name}: depth report</title><style>{}</style></head><body>\n",
        include_str!("page.css")
    );
    header(&mut out, &name, report);
    out.push_str("<main>\n");
    headline(&mut out, report);
    let drawn = staircase(report);
    if !drawn.is_empty() {
        let _ = writeln!(
            out,
            "<section><h2>Levels along the critical path</h2><figure class=\"panel\" style=\"margin:0\"><div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"level staircase\">{drawn}</div><figcaption><span class=\"key ks\" style=\"margin-left:0\"></span>level of the value on the longest path, one tread per operation that changes it<span class=\"key kb\"></span>bootstrap</figcaption></figure></section>"
        );
    }
    time(&mut out, report);
    layer_table(&mut out, report);
    plots(&mut out, report);
    placement(&mut out, report);
    plain_softmax(&mut out, report);
    facts(&mut out, report);
    let _ = writeln!(
        out,
        "</main><footer>heron {}; seconds and bytes are estimates by the cost table, counts come from the instructions.</footer></body></html>",
        esc(&show(&report["heron"]))
    );
    out
}

fn port_list(ports: &Value) -> String {
    let ports = ports.as_array().into_iter().flatten();
    let list: Vec<String> = ports
        .map(|p| {
            let dims = p["shape"].as_array().into_iter().flatten().map(show);
            let dims: Vec<String> = dims.collect();
            format!(
                "{} [{}]",
                esc(&fit(p["name"].as_str().unwrap_or("-"), 60)),
                esc(&dims.join(", "))
            )
        })
        .collect();
    list.join(", ")
}

fn header(out: &mut String, name: &str, report: &Value) {
    let model = &report["model"];
    let mut about = Vec::new();
    if let Some(n) = model["parameters"].as_u64() {
        about.push(plural(n, "weight"));
    }
    if let Some(opset) = model["opset"].as_i64() {
        about.push(format!("opset {opset}"));
    }
    about.push(format!("from {}", port_list(&model["inputs"])));
    about.push(format!("to {}", port_list(&model["outputs"])));
    let _ = write!(
        out,
        "<header><h1>{name}</h1><p class=\"soft\">{}</p>",
        about.join(" · ")
    );
    if float(&report["parameters"]["security_bits"]).is_none_or(|b| b <= 0.0) {
        out.push_str(
            "<p class=\"warn\">Insecure parameters: anyone can decrypt. For tests only.</p>",
        );
    }
    out.push_str("</header>\n");
}

fn headline(out: &mut String, report: &Value) {
    let mut cards: Vec<(&str, String, String)> = Vec::new();
    cards.push((
        "Depth",
        show(&report["multiplicative_depth"]),
        "levels on the longest path".into(),
    ));
    let kinds = &report["bootstraps_by_kind"];
    let kinds: Vec<String> = [
        ("full", "full"),
        ("complex_pair", "pairs"),
        ("sparse", "sparse"),
    ]
    .into_iter()
    .filter_map(|(k, n)| Some((kinds[k].as_u64().filter(|x| *x > 0)?, n)))
    .map(|(x, n)| format!("{x} {n}"))
    .collect();
    cards.push(("Bootstraps", show(&report["bootstraps"]), kinds.join(", ")));
    let estimate = &report["estimate"];
    if let Some(s) = float(&estimate["seconds"]) {
        let batch = report["parameters"]["inputs_per_run"].as_u64().unwrap_or(1);
        let basis = match estimate["measured"] == false {
            true => format!(
                " on {}, {}",
                show(&estimate["target"]),
                show(&estimate["basis"])
            ),
            false => String::new(),
        };
        let small = format!("estimated{basis}, {} per run", plural(batch, "input"));
        cards.push(("Time of a run", seconds(s), small));
    }
    if let Some(b) = float(&estimate["peak_bytes"]) {
        let keys = float(&report["keys"]["bytes"])
            .map_or(String::new(), |k| format!("{} of keys", bytes(k)));
        cards.push(("Memory", bytes(b), keys));
    }
    if let Some(bits) = float(&report["parameters"]["security_bits"]) {
        let p = &report["parameters"];
        let small = format!(
            "N = 2^{}, profile {}",
            show(&p["log2_n"]),
            show(&p["profile"])
        );
        cards.push(("Security", format!("{} bits", number(bits)), small));
    }
    if let Some(e) = float(&estimate["output_error"]) {
        let small = "predicted, over the outputs’ standard deviation".into();
        cards.push(("Error", number(e), small));
    }
    out.push_str("<dl class=\"cards\">");
    for (name, value, small) in cards {
        let _ = write!(
            out,
            "<div><dt>{name}</dt><dd>{}<small>{}</small></dd></div>",
            esc(&value),
            esc(&small)
        );
    }
    out.push_str("</dl>\n");
}

fn bars(out: &mut String, title: &str, list: &[(String, f64)], text: &dyn Fn(f64) -> String) {
    let largest = list.iter().map(|(_, v)| *v).fold(0.0, f64::max);
    if largest <= 0.0 {
        return;
    }
    let _ = write!(
        out,
        "<div class=\"panel\"><h3>{title}</h3><ul class=\"bars{}\">",
        if list.iter().any(|(n, _)| n.len() > 22) {
            " long"
        } else {
            ""
        }
    );
    for (name, value) in list {
        let class = if name == "bootstrap" {
            "fill b"
        } else {
            "fill"
        };
        let _ = write!(
            out,
            "<li><span>{}</span><span class=\"track\" aria-hidden=\"true\"><span class=\"{class}\" style=\"width:{:.2}%\"></span></span><span class=\"v\">{}</span></li>",
            esc(&name.replace('_', " ")),
            (100.0 * value / largest).clamp(0.0, 100.0),
            esc(&text(*value))
        );
    }
    out.push_str("</ul></div>");
}

fn time(out: &mut String, report: &Value) {
    let (kinds, primitives) = (by_layer_kind(report), by_primitive(report));
    let total: f64 = kinds.iter().map(|(_, s)| s).sum();
    if total <= 0.0 {
        return;
    }
    let text = |s: f64| format!("{} · {:.1} %", seconds(s), 100.0 * s / total);
    out.push_str("<section><h2>Where the time is estimated to go</h2><div class=\"two\">");
    bars(out, "By kind of layer", &kinds, &text);
    bars(out, "By kind of instruction", &primitives, &text);
    out.push_str("</div></section>\n");
}

fn layer_table(out: &mut String, report: &Value) {
    out.push_str("<section><h2>Layers</h2><div class=\"panel scroll\" tabindex=\"0\" role=\"region\" aria-label=\"layer table\"><table class=\"layers\"><thead><tr><th scope=\"col\">layer</th><th scope=\"col\">kind</th><th scope=\"col\" class=\"n\">depth</th><th scope=\"col\" class=\"n\">level</th><th scope=\"col\" class=\"n\">bootstraps</th><th scope=\"col\" class=\"n\">ciphertexts</th><th scope=\"col\" class=\"n\">estimate</th><th scope=\"col\">calibrated range</th><th scope=\"col\">approximation</th></tr></thead><tbody>");
    for layer in report["layers"].as_array().into_iter().flatten() {
        let boots = layer["bootstraps"].as_u64().unwrap_or(0);
        let level_in = layer["level_in"]
            .as_u64()
            .map_or(String::new(), |l| format!("{l} → "));
        let fits = approximations(layer).into_iter().filter_map(approximation);
        let fits: Vec<String> = fits.map(|t| esc(&t)).collect();
        let _ = write!(
            out,
            "<tr><th scope=\"row\">{}</th><td>{}</td><td class=\"n\">{}</td><td class=\"n\">{level_in}{}</td><td class=\"n{}\">{boots}</td><td class=\"n\">{}</td><td class=\"n\">{}</td><td>{}</td><td>{}</td></tr>",
            esc(&fit(layer["name"].as_str().unwrap_or("-"), 90)),
            esc(&show(&layer["kind"]).replace('_', " ")),
            esc(&show(&layer["depth"])),
            esc(&show(&layer["level_out"])),
            if boots > 0 { " boot" } else { "" },
            esc(&show(&layer["ciphertexts"])),
            float(&layer["estimate_seconds"]).map_or("-".into(), seconds),
            interval(&layer["range"]).map_or(String::new(), |r| esc(&r)),
            fits.join("<br>"),
        );
    }
    out.push_str("</tbody></table></div></section>\n");
}

fn plots(out: &mut String, report: &Value) {
    let mut cards = String::new();
    for layer in report["layers"].as_array().into_iter().flatten() {
        for a in approximations(layer) {
            let Some(points) = samples(&a["plot"]) else {
                continue;
            };
            let function = show(&a["function"]);
            let name = fit(layer["name"].as_str().unwrap_or("-"), 60);
            let relative = function.starts_with("1/");
            let _ = write!(
                cards,
                "<figure class=\"panel\" style=\"margin:0\"><h3>{}</h3>{}<figcaption>{}{}</figcaption></figure>",
                esc(&name),
                plot(&function, &points, relative),
                esc(&approximation(a).unwrap_or_default()),
                if relative { " (relative)" } else { "" },
            );
        }
    }
    if !cards.is_empty() {
        let _ = writeln!(
            out,
            "<section><h2>Ranges and approximations</h2><p class=\"soft\">Above the function and its fit over the fitted interval, which is the calibrated range and its margin; below the error.<span class=\"key kf\"></span>function<span class=\"key kg\"></span>fit</p><div class=\"plots\">{cards}</div></section>"
        );
    }
}

fn placement(out: &mut String, report: &Value) {
    let p = &report["placement"];
    if !p.is_object() {
        return;
    }
    let _ = write!(
        out,
        "<section><h2>Placement of bootstraps</h2><p>{}</p>",
        esc(p["method"].as_str().unwrap_or("-"))
    );
    let mut list = Vec::new();
    if let Some(s) = float(&p["lower_bound_seconds"]) {
        list.push(("lower bound".to_string(), s));
    }
    if let Some(s) = float(&p["cost_seconds"]) {
        list.push(("this schedule".to_string(), s));
    }
    for policy in p["policies"].as_array().into_iter().flatten() {
        if let (Some(name), Some(s)) = (policy["name"].as_str(), float(&policy["cost_seconds"])) {
            let boots = float(&policy["bootstraps"])
                .map_or(String::new(), |b| format!(" ({} bootstraps)", number(b)));
            list.push((format!("{}{boots}", fit(name, 40)), s));
        }
    }
    bars(out, "Estimated time of a run", &list, &seconds);
    let mut notes = Vec::new();
    if let Some(gap) = float(&p["gap"]) {
        notes.push(format!("gap to the lower bound {} %", number(100.0 * gap)));
    }
    if let Some(n) = float(&p["lower_bound_bootstraps"]) {
        notes.push(format!(
            "at least {} bootstraps in any placement, {} here",
            number(n),
            show(&report["bootstraps"])
        ));
    }
    let _ = writeln!(
        out,
        "<p class=\"soft\">{}</p></section>",
        esc(&notes.join("; "))
    );
}

fn plain_softmax(out: &mut String, report: &Value) {
    let v = &report["softmax_variant"];
    if !v.is_object() {
        return;
    }
    let time = |s: &Value| float(s).map_or("-".into(), seconds);
    let rows = [
        (
            "depth",
            show(&report["multiplicative_depth"]),
            show(&v["multiplicative_depth"]),
        ),
        (
            "bootstraps",
            show(&report["bootstraps"]),
            show(&v["bootstraps"]),
        ),
        (
            "estimated time",
            time(&report["estimate"]["seconds"]),
            time(&v["estimate_seconds"]),
        ),
    ];
    out.push_str("<section><h2>The same model with plain Softmax</h2><div class=\"panel scroll\"><table><thead><tr><th scope=\"col\"></th><th scope=\"col\" class=\"n\">this schedule</th><th scope=\"col\" class=\"n\">plain Softmax</th></tr></thead><tbody>");
    for (name, here, there) in rows {
        let _ = write!(
            out,
            "<tr><th scope=\"row\">{name}</th><td class=\"n\">{}</td><td class=\"n\">{}</td></tr>",
            esc(&here),
            esc(&there)
        );
    }
    out.push_str("</tbody></table>");
    if let Some(note) = v["note"].as_str() {
        let _ = write!(out, "<p class=\"soft\">{}</p>", esc(note));
    }
    out.push_str("</div></section>\n");
}

/// Two columns of names and values.
fn table(out: &mut String, title: &str, rows: &[(String, String)]) {
    let _ = write!(
        out,
        "<div class=\"panel scroll\"><h3>{title}</h3><table><tbody>"
    );
    for (name, value) in rows {
        let _ = write!(
            out,
            "<tr><th scope=\"row\">{}</th><td class=\"n\" style=\"white-space:normal\">{}</td></tr>",
            esc(name),
            esc(value)
        );
    }
    out.push_str("</tbody></table></div>");
}

fn facts(out: &mut String, report: &Value) {
    let p = &report["parameters"];
    let mut rows: Vec<(String, String)> = Vec::new();
    for (key, name) in [
        ("profile", "profile"),
        ("log2_n", "log2 of the ring degree N"),
        ("slots", "slots"),
        ("log_qp", "log QP"),
        ("secret", "secret"),
        ("security_bits", "bits of security"),
        ("digits", "digits of key switching"),
        ("levels_after_bootstrap", "levels after a bootstrap"),
        ("scale_bits", "bits of the scale"),
        ("word_bits", "bits of a word"),
        ("inputs_per_run", "inputs per run"),
        (
            "failure_probability_log2",
            "log2 of the failure probability",
        ),
        ("chosen_because", "chosen because"),
    ] {
        let text = match &p[key] {
            Value::Null => continue,
            Value::String(s) => fit(s, 400),
            v => float(v).map_or(v.to_string(), |x| match v.as_u64() {
                Some(n) => count(n),
                None => number(x),
            }),
        };
        rows.push((name.into(), text));
    }
    out.push_str("<section><h2>Parameters, operations, keys</h2><div class=\"two\">");
    table(out, "Parameters and security", &rows);
    let mut rows: Vec<(String, String)> = report["operations"]
        .as_object()
        .into_iter()
        .flatten()
        .map(|(k, v)| {
            (
                operation(k).to_string(),
                v.as_u64().map_or("-".into(), count),
            )
        })
        .collect();
    let keys = &report["keys"];
    rows.push(("rotation keys".into(), show(&keys["rotation"])));
    rows.push((
        "evaluation keys".into(),
        float(&keys["bytes"]).map_or("-".into(), bytes),
    ));
    let calibration = &report["calibration"];
    if calibration.is_object() {
        rows.push((
            "calibration".into(),
            format!(
                "{}, {}",
                show(&calibration["source"]),
                plural(calibration["inputs"].as_u64().unwrap_or(0), "input")
            ),
        ));
    }
    table(out, "Operations of one run, keys, calibration", &rows);
    out.push_str("</div></section>\n");
}
