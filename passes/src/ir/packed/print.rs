//! The text of a packed graph: counts for reading, or everything to be read back.

use std::collections::BTreeMap;
use std::fmt::{self, Write};
use std::sync::Arc;

use super::layout::Layout;
use super::{InputPort, Kernel, LinearOut, PackedGraph, PlaintextId, Plaintexts};
use crate::ir::graph::{Graph, ValueId};
use crate::ir::poly::print::approximation_text;
use crate::ir::poly::Approximation;
use crate::ir::tensor::print::input_text;
use crate::ir::text::{self, Notation};

/// Counts of a linear map: (products, rotations of sources, rotations of sums).
pub fn linear_counts(outs: &[LinearOut]) -> (usize, usize, usize) {
    let mut babies = std::collections::BTreeSet::new();
    let (mut products, mut giants) = (0, 0);
    for out in outs {
        for (g, terms) in out.giants.iter() {
            giants += usize::from(*g != 0);
            products += terms.len();
            babies.extend(
                terms
                    .iter()
                    .filter(|t| t.baby != 0)
                    .map(|t| (t.source, t.baby)),
            );
        }
    }
    (products, babies.len(), giants)
}

/// Σ of one ciphertext of a linear map: `[source<<baby*plaintext …]<<giant … + bias;`.
fn write_out(text: &mut String, out: &LinearOut) {
    // Writing to a string cannot fail.
    text.push_str("\n   ");
    for (giant, terms) in out.giants.iter() {
        let terms: Vec<String> = terms
            .iter()
            .map(|t| format!("{}<<{}*p{}", t.source, t.baby, t.plaintext.0))
            .collect();
        let _ = write!(text, " [{}]<<{giant}", terms.join(" "));
    }
    if let Some(matrix) = out.matrix {
        let _ = write!(text, " of m{}", matrix.0);
    }
    if let Some(bias) = out.bias {
        let _ = write!(text, " + p{}", bias.0);
    }
    text.push(';');
}

impl Kernel {
    /// The operation without its operands: products counted, or in full in a constant.
    pub(in crate::ir) fn text(&self, n: &mut Notation) -> String {
        let plus = |constant: f64, n: &Notation| {
            // In full a negative zero counts.
            let nothing = constant == 0.0 && (constant.is_sign_positive() || !n.is_full());
            match nothing {
                true => String::new(),
                false => format!(" plus {}", n.number(constant, 4)),
            }
        };
        match self {
            Kernel::Input { port } => format!("input {port}"),
            Kernel::Linear(outs) if n.is_full() => {
                let map = n.constant("map", |text| {
                    let _ = write!(text, "map {}", outs.len());
                    outs.iter().for_each(|out| write_out(text, out));
                });
                format!("linear {map}")
            }
            Kernel::Linear(outs) => {
                let (products, babies, giants) = linear_counts(outs);
                format!("linear products {products} rotations {babies}+{giants}")
            }
            Kernel::Rotate { steps } => {
                let steps: Vec<String> = steps.iter().map(|s| format!(" {s}")).collect();
                format!("rotate by{}", steps.concat())
            }
            Kernel::MulSum {
                pairs,
                factor,
                constant,
            } => {
                let mut text = if n.is_full() {
                    let pairs = n.constant("pairs", |text| {
                        let _ = write!(text, "pairs {}", pairs.len());
                        for sum in pairs {
                            text.push_str("\n   ");
                            for ((a, i), (b, j)) in sum {
                                let _ = write!(text, " {a}:{i}*{b}:{j}");
                            }
                            text.push(';');
                        }
                    });
                    format!("mul_sum {pairs}")
                } else {
                    let products: usize = pairs.iter().map(Vec::len).sum();
                    format!("mul_sum products {products} relins {}", pairs.len())
                };
                if *factor != 1 {
                    text += &format!(" times {factor}");
                }
                text + &plus(*constant, n)
            }
            Kernel::Combine {
                coefficients,
                constant,
            } => {
                let coefficients: Vec<String> = coefficients
                    .iter()
                    .map(|c| format!(" {}", n.number(*c, 4)))
                    .collect();
                format!("combine{}{}", coefficients.concat(), plus(*constant, n))
            }
        }
    }
}

impl fmt::Display for Kernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text(&mut Notation::short()))
    }
}

impl fmt::Display for PackedGraph {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "packed {} {} {{", self.graph.name, self.geometry)?;
        for v in self.graph.topological() {
            let node = self.graph.node(v);
            write!(f, "  %{} = {}", node.name, node.op.kernel)?;
            let operands = self.graph.operands(v);
            for (i, o) in operands.iter().enumerate() {
                let sep = if i == 0 { " of " } else { ", " };
                write!(f, "{sep}%{}", self.graph.node(*o).name)?;
            }
            writeln!(f, " : {}", node.op.layout)?;
        }
        for (name, v) in &self.graph.outputs {
            writeln!(f, "  output {name} = %{}", self.graph.node(*v).name)?;
        }
        writeln!(f, "}}")
    }
}

/// Writes layouts and plaintexts as constants; names layouts by number, equal ones alike.
pub(in crate::ir) struct Layouts(BTreeMap<*const Layout, usize>);

impl Layouts {
    /// Writes the layouts of all values.
    pub(in crate::ir) fn write<'a>(
        all: impl Iterator<Item = &'a Arc<Layout>>,
        n: &mut Notation,
    ) -> Self {
        let mut numbers = BTreeMap::new();
        let mut written: Vec<&Arc<Layout>> = Vec::new();
        n.enter("");
        for layout in all {
            if numbers.contains_key(&Arc::as_ptr(layout)) {
                continue;
            }
            let known = written.iter().position(|l| *l == layout);
            let number = known.unwrap_or(written.len());
            if known.is_none() {
                written.push(layout);
                n.constant(&format!("layout{number}"), |text| {
                    write_layout(text, layout)
                });
            }
            numbers.insert(Arc::as_ptr(layout), number);
        }
        Layouts(numbers)
    }

    /// `layout @…` and the bound, as after the operands of an operation.
    pub(in crate::ir) fn text(&self, layout: &Arc<Layout>, bound: Option<f64>) -> String {
        let number = self.0.get(&Arc::as_ptr(layout)).copied().unwrap_or(0);
        let bound = bound.map_or(String::new(), |b| format!(", bound {}", text::number(b)));
        format!("layout @layout{number}{bound}")
    }
}

fn write_layout(text: &mut String, layout: &Layout) {
    let (name, cts) = (text::name(layout.note()), layout.ciphertexts());
    let _ = write!(text, "layout {name} {cts} period {}", layout.period());
    for ct in 0..cts {
        let cells = layout.cells(ct).iter();
        let cells: Vec<i64> = cells.map(|c| c.map_or(-1, i64::from)).collect();
        text.push_str("\n   ");
        text::write_integers(text, &cells);
    }
}

/// Writes the plaintext vectors as constants `p0`, `p1`, ….
pub(in crate::ir) fn write_plaintexts(plaintexts: &Plaintexts, n: &mut Notation) {
    n.enter("");
    for (i, weight) in plaintexts.matrices().iter().enumerate() {
        n.weight(&format!("m{i}"), weight);
    }
    for i in 0..plaintexts.len() {
        let id = PlaintextId(i);
        if let Some(elements) = plaintexts.elements(id) {
            n.constant(&format!("p{i}"), |text| {
                let _ = write!(text, "elements {}", elements.period);
                for r in &elements.runs {
                    let _ = write!(text, " {} {} {} {}", r.slot, r.count, r.element, r.step);
                }
                text.push(';');
            });
            continue;
        }
        let vector = &*plaintexts.get(id, None);
        n.constant(&format!("p{i}"), |text| {
            let _ = write!(text, "vector {}", vector.len());
            text::write_runs(text, vector);
        });
    }
}

/// The lines of ports and approximations.
pub(in crate::ir) fn port_lines(
    ports: &[InputPort],
    approximations: &[(usize, Approximation)],
    n: &mut Notation,
) -> Vec<String> {
    let mut lines = Vec::new();
    for (i, port) in ports.iter().enumerate() {
        n.enter(&format!("port{i}"));
        let input = input_text(&port.name, &port.client, n);
        lines.push(format!(
            "port {input}, factor {}",
            text::number(port.factor)
        ));
    }
    for (layer, a) in approximations {
        lines.push(format!("approximation {layer} {}", approximation_text(a)));
    }
    lines
}

/// The lines that say which values hold values of the poly graph.
pub(in crate::ir) fn origin_lines<O>(
    graph: &Graph<O>,
    origins: &[(String, ValueId)],
) -> Vec<String> {
    let line = |(origin, v): &(String, ValueId)| {
        let holder = text::name(&graph.node(*v).name);
        format!("origin {} = %{holder}", text::name(origin))
    };
    origins.iter().map(line).collect()
}

impl PackedGraph {
    /// The text that reads back to the same graph.
    pub(super) fn full_text(&self) -> String {
        let mut n = Notation::full();
        let order = self.graph.topological();
        let all = order.iter().map(|v| &self.graph.node(*v).op.layout);
        let layouts = Layouts::write(all, &mut n);
        write_plaintexts(&self.plaintexts, &mut n);
        let lines = port_lines(&self.ports, &self.approximations, &mut n);
        let op = |v, n: &mut Notation| {
            let op = &self.graph.node(v).op;
            let mut text = op.kernel.text(n);
            for (i, o) in self.graph.operand_names(v).iter().enumerate() {
                text += if i == 0 { " of " } else { ", " };
                text += o;
            }
            format!("{text}, {}", layouts.text(&op.layout, op.bound))
        };
        let head = format!(" {}", self.geometry);
        let factors = &self.output_factors;
        let origins = origin_lines(&self.graph, &self.origins);
        text::full(
            &self.graph,
            ("packed", &head),
            n,
            (&lines, &origins),
            op,
            factors,
        )
    }
}
