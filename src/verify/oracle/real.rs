//! The two float types of the oracle: f64 is the truth, f32 shows how far honest rounding strays from it.

use std::fmt::Debug;
use std::ops::{Add, AddAssign, Div, Mul, Neg, Sub};

/// A float type the forward pass can be computed in.
pub trait Real:
    Copy
    + Debug
    + PartialOrd
    + Send
    + Sync
    + Add<Output = Self>
    + Sub<Output = Self>
    + Mul<Output = Self>
    + Div<Output = Self>
    + Neg<Output = Self>
    + AddAssign
    + 'static
{
    /// The nearest value of this type.
    fn from_f64(value: f64) -> Self;
    /// The value, exactly.
    fn to_f64(self) -> f64;
    /// √self.
    fn sqrt(self) -> Self;
    /// e to the power of self.
    fn exp(self) -> Self;
    /// Hyperbolic tangent.
    fn tanh(self) -> Self;
    /// self to the power of `exponent`.
    fn powf(self, exponent: Self) -> Self;
    /// Sine of an angle in radians.
    fn sin(self) -> Self;
    /// Cosine of an angle in radians.
    fn cos(self) -> Self;

    /// 0.
    fn zero() -> Self {
        Self::from_f64(0.0)
    }

    /// 1.
    fn one() -> Self {
        Self::from_f64(1.0)
    }

    /// The larger of two values; NaN if either is, so that no fault hides one.
    fn larger(self, other: Self) -> Self {
        match self.partial_cmp(&other) {
            Some(order) => {
                if order.is_lt() {
                    other
                } else {
                    self
                }
            }
            None => self + other,
        }
    }

    /// The smaller of two values; NaN if either is.
    fn smaller(self, other: Self) -> Self {
        -(-self).larger(-other)
    }
}

macro_rules! real {
    ($type:ty) => {
        impl Real for $type {
            fn from_f64(value: f64) -> Self {
                value as $type
            }
            fn to_f64(self) -> f64 {
                f64::from(self)
            }
            fn sqrt(self) -> Self {
                self.sqrt()
            }
            fn exp(self) -> Self {
                self.exp()
            }
            fn tanh(self) -> Self {
                self.tanh()
            }
            fn powf(self, exponent: Self) -> Self {
                self.powf(exponent)
            }
            fn sin(self) -> Self {
                self.sin()
            }
            fn cos(self) -> Self {
                self.cos()
            }
        }
    };
}

real!(f32);
real!(f64);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn larger_and_smaller_pass_nan_on() {
        assert_eq!((1.0f32.larger(2.0), 1.0f32.smaller(2.0)), (2.0, 1.0));
        assert!(f64::NAN.larger(0.0).is_nan() && 0.0.larger(f64::NAN).is_nan());
        assert!(f64::NAN.smaller(0.0).is_nan() && 0.0.smaller(f64::NAN).is_nan());
        assert_eq!(f64::NEG_INFINITY.larger(-1.0), -1.0);
    }
}
