//! ggml's tensor types: ids, names, block sizes.

use std::fmt;

/// Values and bytes of one block: the unit in which a type stores a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Block {
    /// Values in a block; a row must be a multiple of it.
    pub values: u64,
    /// Bytes of a block.
    pub bytes: u64,
}

/// A tensor type, by ggml's id: any u32, so that a file of a later ggml still has an index.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GgmlType(pub u32);

macro_rules! types {
    ($($name:ident = $id:literal, $values:literal, $bytes:literal;)*) => {
        // The names are ggml's own.
        #[allow(missing_docs)]
        impl GgmlType {
            $(pub const $name: GgmlType = GgmlType($id);)*

            /// Every known type that data may have, in the order of ids.
            pub const ALL: &[GgmlType] = &[$(GgmlType::$name),*];

            const fn known(self) -> Option<(&'static str, Block)> {
                match self.0 {
                    $($id => Some((stringify!($name), Block { values: $values, bytes: $bytes })),)*
                    _ => None,
                }
            }
        }
    };
}

// `ggml.h` and `ggml-common.h` of llama.cpp: id, values of a block, bytes of a block.
types! {
    F32 = 0, 1, 4;
    F16 = 1, 1, 2;
    Q4_0 = 2, 32, 18;
    Q4_1 = 3, 32, 20;
    Q5_0 = 6, 32, 22;
    Q5_1 = 7, 32, 24;
    Q8_0 = 8, 32, 34;
    Q8_1 = 9, 32, 36;
    Q2_K = 10, 256, 84;
    Q3_K = 11, 256, 110;
    Q4_K = 12, 256, 144;
    Q5_K = 13, 256, 176;
    Q6_K = 14, 256, 210;
    Q8_K = 15, 256, 292;
    IQ2_XXS = 16, 256, 66;
    IQ2_XS = 17, 256, 74;
    IQ3_XXS = 18, 256, 98;
    IQ1_S = 19, 256, 50;
    IQ4_NL = 20, 32, 18;
    IQ3_S = 21, 256, 110;
    IQ2_S = 22, 256, 82;
    IQ4_XS = 23, 256, 136;
    I8 = 24, 1, 1;
    I16 = 25, 1, 2;
    I32 = 26, 1, 4;
    I64 = 27, 1, 8;
    F64 = 28, 1, 8;
    IQ1_M = 29, 256, 56;
    BF16 = 30, 1, 2;
    TQ1_0 = 34, 256, 54;
    TQ2_0 = 35, 256, 66;
    MXFP4 = 39, 32, 17;
    NVFP4 = 40, 64, 36;
    Q1_0 = 41, 128, 18;
    Q2_0 = 42, 64, 18;
}

/// Ids that ggml took back, with the name each had.  4 lives on in old gpt-oss files of Ollama, as MXFP4.
const REMOVED: [(u32, &str); 8] = [
    (4, "Q4_2"),
    (5, "Q4_3"),
    (31, "Q4_0_4_4"),
    (32, "Q4_0_4_8"),
    (33, "Q4_0_8_8"),
    (36, "IQ4_NL_4_4"),
    (37, "IQ4_NL_4_8"),
    (38, "IQ4_NL_8_8"),
];

impl GgmlType {
    /// ggml's id.
    pub fn id(self) -> u32 {
        self.0
    }

    /// The name, where the id has or had one.
    pub fn name(self) -> Option<&'static str> {
        self.known().map(|(name, _)| name).or_else(|| {
            let removed = REMOVED.iter().find(|(id, _)| *id == self.0);
            removed.map(|(_, name)| *name)
        })
    }

    /// The type of that name, as ggml spells it.
    pub fn parse(name: &str) -> Option<GgmlType> {
        GgmlType::ALL.iter().copied().find(|ty| ty.name() == Some(name))
    }

    /// Whether ggml once had the type and took it back.
    pub fn is_removed(self) -> bool {
        REMOVED.iter().any(|(id, _)| *id == self.0)
    }

    /// Its block; `None` for a type that is not known or was removed.
    pub fn block(self) -> Option<Block> {
        self.known().map(|(_, block)| block)
    }

    /// Bytes of a tensor of these dimensions; `None` where the type is not known, the first dimension is no multiple of
    /// the block, or a product overflows.
    pub fn bytes_of(self, dims: &[u64]) -> Option<u64> {
        let block = self.block()?;
        let (row, rest) = dims.split_first().unwrap_or((&1, &[]));
        if row % block.values != 0 {
            return None;
        }
        rest.iter().try_fold((row / block.values).checked_mul(block.bytes)?, |bytes, dim| bytes.checked_mul(*dim))
    }
}

impl fmt::Display for GgmlType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.name(), self.is_removed()) {
            (Some(name), false) => f.pad(name),
            (Some(name), true) => f.pad(&format!("{}:removed-{name}", self.0)),
            (None, _) => f.pad(&format!("{}:unknown", self.0)),
        }
    }
}

impl fmt::Debug for GgmlType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl serde::Serialize for GgmlType {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_id_has_a_text_and_known_ones_a_block() {
        assert_eq!(GgmlType::MXFP4.to_string(), "MXFP4");
        assert_eq!(GgmlType(4).to_string(), "4:removed-Q4_2");
        assert_eq!(GgmlType(4711).to_string(), "4711:unknown");
        assert!(GgmlType::ALL.iter().all(|ty| ty.block().is_some() && !ty.is_removed()));
        assert!(REMOVED.iter().all(|(id, _)| GgmlType(*id).block().is_none()));
        assert_eq!(GgmlType::parse("Q8_0"), Some(GgmlType::Q8_0));
        assert_eq!(GgmlType::parse("Q4_2"), None);
    }

    #[test]
    fn bytes_follow_from_blocks() {
        assert_eq!(GgmlType::MXFP4.bytes_of(&[2880, 2880, 32]), Some(141_004_800));
        assert_eq!(GgmlType::Q8_0.bytes_of(&[2880, 201_088]), Some(615_329_280));
        assert_eq!(GgmlType::F32.bytes_of(&[]), Some(4));
        assert_eq!(GgmlType::Q4_K.bytes_of(&[2880]), None, "2880 is no multiple of 256");
        assert_eq!(GgmlType::F64.bytes_of(&[u64::MAX, 2]), None);
        assert_eq!(GgmlType(4).bytes_of(&[32]), None);
    }
}
