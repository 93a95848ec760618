//! Reads the full text of a graph: what all rungs share.

use std::collections::BTreeMap;

use super::cursor::{Cursor, ParseError, MOST};
use crate::ir::graph::{Graph, ValueId};
use crate::ir::shape::{Layer, LayerKind, Matrix};

/// What a rung reads beyond values with facts, layers and outputs.
pub trait Rung {
    /// The operation of its values.
    type Op;
    /// First word of the text.
    const STAGE: &'static str;

    /// What follows the name of the graph.
    fn head(&mut self, _r: &mut Reader<'_>) -> Result<(), ParseError> {
        Ok(())
    }

    /// A line that starts with `word`, which has been read; `false` where there is no such line.
    fn line(&mut self, _word: &str, _r: &mut Reader<'_>) -> Result<bool, ParseError> {
        Ok(false)
    }

    /// Operation and operands, after the `=`.
    fn op(&mut self, r: &mut Reader<'_>) -> Result<(Self::Op, Vec<ValueId>), ParseError>;

    /// Told of every value once it is made.
    fn made(&mut self, _v: ValueId, _op: &Self::Op) {}
}

/// A text being read: the place, and what the names so far mean.
pub struct Reader<'t> {
    /// The place.
    pub at: Cursor<'t>,
    values: BTreeMap<String, ValueId>,
    /// Where the text of each constant starts.
    constants: BTreeMap<String, usize>,
}

/// A matrix, at its definition.
pub(in crate::ir) fn matrix(mut at: Cursor<'_>) -> Result<Matrix, ParseError> {
    at.keyword("matrix")?;
    let rows = at.count("a number of rows")?;
    at.symbol("x")?;
    let cols = at.count("a number of columns")?;
    let data = numbers(&mut at, rows.saturating_mul(cols))?;
    Ok(Matrix { rows, cols, data })
}

impl<'t> Reader<'t> {
    /// A value that was defined before.
    pub fn value(&mut self) -> Result<ValueId, ParseError> {
        self.at.skip();
        let start = self.at;
        let name = self.at.signed_name('%', "a value such as `%x`")?;
        match self.values.get(&name) {
            Some(v) => Ok(*v),
            None => Err(start.fail("a value that is defined above")),
        }
    }

    /// `n` values, separated by commas.
    pub fn values(&mut self, n: usize) -> Result<Vec<ValueId>, ParseError> {
        let mut all = Vec::with_capacity(n);
        for i in 0..n {
            if i > 0 {
                self.at.symbol(",")?;
            }
            all.push(self.value()?);
        }
        Ok(all)
    }

    /// The place after the `=` of a constant, which is named here.
    pub fn constant(&mut self) -> Result<(String, Cursor<'t>), ParseError> {
        self.at.skip();
        let start = self.at;
        let name = self.at.signed_name('@', "a constant such as `@w`")?;
        match self.constants.get(&name) {
            Some(offset) => Ok((name, self.at.moved(*offset))),
            None => Err(start.fail("a constant that is in the section `constants`")),
        }
    }

    /// The place after the `=` of constant `name`, if there is such a constant.
    pub fn named(&self, name: &str) -> Option<Cursor<'t>> {
        self.constants.get(name).map(|at| self.at.moved(*at))
    }

    /// A matrix constant, by name.
    pub fn matrix(&mut self) -> Result<Matrix, ParseError> {
        matrix(self.constant()?.1)
    }

    /// Whole numbers, by name.
    pub fn integers(&mut self) -> Result<Vec<i64>, ParseError> {
        let (_, mut at) = self.constant()?;
        at.keyword("integers")?;
        let count = at.count("a number of whole numbers")?;
        integers(&mut at, count)
    }

    /// A vector constant, by name: a matrix of one row.
    pub fn vector(&mut self) -> Result<Vec<f64>, ParseError> {
        let start = self.at;
        let m = self.matrix()?;
        if m.rows != 1 {
            return Err(start.fail("a matrix of one row"));
        }
        Ok(m.data)
    }

    /// `word` and a matrix after a comma, if they come next.
    pub fn optional_matrix(&mut self, word: &str) -> Result<Option<Matrix>, ParseError> {
        if self.at.try_parameter(word) {
            self.matrix().map(Some)
        } else {
            Ok(None)
        }
    }
}

/// `count` numbers; `x*n` stands for n equal ones.
pub(in crate::ir) fn numbers(at: &mut Cursor<'_>, count: usize) -> Result<Vec<f64>, ParseError> {
    const WHAT: &str = "a number of the constant";
    if count > MOST {
        return Err(at.fail(format!("at most {MOST} numbers")));
    }
    // A number and its blank take two characters at least, except in runs.
    let mut all = Vec::with_capacity(count.min(at.left() / 2 + 1));
    while all.len() < count {
        let start = *at;
        let x = at.number(WHAT)?;
        let n = if at.try_symbol("*") {
            at.count("a repetition")?
        } else {
            1
        };
        if n > count - all.len() {
            return Err(start.fail(format!("{} more numbers", count - all.len())));
        }
        all.resize(all.len() + n, x);
    }
    Ok(all)
}

/// Whole numbers up to the next thing that is none; `a..b` ascends, `a*n` repeats. `count` are wanted, `-` stands for -1.
pub(in crate::ir) fn integers(at: &mut Cursor<'_>, count: usize) -> Result<Vec<i64>, ParseError> {
    const WHAT: &str = "a whole number";
    if count > MOST {
        return Err(at.fail(format!("at most {MOST} numbers")));
    }
    let mut all = Vec::new();
    while all.len() < count {
        let start = *at;
        let x: i64 = at.integer(WHAT)?;
        let room = count - all.len();
        let misfit = || start.fail(format!("{room} more numbers"));
        if at.try_symbol("..") {
            let last: i64 = at.integer(WHAT)?;
            let n = last.checked_sub(x).and_then(|d| d.checked_add(1));
            match n.and_then(|n| usize::try_from(n).ok()) {
                Some(n) if n >= 1 && n <= room => all.extend(x..=last),
                _ => return Err(misfit()),
            }
        } else if at.try_symbol("*") {
            let n = at.count("a repetition")?;
            if n > room {
                return Err(misfit());
            }
            all.resize(all.len() + n, x);
        } else {
            all.push(x);
        }
    }
    Ok(all)
}

/// Names of constants and where their texts start. The cursor stands after the graph.
fn index(mut at: Cursor<'_>) -> Result<BTreeMap<String, usize>, ParseError> {
    let mut found = BTreeMap::new();
    if at.try_keyword("constants") {
        at.symbol("{")?;
        while at.seek('@')? {
            let start = at;
            let name = at.signed_name('@', "a constant such as `@w`")?;
            at.symbol("=")?;
            if found.insert(name, at.offset()).is_some() {
                return Err(start.fail("a new name for a constant"));
            }
        }
        at.symbol("}")?;
    }
    at.end()?;
    Ok(found)
}

/// Reads a graph of one rung, with what the client divides its outputs by.
pub fn parse<R: Rung>(text: &str, rung: &mut R) -> Result<(Graph<R::Op>, Vec<f64>), ParseError> {
    let mut r = Reader {
        at: Cursor::new(text),
        values: BTreeMap::new(),
        constants: BTreeMap::new(),
    };
    r.at.keyword(R::STAGE)?;
    let mut graph = Graph::new(r.at.name("the name of the graph")?);
    let mut factors = Vec::new();
    // Heads and values may name constants, which come last.
    let mut after = r.at;
    if !after.seek('{')? {
        return Err(after.fail("`{`"));
    }
    after.skip_block()?;
    r.constants = index(after)?;
    rung.head(&mut r)?;
    r.at.symbol("{")?;
    loop {
        r.at.skip();
        let start = r.at;
        if r.at.try_symbol("}") {
            break;
        } else if r.at.peek_word().is_empty() {
            value(&mut r, &mut graph, rung)?;
            continue;
        }
        match r.at.word("a line")? {
            "layer" => {
                let layer = layer(&mut r.at)?;
                graph.add_layer(layer);
            }
            "output" => {
                let name = r.at.name("the name of an output")?;
                r.at.symbol("=")?;
                let v = r.value()?;
                let given = r.at.try_parameter("factor");
                let factor = if given { r.at.number("a factor")? } else { 1.0 };
                graph.outputs.push((name, v));
                factors.push(factor);
            }
            word => {
                if !rung.line(word, &mut r)? {
                    return Err(start.fail("a value `%x = …`, `layer`, `output` or `}`"));
                }
            }
        }
    }
    if graph.layers.is_empty() {
        graph.add_layer(Layer {
            name: graph.name.clone(),
            kind: LayerKind::Other,
            onnx_nodes: Vec::new(),
        });
    }
    Ok((graph, factors))
}

fn layer(at: &mut Cursor<'_>) -> Result<Layer, ParseError> {
    let name = at.name("the name of a layer")?;
    let start = *at;
    let word = at.word("a kind of layer")?;
    let kind =
        LayerKind::from_name(word).ok_or_else(|| start.fail("a kind of layer such as `matmul`"))?;
    let mut onnx_nodes = Vec::new();
    if at.try_keyword("from") {
        onnx_nodes.push(at.name("the name of a node")?);
        while at.try_symbol(",") {
            onnx_nodes.push(at.name("the name of a node")?);
        }
    }
    Ok(Layer {
        name,
        kind,
        onnx_nodes,
    })
}

fn value<R: Rung>(
    r: &mut Reader<'_>,
    graph: &mut Graph<R::Op>,
    rung: &mut R,
) -> Result<(), ParseError> {
    let start = r.at;
    let name = r.at.signed_name('%', "a value `%x = …`, a line or `}`")?;
    if r.values.contains_key(&name) {
        return Err(start.fail("a new name for a value"));
    }
    r.at.symbol("=")?;
    let (op, operands) = rung.op(r)?;
    r.at.symbol(":")?;
    let shape = r.at.shape()?;
    let range = if r.at.try_keyword("in") {
        Some(r.at.interval()?)
    } else {
        None
    };
    let mut arguments = Vec::new();
    if r.at.try_keyword("argument") {
        r.at.keyword("in")?;
        arguments.push(r.at.interval()?);
        while r.at.next_is('[') {
            arguments.push(r.at.interval()?);
        }
    }
    let mut layer = 0;
    // A line that starts with `layer` comes before all values.
    if r.at.try_keyword("layer") {
        let start = r.at;
        layer = r.at.integer("the number of a layer")?;
        if layer >= graph.layers.len() {
            return Err(start.fail(format!("a layer below {}", graph.layers.len())));
        }
    }
    let v = graph.add(&name, op, &operands, shape, layer);
    rung.made(v, &graph.node(v).op);
    let node = graph.node_mut(v);
    node.range = range;
    node.arguments = arguments;
    r.values.insert(name, v);
    Ok(())
}
