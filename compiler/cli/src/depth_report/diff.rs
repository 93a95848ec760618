//! What changed between two compilations, layer by layer. Layers are matched by name.

use super::units::{float, number, show};
use heron_schedule::body::giants;
use heron_schedule::proto::{instruction::Op, Body, Giant, Instruction};
use heron_schedule::Schedule;
use serde_json::{json, Map, Value};
use std::collections::BTreeMap;
use std::fmt::Write;

/// Numbers closer than this, relatively, are equal: estimates are sums of the same floats in another order.
const EQUAL: f64 = 1e-9;
/// Members of a layer that are compared one level down.
const NESTED: [&str; 2] = ["operations", "approximation"];
/// Members of the report that follow from others, or that only say where it came from.
const DERIVED: [&str; 4] = ["layers", "critical_path", "by_primitive", "heron"];

fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(_), Value::Number(_)) => match (float(a), float(b)) {
            (Some(x), Some(y)) => (x - y).abs() <= EQUAL * x.abs().max(y.abs()),
            _ => a == b,
        },
        (Value::Array(x), Value::Array(y)) => {
            x.len() == y.len() && x.iter().zip(y).all(|(a, b)| same(a, b))
        }
        (Value::Object(x), Value::Object(y)) => {
            x.len() == y.len() && x.iter().all(|(k, a)| y.get(k).is_some_and(|b| same(a, b)))
        }
        _ => a == b,
    }
}

/// Differing members of two values, with dots between the names of nested objects; a missing member counts as null.
fn changes(path: &str, a: &Value, b: &Value, out: &mut Vec<Value>) {
    if same(a, b) {
        return;
    }
    if a.is_object() && b.is_object() {
        let mut names: Vec<&String> = a.as_object().into_iter().flat_map(Map::keys).collect();
        let more = b.as_object().into_iter().flat_map(Map::keys);
        let more: Vec<&String> = more.filter(|n| a.get(n.as_str()).is_none()).collect();
        names.extend(more);
        for name in names {
            let path = match path {
                "" => name.clone(),
                path => format!("{path}.{name}"),
            };
            // Plots are pictures of what the other members say.
            if name != "plot" {
                changes(&path, &a[name.as_str()], &b[name.as_str()], out);
            }
        }
        return;
    }
    out.push(json!({"what": path, "a": a, "b": b}));
}

/// The instructions of a layer without register numbers, the bodies of their linear maps and the plaintext vectors they use, in order.
#[derive(Default, PartialEq)]
struct Code<'a> {
    instructions: Vec<Instruction>,
    bodies: Vec<Vec<Giant>>,
    plaintexts: Vec<&'a [u8]>,
}

/// Blanks what depends on the rest of the program: registers, numbers of plaintexts, bodies and layers. Returns bodies and plaintexts beside.
fn blank(instruction: &Instruction, bodies: &[Body]) -> (Instruction, Vec<Vec<Giant>>, Vec<u32>) {
    let mut i = instruction.clone();
    let mut used = Vec::new();
    let mut plaintexts = Vec::new();
    let mut take = |number: &mut u32| plaintexts.push(std::mem::take(number));
    i.layer = 0;
    i.free.clear();
    match &mut i.op {
        Some(Op::Input(o)) => o.dst = 0,
        Some(Op::Output(o)) => o.src = 0,
        Some(Op::Linear(o)) => {
            o.src.iter_mut().for_each(|r| *r = 0);
            for out in &mut o.out {
                out.dst = 0;
                let mut body = giants(bodies, out).to_vec();
                let terms = body.iter_mut().flat_map(|g| &mut g.term);
                terms.for_each(|t| take(&mut t.plaintext));
                used.push(body);
                out.body = 0;
                out.bias.iter_mut().for_each(|b| take(&mut b.plaintext));
            }
        }
        Some(Op::Combine(o)) => {
            o.dst = 0;
            o.term.iter_mut().for_each(|t| t.src = 0);
            o.bias.iter_mut().for_each(|b| take(&mut b.plaintext));
        }
        Some(Op::MulSum(o)) => {
            o.dst = 0;
            o.pair.iter_mut().for_each(|p| {
                p.a = 0;
                p.b = 0;
            });
        }
        Some(Op::Rotate(o)) => {
            o.src = 0;
            o.out.iter_mut().for_each(|r| r.dst = 0);
        }
        Some(Op::Bootstrap(o)) => {
            o.src.iter_mut().for_each(|r| *r = 0);
            o.dst.iter_mut().for_each(|r| *r = 0);
        }
        None => {}
    }
    (i, used, plaintexts)
}

fn code(schedule: &Schedule) -> BTreeMap<&str, Code<'_>> {
    let program = schedule.program();
    let mut layers: BTreeMap<&str, Code> = BTreeMap::new();
    for instruction in &program.instructions {
        let Some(layer) = program.layers.get(instruction.layer as usize) else {
            continue;
        };
        let (bare, bodies, plaintexts) = blank(instruction, &program.bodies);
        let entry = layers.entry(&layer.name).or_default();
        entry.instructions.push(bare);
        entry.bodies.extend(bodies);
        for number in plaintexts {
            let raw = schedule.weights().raw(&program.plaintexts, number);
            entry.plaintexts.push(raw.unwrap_or(&[]));
        }
    }
    layers
}

fn by_name(report: &Value) -> BTreeMap<&str, &Value> {
    let layers = report["layers"].as_array().into_iter().flatten();
    layers
        .filter_map(|l| Some((l["name"].as_str()?, l)))
        .collect()
}

/// Names of A's layers in their order, then those that only B has.
fn names<'v>(a: &'v Value, b: &'v Value) -> Vec<&'v str> {
    let of = |r: &'v Value| r["layers"].as_array().into_iter().flatten();
    let known = by_name(a);
    let mut found: Vec<&str> = of(a).filter_map(|l| l["name"].as_str()).collect();
    let more = of(b).filter_map(|l| l["name"].as_str());
    found.extend(more.filter(|n| !known.contains_key(n)));
    found
}

/// The differences as JSON: `equal`, `program` (members of the report outside the layers), `layers` (per layer: `only_in`, or `changes`
/// with `weights` and `instructions` saying whether vectors or code differ).
pub fn diff(a: (&Schedule, &Value), b: (&Schedule, &Value)) -> Value {
    let mut program = Vec::new();
    let (x, y) = (without(a.1, &DERIVED), without(b.1, &DERIVED));
    changes("", &x, &y, &mut program);
    let (codes_a, codes_b) = (code(a.0), code(b.0));
    let (known_a, known_b) = (by_name(a.1), by_name(b.1));
    let mut layers = Vec::new();
    for name in names(a.1, b.1) {
        let (Some(x), Some(y)) = (known_a.get(name), known_b.get(name)) else {
            let (side, layer) = match known_a.get(name) {
                Some(layer) => ("a", layer),
                None => ("b", known_b.get(name).unwrap_or(&&Value::Null)),
            };
            layers.push(json!({"name": name, "only_in": side, "kind": layer["kind"]}));
            continue;
        };
        let mut found = Vec::new();
        changes("", &without(x, &NESTED), &without(y, &NESTED), &mut found);
        for member in NESTED {
            changes(member, &x[member], &y[member], &mut found);
        }
        let (p, q) = (codes_a.get(name), codes_b.get(name));
        let differs = |f: &dyn Fn(&Code, &Code) -> bool| match (p, q) {
            (Some(p), Some(q)) => f(p, q),
            (p, q) => p.is_some() != q.is_some(),
        };
        let instructions =
            differs(&|p, q| (&p.instructions, &p.bodies) != (&q.instructions, &q.bodies));
        let weights = differs(&|p, q| p.plaintexts != q.plaintexts);
        if !found.is_empty() || instructions || weights {
            layers.push(json!({
                "name": name,
                "kind": y["kind"],
                "changes": found,
                "instructions": instructions,
                "weights": weights,
            }));
        }
    }
    // What no layer shows: ports, embedding tables, the order of instructions.
    let elsewhere = layers.is_empty() && program.is_empty() && a.0.id() != b.0.id();
    json!({
        "equal": program.is_empty() && layers.is_empty() && !elsewhere,
        "program": program,
        "layers": layers,
        "elsewhere": elsewhere,
    })
}

fn without(value: &Value, names: &[&str]) -> Value {
    let mut value = value.clone();
    if let Some(object) = value.as_object_mut() {
        names.iter().for_each(|n| {
            object.shift_remove(*n);
        });
    }
    value
}

fn shown(v: &Value) -> String {
    match v {
        Value::Number(_) => float(v).map_or(v.to_string(), number),
        Value::Array(list) => {
            let items: Vec<String> = list.iter().map(shown).collect();
            format!("[{}]", items.join(", "))
        }
        Value::Object(o) => {
            let shown = o.iter().filter(|(k, _)| *k != "plot");
            let items: Vec<String> = shown
                .map(|(k, v)| format!("{k} {}", shown_flat(v)))
                .collect();
            items.join(", ")
        }
        v => show(v),
    }
}

fn shown_flat(v: &Value) -> String {
    match v {
        Value::Object(_) => "…".into(),
        v => shown(v),
    }
}

fn change(out: &mut String, indent: &str, c: &Value) {
    let (a, b) = (&c["a"], &c["b"]);
    let (before, after) = (shown(a), shown(b));
    // Numbers that differ only in digits that are not shown are shown in full.
    let (before, after) = match before == after {
        true => (a.to_string(), b.to_string()),
        false => (before, after),
    };
    let by = match (float(a), float(b)) {
        (Some(x), Some(y)) => format!("  ({}{})", if y > x { "+" } else { "" }, number(y - x)),
        _ => String::new(),
    };
    let what = c["what"].as_str().unwrap_or("");
    // Writing to a string cannot fail.
    let _ = writeln!(out, "{indent}{what}: {before} -> {after}{by}");
}

/// The differences for reading; `no differences` when there are none.
pub fn to_text(diff: &Value) -> String {
    if diff["equal"] == json!(true) {
        return "no differences\n".into();
    }
    let mut out = String::new();
    let list = |v: &Value| v.as_array().cloned().unwrap_or_default();
    let program = list(&diff["program"]);
    if !program.is_empty() {
        out.push_str("program\n");
        program.iter().for_each(|c| change(&mut out, "  ", c));
    }
    for layer in list(&diff["layers"]) {
        let (name, kind) = (show(&layer["name"]), show(&layer["kind"]));
        if let Some(side) = layer["only_in"].as_str() {
            let _ = writeln!(
                out,
                "layer {name} ({kind}): only in {}",
                side.to_uppercase()
            );
            continue;
        }
        let _ = writeln!(out, "layer {name} ({kind})");
        let changes = list(&layer["changes"]);
        changes.iter().for_each(|c| change(&mut out, "  ", c));
        let is = |what: &str| layer[what] == json!(true);
        if is("instructions") {
            out.push_str("  instructions differ\n");
        }
        if is("weights") {
            out.push_str("  weights differ\n");
        }
    }
    if diff["elsewhere"] == json!(true) {
        out.push_str(
            "the layers are equal; ports, embedding tables or the order of instructions differ\n",
        );
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nested_changes_are_named_by_their_path_and_plots_are_left_out() {
        let a = json!({"x": {"y": 1, "z": [1.0, 2.0]}, "plot": [1], "same": 0.1});
        let b = json!({"x": {"y": 3, "z": [1.0, 2.0]}, "plot": [2], "same": 0.1000000000001, "new": null});
        let mut found = Vec::new();
        changes("", &a, &b, &mut found);
        assert_eq!(found, vec![json!({"what": "x.y", "a": 1, "b": 3})]);
        let mut text = String::new();
        change(&mut text, "", &found[0]);
        assert_eq!(text, "x.y: 1 -> 3  (+2)\n");
    }
}
