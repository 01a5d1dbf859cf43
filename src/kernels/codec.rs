//! How packed weights become numbers in registers: one block of 32 weights at a time, never more.
//!
//! A matrix is row-major with rows of whole blocks.  A block is read in 16-byte pieces and becomes eight vectors of
//! four f32; vector `j` holds weights `j, 8 + j, 16 + j, 24 + j` of the block.  For MXFP4 that order is what one
//! 16-byte load gives without moving anything between lanes (nibble `j` of each of its four words), so every
//! activation that meets a weight is stored in the same order: **swizzled** ([`swizzled`]).
//!
//! | codec | bytes | pieces | value                                                                  | scales apart          |
//! |-------|------:|-------:|------------------------------------------------------------------------|-----------------------|
//! | BF16  |    64 |      4 | weight `2i` is the low half of word `i`, widened                       |                       |
//! | F16   |    64 |      4 | the same, an F16                                                       |                       |
//! | F32   |   128 |      8 | weight `i` is word `i`                                                 |                       |
//! | MXFP4 |    16 |      1 | E2M1 code at bits `4i..4i+4`, times `2^(scale − 127 − offset)`         | a byte                |
//! | Q8_0  |    32 |      2 | byte `k` of word `j` is weight `8k + j` plus 128; times the scale      | an F16                |
//! | Q4_K  |    16 |      1 | code at bits `4i..4i+4`; `(d × sc) × code − (dmin × m)`                | 5 words for 8 blocks  |
//!
//! BF16, F16 and F32 are a file's own bytes.  Q8_0 and Q4_K are repacked when they are uploaded, block by block
//! ([`crate::quant::repack`]): a file's blocks of 34 and 144 bytes have no piece that begins at a multiple of 16.
//!
//! MXFP4 decodes without f32 denormals: code `c` at exponent 124 is a quarter of its value for `c ≥ 2`, and
//! `2f − 1/4` mends the two below; the factor 4 goes into the scale.  F16 subnormals, in weights and in scales, are made by a
//! multiplication and never by a conversion.  Twins: [`crate::quant`].

use cubecl::prelude::*;

/// Four f32: what a lane loads at once.
pub type F4 = Vector<f32, Const<4>>;
/// Four words: 16 bytes, eight BF16 or a block of MXFP4.
pub type U4 = Vector<u32, Const<4>>;

/// Weights of a block.
pub const BLOCK: usize = 32;
/// Vectors of four that hold a block.
pub const BLOCK_VECTORS: usize = BLOCK / 4;

/// How keys and values are cached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum KvType {
    /// As they are computed.
    #[default]
    F32,
    /// Rounded to nearest even, saturated at ±65 504, two to a word.
    F16,
}

impl KvType {
    /// Values of a word.
    pub const fn per_word(self) -> usize {
        match self {
            KvType::F32 => 1,
            KvType::F16 => 2,
        }
    }
}

/// The f16 bits nearest to `value`, without any f16 or denormal arithmetic.
#[cube]
pub fn f16_bits(value: f32) -> u32 {
    let bits = u32::reinterpret(value);
    let magnitude = bits & 0x7FFF_FFFF;
    let rounded = (magnitude - 0x3800_0000 + 0xFFF + ((magnitude >> 13) & 1)) >> 13;
    // Below 2^-14: adding 1/2 leaves the multiples of 2^-24, rounded, in the low bits.
    let small = u32::reinterpret(f32::reinterpret(magnitude) + 0.5) - 0x3F00_0000;
    let normal = select(magnitude >= 0x477F_F000, 0x7BFFu32, rounded);
    select(magnitude < 0x3880_0000, small, normal) | ((bits >> 16) & 0x8000)
}

/// Four f16 of two words, widened.
#[cube]
fn f16_values(a: u32, b: u32) -> F4 {
    let mut halves = U4::empty();
    halves.insert(0usize, a & 0xFFFF);
    halves.insert(1usize, a >> 16);
    halves.insert(2usize, b & 0xFFFF);
    halves.insert(3usize, b >> 16);
    f16_vector(halves)
}

/// An f16 in the low half of a word, widened.
#[cube]
fn f16_value(half: u32) -> f32 {
    let magnitude = half & 0x7FFF;
    let normal = f32::reinterpret((magnitude << 13) + 0x3800_0000);
    let small = f32::cast_from(magnitude) * comptime!(1.0f32 / 16_777_216.0);
    let value = select(magnitude < 0x400, small, normal);
    f32::reinterpret(u32::reinterpret(value) | ((half & 0x8000) << 16))
}

/// Four f16, each in the low half of its word, widened.  Finite ones only: loading refuses others.
#[cube]
fn f16_vector(halves: U4) -> F4 {
    let magnitude = halves & U4::new(0x7FFF);
    let normal = (magnitude << U4::new(13u32)) + U4::new(0x3800_0000);
    let small = F4::cast_from(magnitude) * F4::new(comptime!(1.0 / 16_777_216.0));
    let value = select_many(magnitude.less_than(&U4::new(0x400)), small, F4::reinterpret(normal));
    F4::reinterpret(U4::reinterpret(value) | ((halves & U4::new(0x8000)) << U4::new(16u32)))
}

/// Vector `index` (four values) of a cache.  `N` words hold it: four of f32, two of f16.
#[cube]
pub fn cached<N: Size>(cache: &[Vector<u32, N>], index: usize, #[comptime] kv: KvType) -> F4 {
    let words = cache[index];
    match kv {
        KvType::F32 => {
            let mut out = F4::empty();
            #[unroll]
            for i in 0..4usize {
                out.insert(i, f32::reinterpret(words.extract(i)));
            }
            out
        }
        KvType::F16 => f16_values(words.extract(0usize), words.extract(1usize)),
    }
}

/// How a weight matrix is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Codec {
    /// BF16, two to a word.
    Bf16,
    /// MXFP4 with one scale byte a block, biased by 127 plus `scale_offset` (14 in model.bin, else 0).
    Mxfp4 {
        /// What the file added to every scale.
        scale_offset: u32,
    },
    /// F16, two to a word.
    F16,
    /// As they are.
    F32,
    /// Signed bytes under an F16 scale each block.
    Q8_0,
    /// Codes of four bits; eight blocks share two F16, and each has a scale and a minimum of six bits.
    Q4K,
}

impl Codec {
    /// 16-byte pieces of a block.
    pub const fn pieces(self) -> usize {
        match self {
            Codec::F32 => 8,
            Codec::Bf16 | Codec::F16 => 4,
            Codec::Q8_0 => 2,
            Codec::Mxfp4 { .. } | Codec::Q4K => 1,
        }
    }

    /// Whether scales lie apart from the pieces.
    pub const fn has_scales(self) -> bool {
        matches!(self, Codec::Mxfp4 { .. } | Codec::Q8_0 | Codec::Q4K)
    }

    /// Words of a row of `columns` weights, without its scales.
    pub const fn row_words(self, columns: usize) -> usize {
        columns / BLOCK * self.pieces() * 4
    }

    /// Words of the scales of `blocks` blocks.
    pub const fn scale_words(self, blocks: usize) -> usize {
        match self {
            Codec::Bf16 | Codec::F16 | Codec::F32 => 0,
            Codec::Mxfp4 { .. } => blocks.div_ceil(4),
            Codec::Q8_0 => blocks.div_ceil(2),
            Codec::Q4K => blocks.div_ceil(8) * 5,
        }
    }
}

/// Where element `index` of a row lies in a swizzled row: inside each block of 32, `p` goes to `4 (p mod 8) + p / 8`.
pub const fn swizzle(index: usize) -> usize {
    index / BLOCK * BLOCK + index % 8 * 4 + index % BLOCK / 8
}

/// [`swizzle`] on the device.
#[cube]
pub fn swizzled(index: usize) -> usize {
    index / 32 * 32 + index % 8 * 4 + index % 32 / 8
}

/// Nibble `shift / 4` of each word, as a quarter of its E2M1 value.
#[cube]
fn e2m1_quarter(words: U4, #[comptime] shift: u32) -> F4 {
    let code = if comptime!(shift < 22) {
        (words << U4::new(22 - shift)) & U4::new(0x01C0_0000)
    } else {
        (words >> U4::new(shift - 22)) & U4::new(0x01C0_0000)
    };
    quarters(code, (words << U4::new(28 - shift)) & U4::new(0x8000_0000))
}

/// A quarter of the E2M1 values whose codes stand at bit 22 of a word each, their signs at bit 31.
#[cube]
fn quarters(codes: U4, signs: U4) -> F4 {
    let placed = F4::reinterpret(codes | U4::new(0x3E00_0000));
    let magnitude = min(placed, placed + placed - F4::new(0.25));
    F4::reinterpret(U4::reinterpret(magnitude) | signs)
}

/// Four times the factor of the block whose scale byte is number `index`: E8M0 without its bias.
///
/// Scales above 252 + offset would overflow and 255 is NaN: loading refuses both.  Below `offset − 1` the factor is zero,
/// where the value would be a denormal.
#[cube]
fn e8m0_times_four<S: CubePrimitive>(scales: &[S], index: usize, #[comptime] offset: u32) -> f32 {
    let byte = (u32::reinterpret(scales[index / 4]) >> ((index % 4) as u32 * 8)) & 0xFF;
    f32::reinterpret((max(byte + 2, offset) - offset) << 23)
}

/// The words `i` of four pieces.
#[cube]
fn column(a: U4, b: U4, c: U4, d: U4, #[comptime] i: usize) -> U4 {
    let mut words = U4::empty();
    words.insert(0usize, a.extract(i));
    words.insert(1usize, b.extract(i));
    words.insert(2usize, c.extract(i));
    words.insert(3usize, d.extract(i));
    words
}

/// The four bytes of a word, each 128 more than its value, times `factor`.
#[cube]
fn bytes_times(word: u32, factor: F4) -> F4 {
    let mut bytes = U4::empty();
    #[unroll]
    for k in 0..4u32 {
        bytes.insert(comptime!(k as usize), (word >> comptime!(8 * k)) & 0xFF);
    }
    // 2^23 + byte is exact, and so is the difference.
    (F4::reinterpret(bytes | U4::new(0x4B00_0000)) - F4::new(8_388_736.0)) * factor
}

/// The scale of block `index` of Q8_0: two to a word.
#[cube]
fn q8_0_scale<S: CubePrimitive>(scales: &[S], index: usize) -> f32 {
    f16_value((u32::reinterpret(scales[index / 2]) >> ((index % 2) as u32 * 16)) & 0xFFFF)
}

/// Factor and offset of block `index` of Q4_K: of each eight blocks a word with both F16, then `sc | m << 8`, two to a word.
#[cube]
fn q4_k_scales<S: CubePrimitive>(scales: &[S], index: usize) -> (f32, f32) {
    let at = index / 8 * 5;
    let both = u32::reinterpret(scales[at]);
    let own = u32::reinterpret(scales[at + 1 + index % 8 / 2]) >> ((index % 2) as u32 * 16);
    let factor = f16_value(both & 0xFFFF) * f32::cast_from(own & 0xFF);
    let offset = f16_value(both >> 16) * f32::cast_from((own >> 8) & 0xFF);
    (factor, offset)
}

/// Block `index` of a matrix as eight vectors, in the order of the module's head.
///
/// `scales` holds what the table of the module's head says; codecs that have none never read it, so that any bound slice will
/// do.
#[cube]
pub fn block<S: CubePrimitive>(w: &[U4], scales: &[S], index: usize, #[comptime] codec: Codec) -> Array<F4> {
    let mut out = Array::<F4>::new(8usize);
    match codec {
        Codec::Mxfp4 { scale_offset } => {
            let words = w[index];
            let factor = F4::new(e8m0_times_four(scales, index, scale_offset));
            #[unroll]
            for j in 0..8u32 {
                out[j as usize] = e2m1_quarter(words, comptime!(j * 4)) * factor;
            }
        }
        Codec::Q8_0 => {
            let factor = F4::new(q8_0_scale(scales, index));
            #[unroll]
            for piece in 0..2usize {
                let words = w[index * 2 + piece];
                #[unroll]
                for i in 0..4usize {
                    out[comptime!(piece * 4 + i)] = bytes_times(words.extract(i), factor);
                }
            }
        }
        Codec::Q4K => {
            let words = w[index];
            let (factor, offset) = q4_k_scales(scales, index);
            #[unroll]
            for j in 0..8u32 {
                let codes = (words >> U4::new(comptime!(4 * j))) & U4::new(15u32);
                out[j as usize] = F4::cast_from(codes) * F4::new(factor) - F4::new(offset);
            }
        }
        Codec::F16 => {
            let (a, b, c, d) = (w[index * 4], w[index * 4 + 1], w[index * 4 + 2], w[index * 4 + 3]);
            #[unroll]
            for i in 0..4usize {
                let words = column(a, b, c, d, i);
                out[2 * i] = f16_vector(words & U4::new(0xFFFF));
                out[2 * i + 1] = f16_vector(words >> U4::new(16u32));
            }
        }
        Codec::F32 =>
        {
            #[unroll]
            for half in 0..2usize {
                let at = index * 8 + half;
                let (a, b, c, d) = (w[at], w[at + 2], w[at + 4], w[at + 6]);
                #[unroll]
                for i in 0..4usize {
                    out[comptime!(half * 4 + i)] = F4::reinterpret(column(a, b, c, d, i));
                }
            }
        }
        Codec::Bf16 => {
            let (a, b, c, d) = (w[index * 4], w[index * 4 + 1], w[index * 4 + 2], w[index * 4 + 3]);
            #[unroll]
            for i in 0..4usize {
                let words = column(a, b, c, d, i);
                out[2 * i] = F4::reinterpret(words << U4::new(16u32));
                out[2 * i + 1] = F4::reinterpret(words & U4::new(0xFFFF_0000));
            }
        }
    }
    out
}

/// Word `at` of a piece, `at` not known when the kernel is compiled.
#[cube]
fn word(piece: U4, at: usize) -> u32 {
    let low = select(at == 0, piece.extract(0usize), piece.extract(1usize));
    let high = select(at == 2, piece.extract(2usize), piece.extract(3usize));
    select(at < 2, low, high)
}

/// Vector `j` of block `index` alone, the same bits as [`block`]'s: for units that share a block.
#[cube]
pub fn block_vector<S: CubePrimitive>(w: &[U4], scales: &[S], index: usize, j: usize, #[comptime] codec: Codec) -> F4 {
    match codec {
        Codec::Mxfp4 { scale_offset } => {
            let codes = w[index] >> U4::new(4 * j as u32);
            let signs = (codes & U4::new(8u32)) << U4::new(28u32);
            let factor = F4::new(e8m0_times_four(scales, index, scale_offset));
            quarters((codes & U4::new(7u32)) << U4::new(22u32), signs) * factor
        }
        Codec::Q8_0 => bytes_times(word(w[index * 2 + j / 4], j % 4), F4::new(q8_0_scale(scales, index))),
        Codec::Q4K => {
            let (factor, offset) = q4_k_scales(scales, index);
            let codes = (w[index] >> U4::new(4 * j as u32)) & U4::new(15u32);
            F4::cast_from(codes) * F4::new(factor) - F4::new(offset)
        }
        Codec::F32 => {
            let mut words = U4::empty();
            #[unroll]
            for k in 0..4usize {
                words.insert(k, word(w[index * 8 + 2 * k + j / 4], j % 4));
            }
            F4::reinterpret(words)
        }
        Codec::Bf16 | Codec::F16 => {
            let mut words = U4::empty();
            #[unroll]
            for k in 0..4usize {
                words.insert(k, word(w[index * 4 + k], j / 2));
            }
            let halves = (words >> U4::new((j % 2) as u32 * 16)) & U4::new(0xFFFF);
            match codec {
                Codec::F16 => f16_vector(halves),
                _ => F4::reinterpret(halves << U4::new(16u32)),
            }
        }
    }
}

/// Eight BF16 in their own order: weights `0..4` and `4..8` of the piece.
#[cube]
pub fn bf16_piece(words: U4, #[comptime] half: usize) -> F4 {
    let mut out = F4::empty();
    #[unroll]
    for i in 0..2usize {
        let word = words.extract(comptime!(half * 2 + i));
        out.insert(comptime!(2 * i), f32::reinterpret(word << 16));
        out.insert(comptime!(2 * i + 1), f32::reinterpret(word & 0xFFFF_0000));
    }
    out
}
