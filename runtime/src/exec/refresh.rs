//! Bootstrapping for [`super::rns`]: the kinds a program uses, prepared once.

use super::rns::Refresh;
use super::together::Member;
use super::ExecError;
use crate::backend::{Backend, Cpu};
use crate::bootstrap::{requirements, BootstrapError, Bootstrapper, Kind, Tuning};
use crate::ckks::{Ciphertext, Evaluator};
use crate::rlwe::KeyRequest;
use heron_schedule::params::{Level, ParameterSet};
use heron_schedule::proto::{bootstrap::Kind as ProtoKind, Bootstrap, Program};

impl From<BootstrapError> for ExecError {
    fn from(error: BootstrapError) -> Self {
        ExecError::Evaluator(error.to_string())
    }
}

fn kind(kind: ProtoKind, log_slots: u32) -> Kind {
    match kind {
        ProtoKind::Full => Kind::Full,
        ProtoKind::ComplexPair => Kind::ComplexPair,
        ProtoKind::Sparse => Kind::Sparse { log_slots },
    }
}

/// The kinds of bootstraps a program lists.
pub fn kinds(program: &Program) -> Vec<Kind> {
    let list = program.bootstraps.iter();
    list.map(|b| kind(b.kind(), b.log_slots)).collect()
}

/// The keys of the program's bootstraps. Fails for parameters without rows for bootstrapping.
pub fn bootstrap_keys(program: &Program, params: &ParameterSet) -> Result<KeyRequest, ExecError> {
    Ok(requirements(params, Tuning::STANDARD, &kinds(program))?)
}

/// The matrices of the bootstraps a program uses; empty for a program without any.
pub struct Refresher<B: Backend = Cpu>(Option<Bootstrapper<B>>);

impl<B: Backend> Refresher<B> {
    /// Prepares the kinds the program lists: seconds and gigabytes for full slots at N = 2^16.
    pub fn new(program: &Program, evaluator: &Evaluator<B>) -> Result<Refresher<B>, ExecError> {
        let kinds = kinds(program);
        if kinds.is_empty() {
            return Ok(Refresher(None));
        }
        let (context, backend) = (evaluator.context(), evaluator.backend());
        let prepared = Bootstrapper::new(context, backend, Tuning::STANDARD, &kinds)?;
        Ok(Refresher(Some(prepared)))
    }

    /// With the keys of an evaluator.
    pub fn with<'a>(&'a self, evaluator: &'a Evaluator<B>) -> Refreshing<'a, B> {
        Refreshing {
            refresher: self,
            evaluator,
        }
    }
}

/// A number of sources that the kind does not take.
fn odd<P>(sources: &[&Ciphertext<P>]) -> ExecError {
    ExecError::Evaluator(format!("a bootstrap of {} ciphertexts", sources.len()))
}

/// A [`Refresher`] with keys.
pub struct Refreshing<'a, B: Backend> {
    refresher: &'a Refresher<B>,
    evaluator: &'a Evaluator<B>,
}

impl<B: Backend> Refresh<B::Poly> for Refreshing<'_, B> {
    fn refresh(
        &self,
        op: &Bootstrap,
        sources: &[&Ciphertext<B::Poly>],
    ) -> Result<Vec<Ciphertext<B::Poly>>, ExecError> {
        let missing = || ExecError::Evaluator("the program lists no bootstrap".into());
        let prepared = self.refresher.0.as_ref().ok_or_else(missing)?;
        let to = Level(u8::try_from(op.level_out).unwrap_or(u8::MAX));
        let evaluator = self.evaluator;
        match (op.kind(), sources) {
            (ProtoKind::Full, [a]) => Ok(vec![prepared.full(evaluator, a, to)?]),
            (ProtoKind::Sparse, [a]) => {
                Ok(vec![prepared.sparse(evaluator, a, op.log_slots, to)?])
            }
            (ProtoKind::ComplexPair, [a, b]) => {
                let (a, b) = prepared.pair(evaluator, a, b, to)?;
                Ok(vec![a, b])
            }
            _ => Err(odd(sources)),
        }
    }

    fn refresh_each(
        &self,
        batch: &[Member<'_, Bootstrap, Vec<&Ciphertext<B::Poly>>>],
    ) -> Result<Vec<Vec<Ciphertext<B::Poly>>>, ExecError> {
        let missing = || ExecError::Evaluator("the program lists no bootstrap".into());
        let prepared = self.refresher.0.as_ref().ok_or_else(missing)?;
        let Some(op) = batch.first().map(|m| m.op) else {
            return Ok(Vec::new());
        };
        let to = Level(u8::try_from(op.level_out).unwrap_or(u8::MAX));
        let (evaluator, kind) = (self.evaluator, kind(op.kind(), op.log_slots));
        if kind == Kind::ComplexPair {
            let pairs = batch.iter().map(|m| match m.sources.as_slice() {
                [a, b] => Ok((*a, *b)),
                sources => Err(odd(sources)),
            });
            let pairs = pairs.collect::<Result<Vec<_>, ExecError>>()?;
            let results = prepared.pair_each(evaluator, &pairs, to)?;
            return Ok(results.into_iter().map(|(a, b)| vec![a, b]).collect());
        }
        let sources = batch.iter().map(|m| match m.sources.as_slice() {
            [a] => Ok(*a),
            sources => Err(odd(sources)),
        });
        let sources = sources.collect::<Result<Vec<_>, ExecError>>()?;
        let results = prepared.each(evaluator, &sources, kind, to)?;
        Ok(results.into_iter().map(|ct| vec![ct]).collect())
    }
}
