//! Wrong fixture generators, judged by the digests of the numpy witness.

use crate::checkpoint::TensorId;
use crate::verify::fixture::values::{fill, fnv1a_64, seed};

/// One wrong generator.
pub struct Fault {
    /// Name in the catalogue.
    pub name: &'static str,
    /// What is wrong with it.
    pub about: &'static str,
    /// Salt, tensor, and where to write all its bytes.
    pub generate: fn(&str, TensorId, &mut [u8]),
}

/// Every wrong generator.
pub const FAULTS: &[Fault] = &[
    Fault {
        name: "fixture/salt-ignored",
        about: "the salt is left out of the seed",
        generate: |_, tensor, out| fill(tensor.role, seed("", tensor), 0, out),
    },
    Fault {
        name: "fixture/salt-behind",
        about: "the salt goes behind the name",
        generate: |salt, tensor, out| {
            let name = tensor.original_name();
            fill(tensor.role, fnv1a_64(name.bytes().chain(salt.bytes())) | 1, 0, out);
        },
    },
    Fault {
        name: "fixture/fnv-1-for-1a",
        about: "FNV-1 (multiply, then xor) in the place of FNV-1a",
        generate: |salt, tensor, out| {
            let text = format!("{salt}{tensor}");
            let hash = text.bytes().fold(0xcbf2_9ce4_8422_2325u64, |hash, byte| {
                hash.wrapping_mul(0x0000_0100_0000_01b3) ^ u64::from(byte)
            });
            fill(tensor.role, hash | 1, 0, out);
        },
    },
    Fault {
        name: "fixture/counter-from-one",
        about: "elements counted from one",
        generate: |salt, tensor, out| fill(tensor.role, seed(salt, tensor), 1, out),
    },
    Fault {
        name: "fixture/counter-by-chunk",
        about: "the counter starts again with every chunk of 4096 bytes",
        generate: |salt, tensor, out| {
            out.chunks_mut(4096).for_each(|chunk| fill(tensor.role, seed(salt, tensor), 0, chunk));
        },
    },
];
