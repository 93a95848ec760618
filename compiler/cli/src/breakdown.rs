//! Where the time of a run went: layers by kind, and what they did.

use heron_runtime::exec::{KindTime, Timing};
use heron_schedule::primitive::Primitive;
use heron_schedule::proto::Program;
use serde_json::{json, Map, Value};
use std::collections::BTreeMap;
use std::fmt::Write;

/// What belongs to no layer is booked under this kind.
const NONE: &str = "other";

/// Seconds and counts by primitive; the seconds sum to those of the run.
pub fn by_primitive(timing: &Timing) -> Value {
    let all = timing.primitives();
    all.map(|(p, t)| json!({"primitive": p.name(), "count": t.count, "seconds": t.seconds}))
        .collect()
}

/// Layers of one kind, added up.
#[derive(Default)]
struct Sum {
    layers: u64,
    row: [KindTime; Primitive::ALL.len()],
}

/// Seconds by kind of layer, largest first, and within each kind by primitive; the seconds sum to those of the run.
pub fn by_layer_kind(program: &Program, timing: &Timing) -> Value {
    let mut kinds: BTreeMap<&str, Sum> = BTreeMap::new();
    for (number, row) in timing.layers().iter().enumerate() {
        let layer = program.layers.get(number);
        let sum = kinds.entry(layer.map_or(NONE, |l| &l.kind)).or_default();
        sum.layers += u64::from(layer.is_some());
        for (total, part) in sum.row.iter_mut().zip(row) {
            total.count += part.count;
            total.seconds += part.seconds;
        }
    }
    let seconds = |sum: &Sum| sum.row.iter().map(|t| t.seconds).sum::<f64>();
    let mut list: Vec<(&str, Sum)> = kinds.into_iter().collect();
    list.sort_by(|a, b| seconds(&b.1).total_cmp(&seconds(&a.1)));
    list.iter()
        .map(|(kind, sum)| {
            let parts = Primitive::ALL.iter().zip(&sum.row);
            let parts: Map<String, Value> = parts
                .filter(|(_, t)| t.count > 0 || t.seconds > 0.0)
                .map(|(p, t)| (p.name().into(), json!({"count": t.count, "seconds": t.seconds})))
                .collect();
            json!({"kind": kind, "layers": sum.layers, "seconds": seconds(sum), "primitives": parts})
        })
        .collect()
}

/// Headings of the primitives, in the order of [`Primitive::ALL`].
const HEADINGS: [&str; Primitive::ALL.len()] = [
    "boot", "plain", "cipher", "rotate", "encode", "poly", "rest",
];

/// The table of `by_layer_kind` and `by_primitive` as they stand in the profile: 80 columns.
pub fn table(by_layer_kind: &Value, by_primitive: &Value) -> String {
    let mut text = String::new();
    let seconds = |v: &Value| v["seconds"].as_f64().unwrap_or(0.0);
    // Writing to a string cannot fail.
    let _ = write!(text, "{:<16}{:>8}", "seconds", "all");
    for heading in HEADINGS {
        let _ = write!(text, "{heading:>8}");
    }
    let mut line = |name: &str, cells: Vec<String>| {
        let _ = write!(text, "\n{name:<16}");
        for cell in cells {
            let _ = write!(text, "{cell:>8}");
        }
    };
    // Kinds that took no time to speak of say nothing.
    let kinds = by_layer_kind.as_array().into_iter().flatten();
    for kind in kinds.filter(|k| seconds(k) >= 0.005) {
        let parts = Primitive::ALL.iter().map(|p| {
            let s = seconds(&kind["primitives"][p.name()]);
            match s >= 0.005 {
                true => format!("{s:.2}"),
                false => "-".into(),
            }
        });
        let all = format!("{:.2}", seconds(kind));
        line(
            kind["kind"].as_str().unwrap_or(NONE),
            std::iter::once(all).chain(parts).collect(),
        );
    }
    let rows: Vec<&Value> = by_primitive.as_array().into_iter().flatten().collect();
    let total: f64 = rows.iter().map(|r| seconds(r)).sum();
    let each = rows.iter().map(|r| format!("{:.2}", seconds(r)));
    let all = format!("{total:.2}");
    line("all", std::iter::once(all).chain(each).collect());
    let shares = rows
        .iter()
        .map(|r| seconds(r) / total.max(f64::MIN_POSITIVE));
    let shares = shares.map(|s| format!("{:.1}", 100.0 * s));
    line("%", std::iter::once(String::new()).chain(shares).collect());
    let counts = rows.iter().map(|r| r["count"].to_string());
    line(
        "count",
        std::iter::once(String::new()).chain(counts).collect(),
    );
    let lines: Vec<&str> = text.lines().map(str::trim_end).collect();
    lines.join("\n") + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;
    use heron_runtime::exec::clear::Clear;
    use heron_runtime::exec::walk;
    use heron_schedule::params::Profile;
    use heron_schedule::sample::sample;

    #[test]
    fn layers_and_primitives_both_sum_to_the_time_of_the_run() {
        let schedule = sample(Profile::Toy).expect("sample");
        let slots = vec![vec![vec![0.5; schedule.params().slots()]]];
        let mut timing = Timing::default();
        for _ in 0..2 {
            let mut clear = Clear::new(&schedule, slots.clone(), None).expect("clear");
            timing.merge(&walk(schedule.program(), &mut clear, &mut |_| ()).expect("runs"));
        }
        for rows in [
            by_primitive(&timing),
            by_layer_kind(schedule.program(), &timing),
        ] {
            let seconds = rows.as_array().expect("rows").iter();
            let sum: f64 = seconds.filter_map(|r| r["seconds"].as_f64()).sum();
            println!("{sum:.9} of {:.9} s", timing.seconds);
            assert!((sum - timing.seconds).abs() <= 1e-9 + 1e-6 * timing.seconds);
        }
        let kinds = by_layer_kind(schedule.program(), &timing);
        let mut rows = kinds.as_array().expect("rows").iter();
        let bend = rows.find(|k| k["kind"] == "activation");
        let counted = &bend.expect("a layer")["primitives"];
        assert_eq!(counted["polynomial"]["count"], 2);
        assert_eq!(counted["rotation"]["count"], 2);
    }

    #[test]
    fn the_table_has_a_row_per_kind_and_fits_eighty_columns() {
        let part = |count: u64, seconds: f64| json!({"count": count, "seconds": seconds});
        let kinds = json!([
            {"kind": "attention_scores", "layers": 6, "seconds": 1234.5,
             "primitives": {"rotation": part(12_612, 1000.0), "plaintext_product": part(98_304, 234.5)}},
            {"kind": "head", "layers": 1, "seconds": 0.001, "primitives": {}},
        ]);
        let primitives = Primitive::ALL.map(|p| {
            let found = kinds[0]["primitives"].get(p.name()).cloned();
            let mut row = found.unwrap_or(part(0, 0.0));
            row["primitive"] = p.name().into();
            row
        });
        let text = table(&kinds, &json!(primitives));
        assert!(text.lines().all(|l| l.chars().count() <= 80), "{text}");
        let mut settings = insta::Settings::clone_current();
        settings.set_snapshot_path(concat!(env!("CARGO_MANIFEST_DIR"), "/../../snapshots"));
        settings.set_prepend_module_to_snapshot(false);
        settings.set_omit_expression(true);
        settings.bind(|| insta::assert_snapshot!("breakdown__table", text));
    }
}
