//! Numbers of model files as weights of the graphs: a [`Base`] behind the graphs' [`Numbers`].

use std::any::Any;
use std::sync::Arc;

use heron_passes::ir::weight::{Numbers, Weight};
use heron_schedule::base::Base;

/// Numbers that lie in a model file, or that a schedule holds.
#[derive(Clone, Debug)]
pub struct ModelNumbers(pub Base);

impl Numbers for ModelNumbers {
    fn len(&self) -> usize {
        self.0.len()
    }

    fn fill(&self, start: usize, out: &mut [f64]) {
        self.0.fill(start, out);
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// What numbers of a graph are kept in. Others than those of a model or a schedule are copied, in f32.
pub fn base_of(numbers: &Arc<dyn Numbers>) -> Base {
    if let Some(known) = numbers.as_any().downcast_ref::<ModelNumbers>() {
        return known.0.clone();
    }
    let mut all = vec![0.0; numbers.len()];
    numbers.fill(0, &mut all);
    Base::of_singles(all.into_iter())
}

/// The numbers of a weight that is kept elsewhere.
pub fn numbers_of(weight: &Weight) -> Option<&Arc<dyn Numbers>> {
    match weight {
        Weight::Stored(s) => Some(&s.base),
        _ => None,
    }
}
