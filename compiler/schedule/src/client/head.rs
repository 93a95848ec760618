//! The client's last step where the head of a model is left to it: a linear map, in f64, of what it decrypted.

use crate::proto::{Plaintext, Port, Program};
use crate::verify::port_elements;
use crate::weights::Weights;

/// A head with its weights, which stay in the file.
pub struct Head<'a> {
    weight: &'a [u8],
    single: bool,
    bias: Option<Vec<f64>>,
    rows: usize,
    cols_in: usize,
    cols_out: usize,
}

impl Head<'_> {
    /// The head of an output port, if it has one. Fails where its weights do not fit the port.
    pub fn read<'a>(
        port: &Port,
        program: &Program,
        weights: &'a Weights,
    ) -> Result<Option<Head<'a>>, String> {
        let Some(head) = &port.head else {
            return Ok(None);
        };
        let cols_out = head.cols as usize;
        let entry: Option<&Plaintext> = program.plaintexts.get(head.weight as usize);
        let entry = entry.ok_or("the head's weights are missing")?;
        let elements = port_elements(port) as usize;
        let cols_in = entry.length as usize / cols_out.max(1);
        let results: Option<usize> = head
            .shape
            .iter()
            .try_fold(1usize, |n, &d| n.checked_mul(d as usize));
        if cols_out == 0
            || cols_in * cols_out != entry.length as usize
            || cols_in == 0
            || !elements.is_multiple_of(cols_in)
            || results != (elements / cols_in).checked_mul(cols_out)
        {
            return Err(format!(
                "a head of {} weights and {cols_out} columns does not turn {elements} values into shape {:?}",
                entry.length, head.shape
            ));
        }
        let rows = elements / cols_in;
        let bias = match &head.bias {
            None => None,
            Some(bias) => {
                let values = weights.vector(&program.plaintexts, bias.plaintext);
                let values = values.map_err(|e| e.to_string())?;
                if values.len() != cols_out && values.len() != rows * cols_out {
                    let found = values.len();
                    return Err(format!(
                        "a bias of {cols_out} values expected, found {found}"
                    ));
                }
                Some(values)
            }
        };
        let raw = weights.raw(&program.plaintexts, head.weight);
        Ok(Some(Head {
            weight: raw.map_err(|e| e.to_string())?,
            single: entry.single,
            bias,
            rows,
            cols_in,
            cols_out,
        }))
    }

    /// What the model's output is, given the values decrypted, row-major. `None` where they are not as many as the port has.
    pub fn apply(&self, values: &[f64]) -> Option<Vec<f64>> {
        if values.len() != self.rows * self.cols_in {
            return None;
        }
        let mut out = match &self.bias {
            Some(bias) => bias
                .iter()
                .copied()
                .cycle()
                .take(self.rows * self.cols_out)
                .collect(),
            None => vec![0.0; self.rows * self.cols_out],
        };
        let width = if self.single { 4 } else { 8 };
        // One row of weights at a time, for all rows of values: the weights are read from the file once.
        for (i, weights) in self.weight.chunks_exact(width * self.cols_out).enumerate() {
            for (x, y) in values
                .chunks_exact(self.cols_in)
                .zip(out.chunks_exact_mut(self.cols_out))
            {
                let x = x.get(i)?;
                for (y, w) in y.iter_mut().zip(weights.chunks_exact(width)) {
                    let w = match self.single {
                        true => f64::from(f32::from_le_bytes(w.try_into().ok()?)),
                        false => f64::from_le_bytes(w.try_into().ok()?),
                    };
                    *y += x * w;
                }
            }
        }
        Some(out)
    }
}

/// The shape of a model's output, for one input: what the client has in the end.
pub fn result_shape(port: &Port) -> &[u32] {
    port.head.as_ref().map_or(&port.shape, |head| &head.shape)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::{self, BiasRef};
    use crate::weights::WeightsBuilder;

    /// Two rows of three values; a head of two columns.
    fn case(single: bool, bias: &[f64]) -> (Program, Weights) {
        let mut builder = WeightsBuilder::new();
        let weight = builder.push(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0], single);
        let bias = builder.push(bias, false);
        let (plaintexts, weights) = builder.finish();
        let port = Port {
            shape: vec![2, 3],
            head: Some(proto::Head {
                weight,
                bias: Some(BiasRef { plaintext: bias }),
                cols: 2,
                shape: vec![2, 2],
            }),
            ..Port::default()
        };
        let program = Program {
            outputs: vec![port],
            plaintexts,
            ..Program::default()
        };
        (program, weights)
    }

    #[test]
    fn rows_are_multiplied_by_the_weights_in_either_precision() {
        for single in [true, false] {
            let (program, weights) = case(single, &[0.5, -0.5]);
            let head = Head::read(&program.outputs[0], &program, &weights);
            let head = head.expect("fits").expect("a head");
            let found = head.apply(&[1.0, 0.0, 0.0, 1.0, 1.0, 1.0]);
            assert_eq!(found, Some(vec![1.5, 1.5, 9.5, 11.5]));
            assert_eq!(head.apply(&[1.0]), None);
        }
        let (program, weights) = case(true, &[0.0, 1.0, 2.0, 3.0]);
        let head = Head::read(&program.outputs[0], &program, &weights);
        let head = head.expect("fits").expect("a head");
        assert_eq!(head.apply(&[0.0; 6]), Some(vec![0.0, 1.0, 2.0, 3.0]));
    }

    #[test]
    fn heads_that_do_not_fit_their_port_are_refused() {
        let broken = |change: &dyn Fn(&mut Port)| {
            let (mut program, weights) = case(true, &[0.5, -0.5]);
            change(&mut program.outputs[0]);
            Head::read(&program.outputs[0], &program, &weights).err()
        };
        let head = |port: &mut Port, change: &dyn Fn(&mut proto::Head)| {
            change(port.head.as_mut().expect("a head"));
        };
        assert!(broken(&|_| ()).is_none());
        for change in [
            &|p: &mut Port| p.shape = vec![2, 2],
            &|p: &mut Port| head(p, &|h| h.cols = 0),
            &|p: &mut Port| head(p, &|h| h.cols = 4),
            &|p: &mut Port| head(p, &|h| h.weight = 7),
            &|p: &mut Port| head(p, &|h| h.shape = vec![3, 2]),
            &|p: &mut Port| head(p, &|h| h.bias = Some(BiasRef { plaintext: 0 })),
            &|p: &mut Port| head(p, &|h| h.bias = Some(BiasRef { plaintext: 9 })),
        ] as [&dyn Fn(&mut Port); 7]
        {
            assert!(broken(change).is_some());
        }
    }
}
