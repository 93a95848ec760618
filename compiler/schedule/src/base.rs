//! Numbers of a model as its file keeps them: floats of any ONNX type, mapped or held, read when they are needed.

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use rayon::prelude::*;

/// Numbers that one thread checks at a time.
const CHECKED: usize = 1 << 14;

/// How a float is stored, little-endian; the numbers are ONNX's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FloatKind {
    /// IEEE 754 binary32.
    Single = 1,
    /// IEEE 754 binary16.
    Half = 10,
    /// IEEE 754 binary64.
    Double = 11,
    /// The upper half of a binary32.
    Brain = 16,
}

impl FloatKind {
    /// The kind that ONNX gives this number.
    pub fn from_number(number: u32) -> Option<FloatKind> {
        [
            FloatKind::Single,
            FloatKind::Half,
            FloatKind::Double,
            FloatKind::Brain,
        ]
        .into_iter()
        .find(|k| *k as u32 == number)
    }

    /// Bytes of one number.
    pub fn width(self) -> usize {
        match self {
            FloatKind::Double => 8,
            FloatKind::Single => 4,
            FloatKind::Half | FloatKind::Brain => 2,
        }
    }
}

/// IEEE 754 binary16 to f64.
pub fn half(bits: u16) -> f64 {
    let sign = if bits >> 15 == 1 { -1.0 } else { 1.0 };
    let exponent = i32::from((bits >> 10) & 31);
    let fraction = f64::from(bits & 1023) / 1024.0;
    sign * match exponent {
        0 => fraction * 2f64.powi(-14),
        31 if fraction == 0.0 => f64::INFINITY,
        31 => f64::NAN,
        e => (1.0 + fraction) * 2f64.powi(e - 15),
    }
}

/// bfloat16 to f64.
pub fn brain(bits: u16) -> f64 {
    f64::from(f32::from_bits(u32::from(bits) << 16))
}

/// Bytes that somebody holds or maps.
type Holder = Arc<dyn AsRef<[u8]> + Send + Sync>;

/// Where numbers lie in a file of the model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The file.
    pub file: PathBuf,
    /// The first byte.
    pub offset: u64,
}

/// Numbers as they are stored. Cheap to clone.
#[derive(Clone)]
pub struct Base {
    kind: FloatKind,
    holder: Holder,
    range: Range<usize>,
    origin: Option<Origin>,
    hash: Arc<OnceLock<[u8; 32]>>,
}

impl fmt::Debug for Base {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Base({} of {:?})", self.len(), self.kind)
    }
}

impl Base {
    /// The numbers in `range` of what `holder` holds; `None` if the range leaves it or ends inside a number.
    pub fn new(kind: FloatKind, holder: Holder, range: Range<usize>) -> Option<Base> {
        let found = (*holder).as_ref().get(range.clone())?;
        found.len().is_multiple_of(kind.width()).then_some(Base {
            kind,
            holder,
            range,
            origin: None,
            hash: Arc::default(),
        })
    }

    /// Numbers held in f32.
    pub fn of_singles(numbers: impl Iterator<Item = f64>) -> Base {
        let bytes: Vec<u8> = numbers.flat_map(|x| (x as f32).to_le_bytes()).collect();
        let range = 0..bytes.len();
        Base {
            kind: FloatKind::Single,
            holder: Arc::new(bytes),
            range,
            origin: None,
            hash: Arc::default(),
        }
    }

    /// Notes where the numbers lie in a file of the model.
    pub fn from_file(self, file: &Path, offset: u64) -> Base {
        let file = file.to_path_buf();
        Base {
            origin: Some(Origin { file, offset }),
            ..self
        }
    }

    /// Where the numbers lie in a file of the model, if they do.
    pub fn origin(&self) -> Option<&Origin> {
        self.origin.as_ref()
    }

    /// How numbers are stored.
    pub fn kind(&self) -> FloatKind {
        self.kind
    }

    /// The bytes as stored.
    pub fn bytes(&self) -> &[u8] {
        let all = (*self.holder).as_ref();
        all.get(self.range.clone()).unwrap_or(&[])
    }

    /// How many numbers there are.
    pub fn len(&self) -> usize {
        self.range.len() / self.kind.width()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.range.is_empty()
    }

    /// BLAKE3 of the bytes.
    pub fn hash(&self) -> [u8; 32] {
        *self.hash.get_or_init(|| {
            let mut hasher = blake3::Hasher::new();
            *hasher.update_rayon(self.bytes()).finalize().as_bytes()
        })
    }

    /// Reads numbers from `start` on; what lies beyond the last one becomes NaN.
    pub fn fill(&self, start: usize, out: &mut [f64]) {
        let width = self.kind.width();
        let bytes = self.bytes().get(start * width..).unwrap_or(&[]);
        if bytes.len() < out.len() * width {
            out.fill(f64::NAN);
        }
        fn each<const N: usize>(out: &mut [f64], bytes: &[u8], read: impl Fn([u8; N]) -> f64) {
            let (chunks, _) = bytes.as_chunks::<N>();
            out.iter_mut().zip(chunks).for_each(|(x, c)| *x = read(*c));
        }
        match self.kind {
            FloatKind::Single => each(out, bytes, |c| f64::from(f32::from_le_bytes(c))),
            FloatKind::Double => each(out, bytes, f64::from_le_bytes),
            FloatKind::Half => each(out, bytes, |c| half(u16::from_le_bytes(c))),
            FloatKind::Brain => each(out, bytes, |c| brain(u16::from_le_bytes(c))),
        }
    }

    /// Number `at`, NaN beyond the last one.
    pub fn get(&self, at: usize) -> f64 {
        let mut x = [0.0];
        self.fill(at, &mut x);
        x[0]
    }

    /// The first number that is an infinity or NaN.
    pub fn not_finite(&self) -> Option<f64> {
        let blocks = self.len().div_ceil(CHECKED);
        (0..blocks).into_par_iter().find_map_first(|block| {
            let start = block * CHECKED;
            let mut numbers = vec![0.0; CHECKED.min(self.len() - start)];
            self.fill(start, &mut numbers);
            numbers.into_iter().find(|x| !x.is_finite())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_float_reads_back() {
        let one = |kind, bytes: Vec<u8>| {
            let range = 0..bytes.len();
            Base::new(kind, Arc::new(bytes), range).expect("whole numbers")
        };
        let numbers = [1.5f64, -0.25];
        let cases = [
            one(
                FloatKind::Single,
                numbers
                    .iter()
                    .flat_map(|x| (*x as f32).to_le_bytes())
                    .collect(),
            ),
            one(
                FloatKind::Double,
                numbers.iter().flat_map(|x| x.to_le_bytes()).collect(),
            ),
            one(FloatKind::Half, vec![0x00, 0x3e, 0x00, 0xb4]),
            one(FloatKind::Brain, vec![0xc0, 0x3f, 0x80, 0xbe]),
        ];
        for base in cases {
            assert_eq!(base.len(), 2);
            assert_eq!([base.get(0), base.get(1)], numbers, "{base:?}");
            assert!(base.get(2).is_nan());
            assert_eq!(base.not_finite(), None);
        }
    }

    #[test]
    fn ranges_that_leave_their_bytes_or_cut_a_number_are_refused() {
        let holder: Holder = Arc::new(vec![0u8; 8]);
        for range in [0..12, 9..13, 0..6] {
            assert!(Base::new(FloatKind::Single, Arc::clone(&holder), range).is_none());
        }
    }

    #[test]
    fn numbers_that_are_not_finite_are_found() {
        let base = Base::of_singles([0.0, f64::INFINITY].into_iter());
        assert_eq!(base.not_finite(), Some(f64::INFINITY));
    }
}
