//! Helpers shared by the tests of the ring.

use super::context::{LimbId, RingContext};
use super::poly::{Form, RnsPoly};
use num_bigint::{BigInt, BigUint};
use std::sync::Arc;

/// `(q - 1) / 2^17` for every prime of the parameter sheet.
#[rustfmt::skip]
const SHEET: [u16; 244] = [
    6, 9, 21, 44, 51, 53, 56, 63, 65, 66, 78, 86, 95, 101, 104, 108, 114, 123, 125, 126, 149, 153, 155, 164, 165, 174, 176, 189, 200,
    206, 213, 216, 219, 228, 233, 239, 251, 254, 270, 276, 284, 294, 303, 308, 318, 326, 339, 375, 381, 393, 398, 423, 441, 449, 455,
    461, 471, 486, 494, 503, 513, 515, 524, 528, 536, 545, 554, 555, 570, 573, 585, 588, 599, 611, 624, 629, 636, 638, 650, 653, 666,
    683, 690, 711, 714, 716, 725, 731, 753, 755, 759, 764, 776, 783, 788, 800, 809, 818, 848, 849, 855, 863, 864, 870, 878, 879, 885,
    900, 906, 918, 920, 945, 954, 959, 963, 966, 974, 975, 998, 1008, 1025, 1031, 1040, 1056, 1074, 1080, 1086, 1101, 1110, 1128,
    1143, 1151, 1154, 1155, 1161, 1179, 1184, 1194, 1206, 1208, 1218, 1221, 1248, 1253, 1259, 1275, 1278, 1280, 1281, 1296, 1305,
    1311, 1326, 1340, 1343, 1353, 1355, 1364, 1365, 1379, 1395, 1401, 1410, 1416, 1424, 1430, 1431, 1439, 1446, 1451, 1460, 1469,
    1473, 1485, 1491, 1515, 1520, 1530, 1539, 1560, 1563, 1569, 1574, 1586, 1595, 1605, 1610, 1616, 1634, 1644, 1646, 1649, 1655,
    1658, 1668, 1676, 1683, 1688, 1694, 1695, 1701, 1703, 1709, 1710, 1721, 1740, 1743, 1745, 1758, 1760, 1761, 1766, 1773, 1775,
    1788, 1799, 1805, 1806, 1826, 1830, 1836, 1845, 1868, 1869, 1871, 1875, 1880, 1904, 1931, 1934, 1940, 1956, 1959, 1968, 1973,
    1988, 1989, 1995, 1998, 2009, 2010, 2019, 2025, 2045,
];

/// Every prime of the parameter sheet: 1 modulo 2^17, below 2^28, ascending.
pub(crate) fn sheet_primes() -> Vec<u32> {
    SHEET.iter().map(|&k| (u32::from(k) << 17) + 1).collect()
}

/// A context on `count` primes spread over the sheet, the smallest among them.
pub(crate) fn small_context(log_n: u32, count: usize) -> Arc<RingContext> {
    let primes = sheet_primes();
    let step = primes.len() / count;
    let chain: Vec<u32> = (0..count).map(|i| primes[i * step]).collect();
    RingContext::new(log_n, &chain).unwrap()
}

/// A splitmix64 stream: reproducible, not cryptographic.
pub(crate) struct Stream(pub u64);

impl Stream {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

/// Pseudo-random residues, with the extremes 0 and q - 1 among them.
pub(crate) fn random_poly(
    context: &RingContext,
    limbs: &[LimbId],
    form: Form,
    seed: u64,
) -> RnsPoly {
    let mut poly = RnsPoly::zero(context, limbs, form);
    let mut stream = Stream(seed);
    for (position, &id) in limbs.iter().enumerate() {
        let modulus = *context.modulus(id);
        for word in poly.limb_mut(position) {
            let x = stream.next();
            *word = match x % 97 {
                0 => 0,
                1 => modulus.value() - 1,
                _ => modulus.reduce_u64(x),
            };
        }
    }
    poly
}

/// Coefficient `index` of a polynomial in coefficient form, reconstructed in `[0, Q)`.
pub(crate) fn reconstruct(context: &RingContext, poly: &RnsPoly, index: usize) -> BigUint {
    let product = context.product(poly.limbs());
    let mut sum = BigUint::ZERO;
    for (position, &id) in poly.limbs().iter().enumerate() {
        let modulus = context.modulus(id);
        let cofactor = &product / modulus.value();
        let residue: u32 = (&cofactor % modulus.value()).try_into().unwrap();
        sum += cofactor * modulus.mul(poly.limb(position)[index], modulus.inv(residue).unwrap());
    }
    sum % product
}

/// The representative of `x mod product` in `[-product/2, product/2)`.
pub(crate) fn centred(x: &BigUint, product: &BigUint) -> BigInt {
    let doubled: BigUint = x * 2u32;
    if doubled >= *product {
        BigInt::from(x.clone()) - BigInt::from(product.clone())
    } else {
        BigInt::from(x.clone())
    }
}

/// `x mod q` in `[0, q)`.
pub(crate) fn residue(x: &BigInt, q: u32) -> u32 {
    let wide = BigInt::from(q);
    (((x % &wide) + &wide) % &wide).try_into().unwrap()
}
