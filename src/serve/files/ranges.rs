//! The `Range` header.  RFC 9110 §14.1.2, §14.2: what is not understood is as if it were not there.

use std::ops::Range;

/// What a request wants of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Asked {
    /// All of it.
    Whole,
    /// A part; not empty, within the file.
    Part(Range<u64>),
    /// A part that it does not have.
    Nothing,
}

/// Reads `bytes=FIRST-LAST`, `bytes=FIRST-` and `bytes=-COUNT` for a file of `total` bytes.
///
/// Several ranges at once are answered with the whole file, which a server may always do.
pub(super) fn parse(text: &str, total: u64) -> Asked {
    let number = |digits: &str| {
        let is_number = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
        // More than any file has is still a number.
        is_number.then(|| digits.parse().unwrap_or(u64::MAX))
    };
    let unit = text.get(..6).filter(|unit| unit.eq_ignore_ascii_case("bytes="));
    let Some((first, last)) = unit.and_then(|_| text[6..].trim().split_once('-')) else { return Asked::Whole };
    let part = match (first, last) {
        ("", count) => number(count).map(|count| total.saturating_sub(count)..total),
        (first, "") => number(first).map(|first| first..total),
        (first, last) => match (number(first), number(last)) {
            (Some(first), Some(last)) if first <= last => Some(first..last.saturating_add(1).min(total)),
            _ => None,
        },
    };
    match part {
        None => Asked::Whole,
        Some(range) if range.start >= range.end => Asked::Nothing,
        Some(range) => Asked::Part(range),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_those_of_the_rfc() {
        let part = |range| Asked::Part(range);
        let cases = [
            ("bytes=0-0", part(0..1)),
            ("bytes=0-99", part(0..100)),
            ("BYTES=5-", part(5..100)),
            ("bytes=5-1000", part(5..100)),
            ("bytes=-1", part(99..100)),
            ("bytes=-1000", part(0..100)),
            ("bytes=99-99999999999999999999999", part(99..100)),
            ("bytes=-0", Asked::Nothing),
            ("bytes=100-", Asked::Nothing),
            ("bytes=100-200", Asked::Nothing),
            ("bytes=99999999999999999999999-", Asked::Nothing),
            ("bytes=5-4", Asked::Whole),
            ("bytes=0-1,5-6", Asked::Whole),
            ("bytes=+1-2", Asked::Whole),
            ("bytes=a-b", Asked::Whole),
            ("bytes=-", Asked::Whole),
            ("bytes=", Asked::Whole),
            ("words=0-1", Asked::Whole),
            ("", Asked::Whole),
        ];
        for (text, want) in cases {
            assert_eq!(parse(text, 100), want, "{text:?}");
        }
        assert_eq!(parse("bytes=0-", 0), Asked::Nothing);
        assert_eq!(parse("bytes=-5", 0), Asked::Nothing);
    }
}
