//! Many ranges, few at once: digests and copies in bounded memory.

use std::ops::Range;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::{self, Stream};
use sha2::{Digest, Sha256};

use super::{RangeError, RangeSource, within};

/// Bytes of one read of a long range: large against a round trip, small against memory.
pub const PIECE_BYTES: u64 = 4 << 20;
/// Reads of one range under way at once.
pub const AT_ONCE: usize = 4;

/// A range cut at multiples of `piece_bytes`, so that two cuts of one file share pieces.
pub fn aligned(range: Range<u64>, piece_bytes: u64) -> impl Iterator<Item = Range<u64>> {
    let Range { mut start, end } = range;
    std::iter::from_fn(move || {
        let next = (start / piece_bytes + 1).saturating_mul(piece_bytes).min(end);
        (start < end).then(|| std::mem::replace(&mut start, next)..next)
    })
}

/// The bytes of each range, in order, at most `at_once` of them read at a time.
pub fn in_order<'a>(
    source: &'a dyn RangeSource,
    ranges: impl Iterator<Item = Range<u64>> + 'a,
    at_once: usize,
) -> impl Stream<Item = Result<Bytes, RangeError>> + 'a {
    stream::iter(ranges.map(|range| source.read(range))).buffered(at_once)
}

/// SHA-256 of a range, in memory for [`AT_ONCE`] pieces; `each` hears of the bytes of every piece.
pub async fn sha256(
    source: &dyn RangeSource,
    range: Range<u64>,
    mut each: impl FnMut(u64),
) -> Result<[u8; 32], RangeError> {
    within(source, &range)?;
    let mut hasher = Sha256::new();
    let mut pieces = std::pin::pin!(in_order(source, aligned(range, PIECE_BYTES), AT_ONCE));
    while let Some(piece) = pieces.next().await {
        let piece = piece?;
        hasher.update(&piece);
        each(piece.len() as u64);
    }
    Ok(hasher.finalize().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_cut_at_multiples_and_cover_the_range() {
        let cut = |range| aligned(range, 10).map(|piece| (piece.start, piece.end)).collect::<Vec<_>>();
        assert_eq!(cut(0..25), [(0, 10), (10, 20), (20, 25)]);
        assert_eq!(cut(7..21), [(7, 10), (10, 20), (20, 21)]);
        assert_eq!(cut(10..20), [(10, 20)]);
        assert_eq!(cut(5..5), []);
        assert_eq!(cut(u64::MAX - 1..u64::MAX), [(u64::MAX - 1, u64::MAX)]);
    }
}
