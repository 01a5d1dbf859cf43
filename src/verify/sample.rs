//! Which part of a checkpoint's tensors to read: all of it, a share, or an amount.

use std::str::FromStr;

/// A selection of the pieces of a checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub enum Sample {
    /// Every byte.
    #[default]
    All,
    /// About this share of the bytes, 0 to 1.
    Share(f64),
    /// About this many bytes.
    Bytes(u64),
}

impl FromStr for Sample {
    type Err = String;

    fn from_str(text: &str) -> Result<Sample, String> {
        let wrong = || format!("expected a percentage like 5% or a size like 256MiB, found `{text}`");
        if let Some(percent) = text.strip_suffix('%') {
            let share = percent.trim().parse::<f64>().map_err(|_| wrong())? / 100.0;
            return if share > 0.0 && share <= 1.0 { Ok(Sample::Share(share)) } else { Err(wrong()) };
        }
        parse_size(text).filter(|&bytes| bytes > 0).map(Sample::Bytes).ok_or_else(wrong)
    }
}

/// A size with an optional unit: `1500`, `64KB`, `256MiB`, `1.5G`.
pub fn parse_size(text: &str) -> Option<u64> {
    let split = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let factor: f64 = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1.0,
        "k" | "kb" => 1e3,
        "m" | "mb" => 1e6,
        "g" | "gb" => 1e9,
        "kib" => 1024.0,
        "mib" => 1048576.0,
        "gib" => 1073741824.0,
        _ => return None,
    };
    number.parse::<f64>().ok().map(|n| (n * factor) as u64)
}

impl Sample {
    /// Selects pieces of these sizes: the same ones every time, spread evenly, the first and the last always.
    pub fn select(&self, piece_bytes: &[u64]) -> Vec<bool> {
        let total: u64 = piece_bytes.iter().sum();
        let wanted = match *self {
            Sample::All => return vec![true; piece_bytes.len()],
            Sample::Share(share) => (total as f64 * share) as u64,
            Sample::Bytes(bytes) => bytes,
        };
        let share = (wanted as f64 / total.max(1) as f64).min(1.0);
        let (mut seen, mut taken) = (0u64, 0u64);
        let last = piece_bytes.len().saturating_sub(1);
        piece_bytes
            .iter()
            .enumerate()
            .map(|(index, &bytes)| {
                seen += bytes;
                let behind = (taken as f64) < seen as f64 * share;
                let take = behind || index == 0 || index == last;
                taken += if take { bytes } else { 0 };
                take
            })
            .collect()
    }
}
