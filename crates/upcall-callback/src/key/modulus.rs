//! Modular exponentiation with a modulus that was prepared once.

use crypto_bigint::modular::{BoxedMontyForm, BoxedMontyParams, FixedMontyForm, FixedMontyParams};
use crypto_bigint::{BoxedUint, Odd, U512};

/// An RSA modulus with its Montgomery parameters, which cost more than a verification does.
#[derive(Debug)]
pub(super) enum Modulus {
    /// 512 bits, as OSS's key has: of fixed size, so that nothing is allocated.
    Fixed(Box<FixedMontyParams<{ U512::LIMBS }>>),
    /// Any other length.
    Boxed { params: BoxedMontyParams, bytes: usize },
}

impl Modulus {
    /// Prepares a modulus, given big-endian; `None` if it is even.
    pub(super) fn new(bytes: &[u8]) -> Option<Self> {
        if bytes.len() == U512::BYTES {
            let modulus = Odd::new(U512::from_be_slice(bytes)).into_option()?;
            return Some(Self::Fixed(Box::new(FixedMontyParams::new_vartime(modulus))));
        }
        let modulus = Odd::new(BoxedUint::from_be_slice_vartime(bytes)).into_option()?;
        Some(Self::Boxed { params: BoxedMontyParams::new_vartime(modulus), bytes: bytes.len() })
    }

    /// Whether `base` is as long as the modulus, less than it, and its power is `expected`, all big-endian.
    pub(super) fn power_equals(&self, base: &[u8], exponent: u64, expected: &[u8]) -> bool {
        match self {
            Self::Fixed(params) => {
                if base.len() != U512::BYTES {
                    return false;
                }
                let base = U512::from_be_slice(base);
                if base >= *params.modulus().as_ref() {
                    return false;
                }
                let base = FixedMontyForm::new(&base, params);
                let power = power(base, exponent, |a| a.square(), |a, b| a.mul(b));
                power.retrieve() == U512::from_be_slice(expected)
            }
            Self::Boxed { params, bytes } => {
                if base.len() != *bytes {
                    return false;
                }
                let precision = params.bits_precision();
                let parse = |bytes: &[u8]| BoxedUint::from_be_slice(bytes, precision).ok();
                let (Some(base), Some(expected)) = (parse(base), parse(expected)) else { return false };
                if base >= *params.modulus().as_ref() {
                    return false;
                }
                let base = BoxedMontyForm::new(base, params);
                let power = power(base, exponent, BoxedMontyForm::square, |a, b| a.mul(b));
                power.retrieve() == expected
            }
        }
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
