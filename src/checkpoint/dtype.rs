//! Element types a SafeTensors header may name.

use std::fmt;

/// An element type; gpt-oss checkpoints use BF16 and U8, the rest is known so that messages can name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum Dtype {
    Bool,
    U8,
    I8,
    F8E5m2,
    F8E4m3,
    F8E8m0,
    I16,
    U16,
    F16,
    Bf16,
    I32,
    U32,
    F32,
    I64,
    U64,
    F64,
}

use Dtype::*;

const TABLE: [(Dtype, &str, usize); 16] = [
    (Bool, "BOOL", 1),
    (U8, "U8", 1),
    (I8, "I8", 1),
    (F8E5m2, "F8_E5M2", 1),
    (F8E4m3, "F8_E4M3", 1),
    (F8E8m0, "F8_E8M0", 1),
    (I16, "I16", 2),
    (U16, "U16", 2),
    (F16, "F16", 2),
    (Bf16, "BF16", 2),
    (I32, "I32", 4),
    (U32, "U32", 4),
    (F32, "F32", 4),
    (I64, "I64", 8),
    (U64, "U64", 8),
    (F64, "F64", 8),
];

impl Dtype {
    /// The type of that SafeTensors name.
    pub fn parse(name: &str) -> Option<Dtype> {
        TABLE.iter().find(|row| row.1 == name).map(|row| row.0)
    }

    /// The SafeTensors name.
    pub fn name(self) -> &'static str {
        self.row().1
    }

    /// Bytes of one element.
    pub fn bytes(self) -> usize {
        self.row().2
    }

    fn row(self) -> &'static (Dtype, &'static str, usize) {
        TABLE.iter().find(|row| row.0 == self).expect("the table lists every dtype")
    }
}

impl fmt::Display for Dtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
