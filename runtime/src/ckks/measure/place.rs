//! Where operations are measured: a chain and a level of it.

use heron_schedule::params::{
    Level, LevelBits, LevelledShape, ParameterError, ParameterSet, Profile,
};

/// A chain and one of its levels.
#[derive(Clone, Debug)]
pub struct Place {
    /// The chain.
    pub params: ParameterSet,
    /// Level of the operands; at least 1, so that there is a level to rescale to.
    pub level: Level,
    /// The number of baby steps, where the product of matrices is measured too.
    pub matrix: Option<usize>,
}

/// log2 of the moduli at which other libraries were measured (24 and 9 levels of 45 bits above a prime of 60), and the digit size with
/// which a rotation is fastest near them. Milliseconds of one thread at N = 2^16 (least processor time of four rounds, Intel server CPU
/// with AVX-512) for digits of 4, 5, 6, 8, 10 and 12 limbs: 29.0, 26.3, 26.3, 24.1, 20.6, 22.3 at log Q = 453; for digits of 6, 8, 10,
/// 12 and 15: 101, 88, 82, 78, 68 at log Q = 1133. `cargo bench -p heron-runtime --bench ops -- secure 0.5 rotate 465/10` measures one of them.
const LARGE: (f64, u8) = (1140.0, 15);
const SMALL: (f64, u8) = (465.0, 9);

/// Baby steps of the product of matrices: there 0.56 s for 8, 0.48 s for 16, 0.53 s for 32.
const BABIES: usize = 16;

impl Place {
    /// The highest level of a chain that a program may use.
    pub fn top(params: ParameterSet) -> Place {
        Place {
            level: params.top_usable(),
            params,
            matrix: None,
        }
    }

    /// The level whose modulus is nearest to 2^log_q, on the chain without bootstrapping that has levels of 40 bits and digits of
    /// `digit_limbs`.
    ///
    /// # Errors
    /// A profile, ring or digit size without such a chain.
    pub fn levelled(
        profile: Profile,
        log_n: u32,
        (log_q, digit_limbs): (f64, u8),
    ) -> Result<Place, ParameterError> {
        let bits = LevelBits::Forty;
        let shape = LevelledShape { bits, digit_limbs };
        let params = ParameterSet::levelled(profile, log_n, shape)?;
        let distance = |level: Level| {
            let row = params.row(level);
            row.map_or(f64::INFINITY, |row| (row.log2_modulus - log_q).abs())
        };
        let levels = (1..=params.top_usable().0).map(Level);
        let nearest = levels.min_by(|&a, &b| distance(a).total_cmp(&distance(b)));
        Ok(Place {
            level: nearest.unwrap_or(Level(1)),
            params,
            matrix: None,
        })
    }

    /// The same place, where the product of matrices is measured too.
    pub fn with_matrix(self, babies: usize) -> Place {
        Place {
            matrix: Some(babies),
            ..self
        }
    }
}

/// Where `heron bench ops` measures under a profile: the highest usable level of its own chain and, where it has chains without
/// bootstrapping, one level as large and one as small as those that other libraries are measured at.
///
/// # Errors
/// A profile that does not exist in its own ring.
pub fn places(profile: Profile) -> Result<Vec<Place>, ParameterError> {
    let own = ParameterSet::new(profile)?;
    let log_n = own.log_n();
    let mut places = vec![Place::top(own)];
    // Most profiles have no such chains: that is no error.
    places.extend(Place::levelled(profile, log_n, LARGE));
    let small = Place::levelled(profile, log_n, SMALL);
    places.extend(small.map(|place| place.with_matrix(BABIES)));
    Ok(places)
}
