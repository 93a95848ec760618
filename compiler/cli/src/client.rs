//! The client's half: slots to ciphertexts and back. The only place of the binary that encrypts or decrypts.

use crate::failure::{Failure, Outcome};
use heron_runtime::ckks::encoding::Encoder;
use heron_runtime::ckks::{Basis, Ciphertext, Plaintext};
use heron_runtime::client::ClientKey;
use heron_runtime::ring::RandomSource;
use heron_schedule::params::Level;
use heron_schedule::proto::Program;

/// Encrypts and decrypts for one schedule.
pub struct Client<'a> {
    program: &'a Program,
    key: &'a ClientKey,
    encoder: Encoder,
    random: RandomSource,
}

impl<'a> Client<'a> {
    /// A client with fresh randomness from the operating system.
    pub fn new(program: &'a Program, key: &'a ClientKey) -> Outcome<Client<'a>> {
        let encoder = Encoder::for_ring(key.context().ring())
            .map_err(|e| Failure::new("malformed", e.to_string()))?;
        Ok(Client {
            program,
            key,
            encoder,
            random: RandomSource::from_entropy()?,
        })
    }

    /// Encrypts the slot vectors of one run, by input port. `run` numbers the runs: no two share randomness.
    pub fn encrypt(&self, run: usize, slots: &[Vec<Vec<f64>>]) -> Outcome<Vec<Vec<Ciphertext>>> {
        let params = self.key.context().params();
        let mut ports = Vec::new();
        for (number, (port, vectors)) in self.program.inputs.iter().zip(slots).enumerate() {
            let level = Level(u8::try_from(port.level).unwrap_or(u8::MAX));
            let scale = params.scale(level)?;
            let mut ciphertexts = Vec::new();
            for (index, vector) in vectors.iter().enumerate() {
                let message = Plaintext::encode_real(
                    self.key.context(),
                    &self.encoder,
                    vector,
                    level,
                    scale,
                    Basis::Row,
                )?;
                let name = [run as u64, number as u64, index as u64];
                let random = self.random.derive("input", &name);
                ciphertexts.push(self.key.encrypt(&message, &random)?);
            }
            ports.push(ciphertexts);
        }
        Ok(ports)
    }

    /// The real parts of the slots of these ciphertexts.
    pub fn decrypt<'c>(
        &self,
        ciphertexts: impl IntoIterator<Item = &'c Ciphertext>,
    ) -> Outcome<Vec<Vec<f64>>> {
        let log_slots = self.key.context().params().log_n() - 1;
        ciphertexts
            .into_iter()
            .map(|ct| {
                let slots = self.key.decrypt_slots(&self.encoder, ct, log_slots)?;
                Ok(slots.iter().map(|c| c.re).collect())
            })
            .collect()
    }
}
