//! Modular exponentiation with a modulus that was prepared once.

use crypto_bigint::modular::{BoxedMontyForm, BoxedMontyParams, FixedMontyForm, FixedMontyParams};
use crypto_bigint::{BoxedUint, Odd, U512};

/// An RSA modulus with its Montgomery parameters, which cost more than a verification does.
#[derive(Debug)]
pub(super) enum Modulus {
    /// 512 bits, as OSS's key has: of fixed size, so that nothing is allocated.
    Fixed(Box<FixedMontyParams<{ U512::LIMBS }>>),
    /// Any other length.
    Boxed(BoxedMontyParams),
}

impl Modulus {
    /// Prepares a modulus, given big-endian; `None` if it is even.
    pub(super) fn new(bytes: &[u8]) -> Option<Self> {
        if bytes.len() == U512::BYTES {
            let modulus = Odd::new(U512::from_be_slice(bytes)).into_option()?;
            return Some(Self::Fixed(Box::new(FixedMontyParams::new_vartime(modulus))));
        }
        let modulus = Odd::new(BoxedUint::from_be_slice_vartime(bytes)).into_option()?;
        Some(Self::Boxed(BoxedMontyParams::new_vartime(modulus)))
    }

    /// Computes a power into `result`, which is as long as the modulus; all numbers are big-endian.
    ///
    /// Returns false if `base` is not as long as the modulus, or not less than it.
    pub(super) fn power(&self, base: &[u8], exponent: u64, result: &mut [u8]) -> bool {
        if base.len() != result.len() {
            return false;
        }
        match self {
            Self::Fixed(params) => {
                let base = U512::from_be_slice(base);
                if base >= *params.modulus().as_ref() {
                    return false;
                }
                let base = FixedMontyForm::new(&base, params);
                // At 512 bits, `square` of crypto-bigint 0.7 takes half as long again as `mul`; at more it is quicker.
                let power = power(base, exponent, |a| a.mul(a), |a, b| a.mul(b));
                result.copy_from_slice(power.retrieve().to_be_bytes().as_ref());
            }
            Self::Boxed(params) => {
                let Ok(base) = BoxedUint::from_be_slice(base, params.bits_precision()) else { return false };
                if base >= *params.modulus().as_ref() {
                    return false;
                }
                let base = BoxedMontyForm::new(base, params);
                let power = power(base, exponent, BoxedMontyForm::square, |a, b| a.mul(b));
                // In whole words: what is before the modulus's own length is zero.
                let bytes = power.retrieve().to_be_bytes();
                result.copy_from_slice(&bytes[bytes.len() - result.len()..]);
            }
        }
        true
    }
}

/// Squares and multiplies, most significant bit of the (positive) exponent first: 17 products for 65537.
fn power<N: Clone>(base: N, exponent: u64, square: impl Fn(&N) -> N, multiply: impl Fn(&N, &N) -> N) -> N {
    let mut power = base.clone();
    for bit in (0..exponent.ilog2()).rev() {
        power = square(&power);
        if exponent >> bit & 1 == 1 {
            power = multiply(&power, &base);
        }
    }
    power
}
