//! The client's side of inputs and outputs: from arrays to slots, from slots to arrays.
//!
//! Slot of virtual slot v and batch lane b: v·batch + b. Lanes without an input of their own repeat the ones given, so that every slot
//! holds a value the model was calibrated for.

use heron_schedule::proto::Port;
use heron_schedule::verify::port_elements;
use heron_schedule::{Weights, WeightsError};
use thiserror::Error;

/// Why inputs or outputs were refused.
#[derive(Clone, Debug, PartialEq, Error)]
pub enum PortError {
    /// Not one to `batch` inputs.
    #[error("`{port}`: a run takes 1 to {batch} inputs, found {found}")]
    Count {
        /// The port.
        port: String,
        /// Inputs one run takes.
        batch: usize,
        /// Inputs given.
        found: usize,
    },
    /// An input of another size.
    #[error("`{port}`: input {index} has {found} values, expected {expected} (shape {shape:?})")]
    Shape {
        /// The port.
        port: String,
        /// Which input.
        index: usize,
        /// The shape of one input.
        shape: Vec<u32>,
        /// Its number of values.
        expected: usize,
        /// Values given.
        found: usize,
    },
    /// An infinity or NaN.
    #[error("`{port}`: value {element} of input {index} is not finite")]
    NotFinite {
        /// The port.
        port: String,
        /// Which input.
        index: usize,
        /// Which value.
        element: usize,
    },
    /// A token id outside the vocabulary.
    #[error("`{port}`: value {element} of input {index} is {found}, expected a token id in 0..{vocabulary}")]
    Token {
        /// The port.
        port: String,
        /// Which input.
        index: usize,
        /// Which value.
        element: usize,
        /// The value found.
        found: f64,
        /// Tokens there are.
        vocabulary: u32,
    },
    /// Results that do not fit the port.
    #[error("`{port}`: {reason}")]
    Output {
        /// The port.
        port: String,
        /// What was expected and found.
        reason: String,
    },
    /// The embedding table.
    #[error(transparent)]
    Weights(#[from] WeightsError),
}

/// The embedding table of a port as f64, if it has one; row-major, vocabulary rows.
pub fn embedding_table(
    port: &Port,
    program: &heron_schedule::proto::Program,
    weights: &Weights,
) -> Result<Option<Vec<f64>>, WeightsError> {
    match &port.embedding {
        Some(e) => weights.vector(&program.plaintexts, e.plaintext).map(Some),
        None => Ok(None),
    }
}

/// Values of one input as the caller gives them: the product of the port's shape.
pub fn input_values(port: &Port) -> usize {
    let cols = port.embedding.as_ref().map_or(1, |e| e.cols.max(1));
    (port_elements(port) / u64::from(cols)) as usize
}

/// Slot vectors of the port's ciphertexts for up to `batch` inputs, each with its values row-major; token ids are looked up in `table`.
pub fn pack(
    port: &Port,
    table: Option<&[f64]>,
    batch: usize,
    slots: usize,
    inputs: &[&[f64]],
) -> Result<Vec<Vec<f64>>, PortError> {
    if inputs.is_empty() || inputs.len() > batch || batch == 0 {
        return Err(PortError::Count {
            port: port.name.clone(),
            batch,
            found: inputs.len(),
        });
    }
    let lanes = inputs
        .iter()
        .enumerate()
        .map(|(index, values)| elements(port, table, index, values))
        .collect::<Result<Vec<Vec<f64>>, _>>()?;
    Ok(port
        .ciphertexts
        .iter()
        .map(|ciphertext| {
            let map = &ciphertext.element;
            let mut out = Vec::with_capacity(slots);
            for v in 0..slots / batch {
                let element = map.get(v % map.len().max(1)).copied().unwrap_or(-1);
                for b in 0..batch {
                    let lane = lanes.get(b % lanes.len());
                    let value = usize::try_from(element)
                        .ok()
                        .and_then(|e| lane.and_then(|l| l.get(e)));
                    out.push(value.map_or(port.fill, |x| x * port.factor));
                }
            }
            out
        })
        .collect())
}

/// What has slots: the values themselves, or the rows of the embedding table.
fn elements(
    port: &Port,
    table: Option<&[f64]>,
    index: usize,
    values: &[f64],
) -> Result<Vec<f64>, PortError> {
    let expected = input_values(port);
    if values.len() != expected {
        return Err(PortError::Shape {
            port: port.name.clone(),
            index,
            shape: port.shape.clone(),
            expected,
            found: values.len(),
        });
    }
    if let Some(element) = values.iter().position(|v| !v.is_finite()) {
        return Err(PortError::NotFinite {
            port: port.name.clone(),
            index,
            element,
        });
    }
    let (Some(embedding), Some(table)) = (&port.embedding, table) else {
        return Ok(values.to_vec());
    };
    let cols = embedding.cols as usize;
    let mut out = Vec::with_capacity(values.len() * cols);
    for (element, &given) in values.iter().enumerate() {
        // ONNX's Gather counts negative ids from the end.
        let from_end = f64::from(embedding.vocabulary);
        let id = if given < 0.0 { given + from_end } else { given };
        let known = id.fract() == 0.0 && id >= 0.0 && id < f64::from(embedding.vocabulary);
        let row = if known {
            table.chunks_exact(cols.max(1)).nth(id as usize)
        } else {
            None
        };
        match row {
            Some(row) => out.extend_from_slice(row),
            None => {
                return Err(PortError::Token {
                    port: port.name.clone(),
                    index,
                    element,
                    found: given,
                    vocabulary: embedding.vocabulary,
                })
            }
        }
    }
    Ok(out)
}

/// The first `count` lanes of an output: for each the port's elements, row-major. `ciphertexts`: slot vectors.
pub fn unpack(
    port: &Port,
    batch: usize,
    ciphertexts: &[Vec<f64>],
    count: usize,
) -> Result<Vec<Vec<f64>>, PortError> {
    let refuse = |reason: String| PortError::Output {
        port: port.name.clone(),
        reason,
    };
    if ciphertexts.len() != port.ciphertexts.len() || count > batch {
        return Err(refuse(format!(
            "{} ciphertexts and up to {batch} inputs expected, found {} and {count}",
            port.ciphertexts.len(),
            ciphertexts.len()
        )));
    }
    let size = port_elements(port) as usize;
    let mut lanes = vec![vec![None; size]; count];
    for (ciphertext, slots) in port.ciphertexts.iter().zip(ciphertexts) {
        for (v, &element) in ciphertext.element.iter().enumerate() {
            let Ok(element) = usize::try_from(element) else {
                continue;
            };
            for (b, lane) in lanes.iter_mut().enumerate() {
                let value = slots.get(v * batch + b).copied();
                if let Some(place) = lane.get_mut(element) {
                    *place = place.or(value);
                }
            }
        }
    }
    let finish = |slot: Option<f64>| {
        let value = slot.ok_or_else(|| refuse("an element has no slot".into()))? * port.factor;
        let grid = f64::from(port.rounding_bits.clamp(0, 60)).exp2();
        Ok(if port.rounding_bits > 0 {
            (value * grid).round_ties_even() / grid
        } else {
            value
        })
    };
    lanes
        .into_iter()
        .map(|lane| lane.into_iter().map(finish).collect())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use heron_schedule::proto::{Embedding, PortCiphertext};

    fn port() -> Port {
        Port {
            name: "x".into(),
            shape: vec![3],
            factor: 2.0,
            fill: 0.25,
            ciphertexts: vec![PortCiphertext {
                element: vec![0, -1, 2, 1],
            }],
            ..Port::default()
        }
    }

    #[test]
    fn inputs_are_placed_lane_by_lane_and_spare_lanes_repeat() {
        let slots =
            pack(&port(), None, 4, 32, &[&[1.0, 2.0, 3.0], &[4.0, 5.0, 6.0]]).expect("fits");
        let expected = [
            [2.0, 8.0, 2.0, 8.0],
            [0.25; 4],
            [6.0, 12.0, 6.0, 12.0],
            [4.0, 10.0, 4.0, 10.0],
        ];
        assert_eq!(slots[0][..16], expected.concat());
        assert_eq!(slots[0][16..], slots[0][..16]);
    }

    #[test]
    fn outputs_come_back_in_order_with_their_factor() {
        let mut output = port();
        let slots = pack(&output, None, 2, 8, &[&[1.0, 2.0, 3.0], &[4.0, 5.0, 6.0]]).expect("fits");
        output.factor = 0.5;
        let found = unpack(&output, 2, &slots, 2).expect("fits");
        assert_eq!(found, vec![vec![1.0, 2.0, 3.0], vec![4.0, 5.0, 6.0]]);
    }

    #[test]
    fn token_ids_are_looked_up_and_strange_ones_refused() {
        let mut port = port();
        port.shape = vec![2];
        port.ciphertexts[0].element = vec![0, 1, 2, 3];
        port.embedding = Some(Embedding {
            vocabulary: 3,
            cols: 2,
            plaintext: 0,
        });
        let table = [0.0, 0.5, 1.0, 1.5, 2.0, 2.5];
        let slots = pack(&port, Some(&table), 1, 4, &[&[2.0, 1.0]]).expect("known ids");
        assert_eq!(slots[0], vec![4.0, 5.0, 2.0, 3.0]);
        assert_eq!(
            pack(&port, Some(&table), 1, 4, &[&[-1.0, -2.0]]).expect("known ids"),
            vec![slots[0].clone()]
        );
        for id in [3.0, -4.0, 0.5, 1e30] {
            let found = pack(&port, Some(&table), 1, 4, &[&[0.0, id]]);
            assert!(matches!(found, Err(PortError::Token { .. })), "{id}");
        }
    }

    #[test]
    fn wrong_inputs_are_refused() {
        let p = port();
        assert!(matches!(
            pack(&p, None, 1, 4, &[&[1.0]]),
            Err(PortError::Shape { .. })
        ));
        assert!(matches!(
            pack(&p, None, 1, 4, &[&[1.0, f64::NAN, 0.0]]),
            Err(PortError::NotFinite { element: 1, .. })
        ));
        assert!(matches!(
            pack(&p, None, 1, 4, &[]),
            Err(PortError::Count { .. })
        ));
        assert!(unpack(&p, 1, &[], 1).is_err());
    }
}
