//! Operations of layers: what the work of a model is, apart from how long it takes.

use super::units::{count, fit};
use heron_schedule::recount::{LayerCount, OperationCounts};
use serde_json::{json, Value};
use std::fmt::Write;

/// Kinds of layers that are products with weights.
const PROJECTIONS: [&str; 2] = ["matmul", "rotary"];
/// Kinds of layers that are products of two encrypted matrices.
const PRODUCTS: [&str; 2] = ["attention_scores", "attention_values"];
/// Kinds of layers that are there once, however many attentions there are.
const ONCE: [&str; 3] = ["embed", "pool", "head"];

/// Operations as the report writes them.
pub fn to_json(c: &OperationCounts) -> Value {
    json!({
        "ct_ct_multiply": c.ct_ct_multiply,
        "ct_pt_multiply": c.ct_pt_multiply,
        "rotate": c.rotate,
        "conjugate": c.conjugate,
        "relinearize": c.relinearize,
        "rescale": c.rescale,
        "add": c.add,
        "bootstrap": c.bootstrap,
    })
}

/// Bootstraps by kind as the report writes them.
pub fn bootstraps([full, pair, sparse]: [u64; 3]) -> Value {
    json!({"full": full, "complex_pair": pair, "sparse": sparse})
}

/// A sum over layers.
#[derive(Default)]
struct Sum {
    layers: u64,
    operations: OperationCounts,
    bootstraps: [u64; 3],
}

impl Sum {
    fn add(&mut self, layer: &LayerCount) {
        self.layers += 1;
        self.operations.merge(layer.operations);
        for (sum, n) in self.bootstraps.iter_mut().zip(layer.bootstraps_by_kind) {
            *sum += n;
        }
    }

    /// The sum over `parts`.
    fn to_json(&self, parts: u64) -> Value {
        // Tenths: an average of counts.
        let share = |n: u64| (10.0 * n as f64 / parts.max(1) as f64).round() / 10.0;
        let [full, pair, sparse] = self.bootstraps.map(share);
        json!({
            "key_switches": share(self.operations.key_switches()),
            "ct_pt_multiply": share(self.operations.ct_pt_multiply),
            "ct_ct_multiply": share(self.operations.ct_ct_multiply),
            "bootstraps_by_kind": {"full": full, "complex_pair": pair, "sparse": sparse},
        })
    }
}

/// Averages over the attentions of a model: of projections, of products of encrypted matrices, and of everything else but embedding,
/// pooling and head. Null where there is no attention. `layers`: kind and counts.
pub fn per_attention<'a>(layers: impl Iterator<Item = (&'a str, &'a LayerCount)>) -> Value {
    let mut sums = [Sum::default(), Sum::default(), Sum::default()];
    let mut attentions = 0;
    for (kind, layer) in layers.filter(|(kind, _)| !ONCE.contains(kind)) {
        let [projections, products, rest] = &mut sums;
        attentions += u64::from(kind == PRODUCTS[0]);
        let sum = match kind {
            kind if PROJECTIONS.contains(&kind) => projections,
            kind if PRODUCTS.contains(&kind) => products,
            _ => rest,
        };
        sum.add(layer);
    }
    if attentions == 0 {
        return Value::Null;
    }
    let [projections, products, rest] = sums.map(|s| s.to_json(attentions));
    json!({"attentions": attentions, "projections": projections, "attention_products": products, "rest": rest})
}

fn cell(v: &Value) -> String {
    match v.as_u64() {
        Some(n) => count(n),
        None => v.as_f64().map_or("-".into(), |x| format!("{x:.1}")),
    }
}

fn line(text: &mut String, name: &str, row: &Value) {
    let kinds = &row["bootstraps_by_kind"];
    // Writing to a string cannot fail.
    let _ = writeln!(
        text,
        "{:<26} {:>10} {:>10} {:>10} {:>6} {:>6} {:>6}",
        fit(name, 26),
        cell(&row["key_switches"]),
        cell(&row["ct_pt_multiply"]),
        cell(&row["ct_ct_multiply"]),
        cell(&kinds["full"]),
        cell(&kinds["complex_pair"]),
        cell(&kinds["sparse"]),
    );
}

/// The operations of each layer that has any, and the averages per attention: 80 columns.
pub fn table(report: &Value) -> String {
    let mut text = format!(
        "\n{:<26} {:>10} {:>10} {:>10} {:>20}\n{:<26} {:>10} {:>10} {:>10} {:>6} {:>6} {:>6}\n",
        "operations",
        "key",
        "plaintext",
        "ciphertext",
        "bootstraps",
        "of layers",
        "switches",
        "products",
        "products",
        "full",
        "pair",
        "sparse"
    );
    for layer in report["layers"].as_array().into_iter().flatten() {
        let row = json!({
            "key_switches": layer["key_switches"],
            "ct_pt_multiply": layer["operations"]["ct_pt_multiply"],
            "ct_ct_multiply": layer["operations"]["ct_ct_multiply"],
            "bootstraps_by_kind": layer["bootstraps_by_kind"],
        });
        let operations = layer["operations"].as_object().into_iter().flatten();
        if operations.into_iter().any(|(_, n)| n.as_u64() > Some(0)) {
            line(&mut text, layer["name"].as_str().unwrap_or("-"), &row);
        }
    }
    let mean = &report["per_attention"];
    if let Some(n) = mean["attentions"].as_u64() {
        let _ = writeln!(text, "mean of {} transformer layers", count(n));
        line(&mut text, "  projections and MLP", &mean["projections"]);
        line(
            &mut text,
            "  scores and values",
            &mean["attention_products"],
        );
        line(&mut text, "  everything else", &mean["rest"]);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layer(rotate: u64, ct_pt_multiply: u64, sparse: u64) -> LayerCount {
        LayerCount {
            operations: OperationCounts {
                rotate,
                ct_pt_multiply,
                ..OperationCounts::default()
            },
            bootstraps_by_kind: [0, 0, sparse],
            ..LayerCount::default()
        }
    }

    #[test]
    fn averages_are_over_attentions_and_leave_out_what_is_there_once() {
        let layers = [
            ("embed", layer(1000, 0, 0)),
            ("matmul", layer(10, 40, 0)),
            ("attention_scores", layer(7, 8, 1)),
            ("power_softmax", layer(1, 0, 1)),
            ("rotary", layer(2, 4, 0)),
            ("attention_scores", layer(7, 8, 0)),
            ("head", layer(1000, 0, 0)),
        ];
        let found = per_attention(layers.iter().map(|(kind, count)| (*kind, count)));
        assert_eq!(found["attentions"], 2);
        assert_eq!(found["projections"]["key_switches"], 6.0);
        assert_eq!(found["projections"]["ct_pt_multiply"], 22.0);
        assert_eq!(found["attention_products"]["key_switches"], 7.0);
        assert_eq!(
            found["attention_products"]["bootstraps_by_kind"]["sparse"],
            0.5
        );
        assert_eq!(found["rest"]["key_switches"], 0.5);
        assert!(per_attention(layers[..2].iter().map(|(k, c)| (*k, c))).is_null());
    }
}
