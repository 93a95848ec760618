//! The noise that `clear` adds; the compiler predicts errors by the same model.

pub use heron_schedule::noise::{NoiseModel, NoiseStream};

#[cfg(test)]
mod tests {
    use crate::bootstrap::Tuning;

    #[test]
    fn the_model_knows_the_message_ratio_of_bootstraps() {
        assert_eq!(
            heron_schedule::noise::MESSAGE_SHIFT,
            Tuning::STANDARD.message_shift
        );
    }
}
