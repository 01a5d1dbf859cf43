//! What model.bin must hold for a canonical tensor, element by element, straight from the format's description.

use crate::checkpoint::{ModelConfig, Role, TensorId};

/// The stored bytes of a whole dense tensor, or of one expert's part of a tensor.
pub fn stored(config: &ModelConfig, tensor: TensorId, canonical: &[u8]) -> Vec<u8> {
    match tensor.role {
        Role::QkvWeight | Role::QkvBias => qkv(config, canonical),
        Role::Mlp1Scales | Role::Mlp2Scales => canonical.iter().map(|&scale| (scale as u32 + 14) as u8).collect(),
        _ => canonical.to_vec(),
    }
}

/// Rows Q, K, V.  In each Q and K head of d rows, the pair (i, i + d/2) becomes (2i, 2i + 1); Q × 1/2, K × 1/4.
fn qkv(config: &ModelConfig, canonical: &[u8]) -> Vec<u8> {
    let d = config.head_dim;
    let rows = config.qkv_rows();
    let columns = canonical.len() / rows / 2;
    let mut out = Vec::with_capacity(canonical.len());
    for row in 0..rows {
        let (head, within) = (row / d, row % d);
        let (source, factor) = if head < config.heads {
            (head * d + (within % 2) * (d / 2) + within / 2, 0.5)
        } else if head < config.heads + config.kv_heads {
            (head * d + (within % 2) * (d / 2) + within / 2, 0.25)
        } else {
            (row, 1.0)
        };
        let from = source * columns * 2;
        for pair in canonical[from..from + columns * 2].as_chunks::<2>().0 {
            out.extend(nearest_bf16(f64::from(f32::from_bits((u16::from_le_bytes(*pair) as u32) << 16)) * factor));
        }
    }
    out
}

/// The BF16 nearest to a value that is a BF16 times a power of two of at most 1, ties to even.
///
/// Such a value is exact in f64, so that comparing the two BF16 neighbours decides.
fn nearest_bf16(value: f64) -> [u8; 2] {
    let toward_zero = ((value as f32).to_bits() >> 16) as u16;
    let number = |bits: u16| f64::from(f32::from_bits((bits as u32) << 16));
    let away = toward_zero + 1;
    let (below, above) = ((value - number(toward_zero)).abs(), (number(away) - value).abs());
    let nearest = if !value.is_finite() || below < above || (below == above && toward_zero.is_multiple_of(2)) {
        toward_zero
    } else {
        away
    };
    nearest.to_le_bytes()
}
