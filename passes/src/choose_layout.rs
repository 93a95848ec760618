//! choose-layout: poly → slots for every value.
//! before   %q = linear %x : [16,32]          after   %q : ct[1] features period 512
//!          %k = linear %x : [16,32]                  %k : ct[1] shifted features period 1024   (window 1: 8 tokens further)
//!          %s = scores %q, %k                        %s : chosen with the products in `lower-packed`
//! Needs    every head to fit one window; otherwise refused.
//! Error    none.    Depth  none, one where a value needs two layouts (an identity map is inserted).
//! Why      tokens are slow and features fast, so that token rotations are clean and weights repeat with every token; windows
//!          that a value does not need repeat it, which makes its bootstraps sparse, or, for keys and values of attention,
//!          hold it shifted by some tokens, so that fewer products are needed.
//! Source   features fast and tokens slow as in the design notes; rotations of whole tokens: eprint 2018/1041 in spirit.

use std::collections::BTreeMap;

use crate::ir::graph::ValueId;
use crate::ir::packed::layout::{Cell, Geometry, Layout};
use crate::ir::poly::{PolyGraph, PolyOp};
use crate::ir::shape::Shape;
use crate::ir::tensor::{Linear, LinearTerm, RowMap};
use crate::ir::weight::Weight;
use crate::pass::PassError;

/// Name of the pass.
pub const NAME: &str = "choose-layout";

/// Where the features of a matrix go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Features {
    /// Heads, each padded to a power of two; 1 where heads do not matter.
    pub heads: usize,
    /// Whether the windows that repeat the value are shifted by tokens (keys and values of attention).
    pub shifted: bool,
}

/// The padded width of a head.
fn head_width(cols: usize, heads: usize) -> usize {
    (cols / heads.max(1)).max(1).next_power_of_two()
}

/// Positions that a matrix of `cols` features takes: a power of two, or whole ciphertexts.
fn padded_width(cols: usize, heads: usize, per_ciphertext: usize) -> usize {
    let wide = if heads > 1 {
        heads * head_width(cols, heads)
    } else {
        cols
    };
    if wide <= per_ciphertext {
        wide.next_power_of_two()
    } else {
        wide.div_ceil(per_ciphertext) * per_ciphertext
    }
}

/// How many windows hold keys and values shifted by tokens / ways each, so that tokens / ways rotations reach all tokens.
/// Every way doubles the diagonals of the two projections and halves the products of attention with their packing and spreading;
/// counted in products with plaintexts (a relinearisation and two rotations are about five).
pub fn shift_ways(g: Geometry, cols: usize, heads: usize) -> usize {
    let room = g.lanes * g.windows();
    let width = padded_width(cols, heads, room).max(g.lanes);
    let most = (room / width.min(room)).clamp(1, g.tokens);
    let cost = |ways: usize| {
        2 * (2 * g.lanes - 1) * ways + g.tokens / ways * (2 * head_width(cols, heads) + 5)
    };
    let mut best = 1;
    let mut ways = 2;
    while ways <= most {
        if cost(ways) < cost(best) {
            best = ways;
        }
        ways *= 2;
    }
    best
}

/// The layout of a matrix of `rows` × `cols`. Rows beyond `rows` hold copies of the first ones, so that what is done to each row
/// needs no mask; free positions hold copies of the features where they are whole powers of two. A single row takes the places of other
/// tokens for more features before it takes more ciphertexts.
pub fn matrix_layout(g: Geometry, rows: usize, cols: usize, features: Features) -> Layout {
    let Features { heads, shifted } = features;
    if rows == 1 && heads == 1 {
        return row_layout(g, cols);
    }
    let room = g.lanes * g.windows();
    let width = padded_width(cols, heads, room);
    let ciphertexts = width.div_ceil(room);
    let (head, real) = if heads > 1 {
        (head_width(cols, heads), cols / heads)
    } else {
        (width, cols)
    };
    let ways = if shifted {
        shift_ways(g, cols, heads)
    } else {
        1
    };
    let windows_per_copy = width.div_ceil(g.lanes).min(g.windows());
    let cells = (0..ciphertexts)
        .map(|k| {
            (0..g.virtual_slots())
                .map(|slot| -> Cell {
                    let (window, token, lane) = g.place(slot);
                    let position = (k * room + window * g.lanes + lane) % width;
                    let (h, x) = (position / head, position % head);
                    if h >= heads || x >= real {
                        return None;
                    }
                    let shift = (window / windows_per_copy) % ways * (g.tokens / ways);
                    let row = (token + shift) % g.tokens % rows;
                    u32::try_from(row * cols + h * real + x).ok()
                })
                .collect()
        })
        .collect();
    let note = match (shifted && ways > 1, heads > 1) {
        (true, _) => "shifted features",
        (false, true) => "features by head",
        (false, false) => "features",
    };
    Layout::new(cells, note)
}

/// One row over all slots, repeated where it is short.
fn row_layout(g: Geometry, cols: usize) -> Layout {
    let room = g.virtual_slots();
    let width = padded_width(cols, 1, room);
    let cells = (0..width.div_ceil(room))
        .map(|k| {
            let places = (0..room).map(|slot| (k * room + slot) % width);
            let held = places.map(|p| u32::try_from(p).ok().filter(|_| p < cols));
            held.collect()
        })
        .collect();
    Layout::new(cells, "features")
}

/// Layout of one factor per head and token, broadcast over a matrix or over scores.
pub fn per_head_layout(consumer: &Layout, shape: Shape, heads: usize) -> Layout {
    consumer.map("per head", |e| {
        let e = e as usize;
        let (head, row, rows) = match shape {
            Shape::Matrix { rows, cols } => {
                let width = (cols / heads.max(1)).max(1);
                ((e % cols.max(1)) / width, e / cols.max(1), rows)
            }
            Shape::Scores { rows, keys, .. } => {
                let i = e / keys.max(1);
                (i / rows.max(1), i % rows.max(1), rows)
            }
            Shape::PerHead { rows, .. } => (e / rows.max(1), e % rows.max(1), rows),
            Shape::PerRow { rows } => (0, e, rows),
        };
        (head * rows + row) as u32
    })
}

/// Layout of one factor per token, broadcast over a matrix.
pub fn per_row_layout(consumer: &Layout, cols: usize) -> Layout {
    consumer.map("per row", |e| e / (cols.max(1) as u32))
}

/// Values that must have one layout, by union-find.
struct Classes(BTreeMap<ValueId, ValueId>);

impl Classes {
    fn find(&self, mut v: ValueId) -> ValueId {
        while let Some(&up) = self.0.get(&v) {
            if up == v {
                break;
            }
            v = up;
        }
        v
    }

    fn join(&mut self, a: ValueId, b: ValueId) {
        let (a, b) = (self.find(a), self.find(b));
        self.0.insert(a.max(b), a.min(b));
    }
}

fn classes(graph: &PolyGraph) -> Classes {
    let mut classes = Classes(BTreeMap::new());
    for v in graph.topological() {
        let operands = graph.operands(v);
        match graph.node(v).op {
            PolyOp::Add
            | PolyOp::Sub
            | PolyOp::Multiply
            | PolyOp::Affine { .. }
            | PolyOp::Evaluate { .. } => {
                for o in operands {
                    classes.join(v, o);
                }
            }
            PolyOp::ScaleHeads | PolyOp::ScaleRows => {
                if let Some(o) = operands.first() {
                    classes.join(v, *o);
                }
            }
            _ => {}
        }
    }
    classes
}

/// What a class of matrices is used for.
#[derive(Clone, Copy, Debug, Default)]
struct Role {
    heads: Option<usize>,
    /// Used as keys or values of attention.
    keyed: bool,
    /// Used or made in a way that needs unshifted rows.
    plain: bool,
}

/// Inserts identity maps where one value would need two layouts, and returns the features of every matrix value.
pub fn choose_features(graph: &mut PolyGraph) -> BTreeMap<ValueId, Features> {
    loop {
        let classes = classes(graph);
        let mut roles: BTreeMap<ValueId, Role> = BTreeMap::new();
        let mut conflict = None;
        for v in graph.topological() {
            let node = graph.node(v);
            let operands = graph.operands(v);
            let mut use_as = |o: ValueId, heads: Option<usize>, keyed: bool, at: usize| {
                let role = roles.entry(classes.find(o)).or_default();
                let heads_differ = matches!((role.heads, heads), (Some(a), Some(b)) if a != b);
                let shift_differs = (keyed && role.plain) || (!keyed && role.keyed);
                if heads_differ || shift_differs {
                    conflict.get_or_insert((v, at));
                    return;
                }
                role.heads = role.heads.or(heads);
                role.keyed |= keyed;
                role.plain |= !keyed;
            };
            match node.op {
                PolyOp::Scores { heads, .. } => {
                    for (at, o) in operands.iter().enumerate() {
                        use_as(*o, Some(heads), at == 1, at);
                    }
                }
                PolyOp::Values { heads, .. } => {
                    if let Some(o) = operands.get(1) {
                        use_as(*o, Some(heads), true, 1);
                    }
                    use_as(v, Some(heads), false, usize::MAX);
                }
                PolyOp::Linear(_) | PolyOp::ColumnSum { .. } => {
                    if let Some(o) = operands.first() {
                        use_as(*o, None, false, 0);
                    }
                }
                _ => {}
            }
            // A residual sum or an output keeps its rows where they are.
            let input = matches!(node.op, PolyOp::Input { .. })
                && matches!(node.shape, Shape::Matrix { .. });
            if input || graph.outputs.iter().any(|(_, o)| *o == v) {
                use_as(v, None, false, usize::MAX);
            }
        }
        let Some((v, at)) = conflict else {
            let mut features = BTreeMap::new();
            for v in graph.topological() {
                if let Shape::Matrix { .. } = graph.node(v).shape {
                    let role = roles.get(&classes.find(v)).copied().unwrap_or_default();
                    features.insert(
                        v,
                        Features {
                            heads: role.heads.unwrap_or(1),
                            shifted: role.keyed && !role.plain,
                        },
                    );
                }
            }
            return features;
        };
        // `at` is an operand, or `v` itself is made in another layout than its users want.
        let (source, users) = if at == usize::MAX {
            (v, graph.users(v))
        } else {
            match graph.operands(v).get(at) {
                Some(o) => (*o, vec![v]),
                None => return BTreeMap::new(),
            }
        };
        convert(graph, source, &users, at);
    }
}

/// Puts an identity map between `source` and `users` (all operands if `at` is `usize::MAX`, else that operand).
fn convert(graph: &mut PolyGraph, source: ValueId, users: &[ValueId], at: usize) {
    let node = graph.node(source);
    let (shape, layer, name) = (node.shape, node.layer, format!("{}_moved", node.name));
    let cols = match shape {
        Shape::Matrix { cols, .. } => cols,
        _ => 1,
    };
    let identity = PolyOp::Linear(Linear {
        terms: vec![LinearTerm {
            rows: RowMap::Identity,
            weight: Weight::identity(cols),
            post: None,
        }],
        bias: None,
    });
    let range = node.range;
    let moved = graph.add(&name, identity, &[source], shape, layer);
    graph.node_mut(moved).range = range;
    for user in users {
        let operands: Vec<ValueId> = graph
            .operands(*user)
            .into_iter()
            .enumerate()
            .map(|(i, o)| {
                if o == source && (at == usize::MAX || i == at) {
                    moved
                } else {
                    o
                }
            })
            .collect();
        graph.set_operands(*user, &operands);
    }
}

/// Chooses how slots are cut up: tokens and lanes from the shapes, and the batch: the one asked for, else the largest that lets
/// one window and the widest scores fit one ciphertext.
pub fn choose_geometry(
    graph: &PolyGraph,
    features: &BTreeMap<ValueId, Features>,
    slots: usize,
    batch: Option<usize>,
) -> Result<Geometry, PassError> {
    let (mut tokens, mut scores) = (1usize, 1usize);
    let mut attention: Option<usize> = None;
    let mut widest = 1usize;
    let mut head: usize = 1;
    for v in graph.topological() {
        match graph.node(v).shape {
            Shape::Matrix { rows, cols } => {
                tokens = tokens.max(rows.next_power_of_two());
                let heads = features.get(&v).map_or(1, |f| f.heads);
                let width = padded_width(cols, heads, usize::MAX);
                widest = widest.max(width);
                if heads > 1 || features.get(&v).is_some_and(|f| f.shifted) {
                    head = head.max(head_width(cols, heads));
                    attention = Some(attention.map_or(width, |w: usize| w.min(width)));
                }
            }
            Shape::Scores { heads, rows, keys } => {
                let side = rows.max(keys).next_power_of_two();
                scores = scores.max(heads.next_power_of_two() * side * side);
            }
            _ => {}
        }
    }
    let room = slots / tokens.min(slots);
    let lanes = attention.unwrap_or(widest).max(head).min(room.max(1));
    if tokens > slots || head > lanes {
        return Err(PassError::Resource {
            pass: NAME,
            what: format!("slots for {tokens} tokens with heads of {head} features"),
            needed: (tokens * head).to_string(),
            available: slots.to_string(),
            remedy: "choose a parameter set with a larger ring, or a shorter sequence (--shape)"
                .into(),
        });
    }
    let most = slots / (tokens * lanes);
    let batch = match batch {
        Some(n) if n == 0 || n > most => {
            return Err(PassError::Resource {
                pass: NAME,
                what: "inputs side by side".into(),
                needed: n.to_string(),
                available: most.to_string(),
                remedy: format!("choose --batch between 1 and {most}"),
            })
        }
        Some(n) => n.next_power_of_two(),
        None => most.min((slots / scores).max(1)),
    };
    Ok(Geometry {
        slots,
        batch,
        tokens,
        lanes,
    })
}
