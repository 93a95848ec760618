//! Runs a client's program: one pass over its steps.

use super::{ClientError, ClientGraph, Function, Operation, Reduction, Step, MAX_ELEMENTS};
use std::collections::BTreeMap;

impl ClientGraph {
    /// The result of every port for one input; `given` maps graph inputs to their values.
    pub fn evaluate(
        &self,
        given: &BTreeMap<String, Vec<f64>>,
    ) -> Result<BTreeMap<String, Vec<f64>>, ClientError> {
        let mut values: Vec<Vec<f64>> = Vec::with_capacity(self.steps.len());
        for (number, step) in self.steps.iter().enumerate() {
            values.push(self.step(number, step, &values, given)?);
        }
        let mut out = BTreeMap::new();
        for (port, value) in &self.results {
            let v = values
                .get(*value as usize)
                .ok_or_else(|| malformed(*value as usize, "a result that no step makes"))?;
            out.insert(port.clone(), v.clone());
        }
        Ok(out)
    }

    /// Adds the results to what the user gave.
    pub fn extend(&self, given: &mut BTreeMap<String, Vec<f64>>) -> Result<(), ClientError> {
        if !self.is_empty() {
            let found = self.evaluate(given)?;
            given.extend(found);
        }
        Ok(())
    }

    fn step(
        &self,
        number: usize,
        step: &Step,
        values: &[Vec<f64>],
        given: &BTreeMap<String, Vec<f64>>,
    ) -> Result<Vec<f64>, ClientError> {
        let operands = step
            .operands
            .iter()
            .map(|&o| {
                values
                    .get(o as usize)
                    .ok_or_else(|| malformed(number, "an operand that no step before makes"))
            })
            .collect::<Result<Vec<&Vec<f64>>, ClientError>>()?;
        let one = || match operands[..] {
            [x] => Ok(x),
            _ => Err(malformed(number, "one operand expected")),
        };
        match &step.operation {
            Operation::Source(i) => {
                let source = self
                    .sources
                    .get(*i)
                    .ok_or_else(|| malformed(number, "no such source"))?;
                let v = given
                    .get(&source.name)
                    .ok_or_else(|| ClientError::Missing(source.name.clone()))?;
                let expected = source.shape.iter().product();
                if v.len() != expected {
                    return Err(ClientError::Size {
                        name: source.name.clone(),
                        expected,
                        found: v.len(),
                    });
                }
                Ok(v.clone())
            }
            Operation::Arrange {
                element,
                factor,
                summand,
            } => arrange(number, &operands, element, factor, summand),
            Operation::Lookup { table, cols } => {
                let rows = table.len() / (*cols).max(1);
                let mut out = Vec::new();
                for &id in one()? {
                    let row = if id < 0.0 { id + rows as f64 } else { id };
                    let known = row.fract() == 0.0 && row >= 0.0 && row < rows as f64;
                    let found = known
                        .then(|| table.chunks_exact((*cols).max(1)).nth(row as usize))
                        .flatten();
                    out.extend_from_slice(found.ok_or_else(|| ClientError::Id {
                        found: id,
                        rows,
                        inputs: self.inputs_of(number),
                    })?);
                    if out.len() > MAX_ELEMENTS {
                        return Err(malformed(number, "too many elements"));
                    }
                }
                Ok(out)
            }
            Operation::Apply(f) => {
                let n = operands.first().map_or(0, |x| x.len());
                if operands.len() != f.arguments() || operands.iter().any(|x| x.len() != n) {
                    return Err(malformed(
                        number,
                        "operands of one size expected, as many as the function takes",
                    ));
                }
                (0..n)
                    .map(|i| {
                        let mut x = [0.0; 3];
                        for (to, from) in x.iter_mut().zip(&operands) {
                            *to = from.get(i).copied().unwrap_or(0.0);
                        }
                        f.value(&x).ok_or_else(|| ClientError::Mask {
                            found: x[0],
                            expected: if *f == Function::Kept {
                                "0 or less than -10000"
                            } else {
                                "0 or 1"
                            },
                            inputs: self.inputs_of(number),
                        })
                    })
                    .collect()
            }
            Operation::Reduce { how, length } => {
                let groups = groups(number, one()?, *length)?;
                Ok(groups
                    .map(|g| match how {
                        Reduction::Sum => g.iter().sum(),
                        Reduction::Product => g.iter().product(),
                        Reduction::Max => g.iter().copied().fold(f64::NEG_INFINITY, f64::max),
                        Reduction::Min => g.iter().copied().fold(f64::INFINITY, f64::min),
                    })
                    .collect())
            }
            Operation::CumulativeSum { length } => {
                let mut out = Vec::new();
                for g in groups(number, one()?, *length)? {
                    let mut sum = 0.0;
                    out.extend(g.iter().map(|x| {
                        sum += x;
                        sum
                    }));
                }
                Ok(out)
            }
        }
    }

    /// The graph inputs that a step depends on, for messages.
    fn inputs_of(&self, step: usize) -> String {
        let mut wanted = vec![false; step + 1];
        wanted[step] = true;
        let mut names = Vec::new();
        for i in (0..=step).rev() {
            let Some(s) = self.steps.get(i).filter(|_| wanted[i]) else {
                continue;
            };
            if let Operation::Source(k) = s.operation {
                names.extend(self.sources.get(k).map(|s| format!("`{}`", s.name)));
            }
            for &o in &s.operands {
                if let Some(w) = wanted.get_mut(o as usize) {
                    *w = true;
                }
            }
        }
        names.sort();
        names.join(", ")
    }
}

fn malformed(step: usize, reason: &str) -> ClientError {
    ClientError::Malformed {
        step,
        reason: reason.into(),
    }
}

fn groups(
    number: usize,
    x: &[f64],
    length: usize,
) -> Result<std::slice::ChunksExact<'_, f64>, ClientError> {
    if length == 0 || !x.len().is_multiple_of(length) {
        return Err(malformed(number, "groups that do not fill the operand"));
    }
    Ok(x.chunks_exact(length))
}

fn arrange(
    number: usize,
    operands: &[&Vec<f64>],
    element: &[i32],
    factor: &[f64],
    summand: &[f64],
) -> Result<Vec<f64>, ClientError> {
    let joined: Vec<f64> = operands.iter().flat_map(|x| x.iter().copied()).collect();
    let n = if element.is_empty() {
        joined.len()
    } else {
        element.len()
    };
    let fits = |v: &[f64]| v.len() < 2 || v.len() == n;
    if !fits(factor) || !fits(summand) {
        return Err(malformed(
            number,
            "factors and summands for every element expected",
        ));
    }
    let pick = |v: &[f64], i: usize, none: f64| match v {
        [] => none,
        [x] => *x,
        all => all.get(i).copied().unwrap_or(none),
    };
    (0..n)
        .map(|i| {
            let place = element.get(i).map_or(i as i64, |&e| i64::from(e));
            let add = pick(summand, i, 0.0);
            if place < 0 {
                return Ok(add);
            }
            let x = joined
                .get(place as usize)
                .ok_or_else(|| malformed(number, "an element that no operand has"))?;
            Ok(x * pick(factor, i, 1.0) + add)
        })
        .collect()
}
