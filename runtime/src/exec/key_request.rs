//! From the keys a schedule lists to the keys a client makes.

use super::ExecError;
use crate::ring::GaloisElement;
use crate::rlwe::{KeyKind, KeyRequest};
use heron_schedule::params::{Level, ParameterSet};
use heron_schedule::proto::Program;

/// The keys of the program's own instructions, each at the rows it is used at; bootstrapping's come on top.
/// Fails for a level beyond the table.
pub fn program_keys(program: &Program, params: &ParameterSet) -> Result<KeyRequest, ExecError> {
    let mut request = KeyRequest::new();
    for key in &program.keys {
        let kind = if key.relinearisation {
            KeyKind::Relinearisation
        } else if key.conjugation {
            KeyKind::Galois(GaloisElement::conjugation(params.log_n()))
        } else {
            KeyKind::Galois(GaloisElement::rotation(i64::from(key.step), params.log_n()))
        };
        for &level in &key.level {
            let level = Level(u8::try_from(level).unwrap_or(u8::MAX));
            params.scale(level)?;
            request.add(kind, level);
        }
    }
    Ok(request)
}
