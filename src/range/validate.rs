//! What the answer to a request for a range must be like.  No client here: a status and a way to look up headers.
//!
//! | field            | rule                                                                                     |
//! |------------------|------------------------------------------------------------------------------------------|
//! | status           | exactly 206; 200 means that ranges are ignored, or, after `If-Range`, that the file changed |
//! | Content-Encoding | absent or `identity`: offsets count bytes of the file                                    |
//! | ETag             | strong, the same in every answer; see [`Require`] for servers that have none             |
//! | Content-Range    | `bytes FIRST-LAST/TOTAL`, first and last as asked for, the total always the same         |
//! | Content-Length   | absent (chunked), or the length of the range                                             |
//!
//! Source: RFC 9110 §8.8.3 (ETag), §13.1.5 (If-Range), §14.4 (Content-Range), §15.3.7 (206), §15.5.17 (416).

use std::ops::Range;
use std::time::Duration;

use super::RangeError;

/// How surely answers must be of one version of the file.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Require {
    /// The total length stays the same.  Nothing else need be told.
    Length,
    /// `Last-Modified`, and a weak ETag where there is one, stay the same.  A broken body is read again from its start.
    LastModified,
    /// A strong ETag, which goes out as `If-Range`.  A broken body goes on where it broke.
    #[default]
    StrongEtag,
}

/// What the first answer said and every other must say again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pinned {
    /// `ETag`, as it came.
    pub etag: Option<String>,
    /// `Last-Modified`, as it came.
    pub last_modified: Option<String>,
    /// Length of the file.
    pub total_bytes: u64,
}

impl Pinned {
    /// The validator for `If-Range`: a strong ETag, if there is one.
    ///
    /// A date is not sent: RFC 9110 allows it only if the clock makes it strong, and every answer is held to it anyway.
    pub fn if_range(&self) -> Option<&str> {
        self.etag.as_deref().filter(|etag| is_strong(etag))
    }

    /// What tells this version of the file from others.
    pub fn version(&self) -> Option<&str> {
        self.if_range().or(self.last_modified.as_deref()).or(self.etag.as_deref())
    }
}

/// Whether an ETag promises byte equality: quoted, and without `W/`.
pub fn is_strong(etag: &str) -> bool {
    etag.len() >= 2 && etag.starts_with('"') && etag.ends_with('"')
}

/// A request whose answer is to be judged.
#[derive(Debug, Clone)]
pub struct Asked<'a> {
    /// What messages call the source.
    pub name: &'a str,
    /// The range that was asked for; not empty.
    pub range: Range<u64>,
    /// What earlier answers said; `None` for the first.
    pub pinned: Option<&'a Pinned>,
    /// What the first answer must say.
    pub require: Require,
}

/// Looks up a header by its name in lower case; a repeated one is joined with commas, and so fits no rule.
pub type Headers<'a> = &'a dyn Fn(&str) -> Option<String>;

impl Asked<'_> {
    /// Judges status and headers.  On success the body is the range, if it has its length.
    ///
    /// # Errors
    /// One [`RangeError`] for each rule of the module's table.
    pub fn validate(&self, status: u16, header: Headers) -> Result<Pinned, RangeError> {
        let name = || self.name.to_string();
        match status {
            206 => {}
            200 => return Err(self.changed(header).unwrap_or_else(|| RangeError::RangeIgnored { name: name() })),
            412 => return Err(self.changed(header).unwrap_or(RangeError::Status { name: name(), status })),
            416 => return Err(self.not_satisfiable(header)),
            408 | 429 | 500..=599 => {
                let seconds = header("retry-after").and_then(|text| text.trim().parse().ok());
                return Err(RangeError::Busy { name: name(), status, retry_after: seconds.map(Duration::from_secs) });
            }
            _ => return Err(RangeError::Status { name: name(), status }),
        }
        if let Some(encoding) = header("content-encoding").filter(|e| !e.eq_ignore_ascii_case("identity")) {
            return Err(RangeError::Encoded { name: name(), encoding });
        }
        if let Some(changed) = self.changed(header) {
            return Err(changed);
        }
        let total_bytes = self.total(header)?;
        if let Some(found) = header("content-length").filter(|text| text.parse() != Ok(self.len())) {
            let Range { start, end } = self.range;
            return Err(RangeError::ContentLength { name: name(), start, end, found });
        }
        let pinned = Pinned { etag: header("etag"), last_modified: header("last-modified"), total_bytes };
        match self.pinned {
            Some(_) => Ok(pinned),
            None => self.pin(pinned),
        }
    }

    fn len(&self) -> u64 {
        self.range.end - self.range.start
    }

    /// The error that the validators differ from the pinned ones, if they do.
    ///
    /// Beside a strong ETag the date is not looked at: servers of one content disagree about it.
    fn changed(&self, header: Headers) -> Option<RangeError> {
        let pinned = self.pinned?;
        let differs = |field: &'static str, key: &str, want: &Option<String>| {
            let found = header(key);
            let shown = |value: &Option<String>| value.clone().unwrap_or_else(|| "absent".into());
            (found != *want).then(|| RangeError::Changed {
                name: self.name.into(),
                field,
                want: shown(want),
                found: shown(&found),
            })
        };
        match (pinned.if_range(), self.require) {
            (Some(_), _) => differs("ETag", "etag", &pinned.etag),
            (None, Require::Length) => None,
            (None, _) => differs("ETag", "etag", &pinned.etag)
                .or_else(|| differs("Last-Modified", "last-modified", &pinned.last_modified)),
        }
    }

    fn not_satisfiable(&self, header: Headers) -> RangeError {
        let said = header("content-range").and_then(|text| Some(text.strip_prefix("bytes */")?.to_string()));
        if let (Some(pinned), Some(Ok(found))) = (self.pinned, said.as_deref().map(str::parse::<u64>))
            && found != pinned.total_bytes
        {
            return RangeError::TotalChanged { name: self.name.into(), want: pinned.total_bytes, found };
        }
        let total_bytes = said.map_or_else(|| "an unknown number of bytes".into(), |total| format!("{total} bytes"));
        RangeError::NotSatisfiable { name: self.name.into(), start: self.range.start, end: self.range.end, total_bytes }
    }

    /// The total of a Content-Range that is otherwise what was asked for.
    fn total(&self, header: Headers) -> Result<u64, RangeError> {
        let (first, last) = (self.range.start, self.range.end - 1);
        let found = header("content-range");
        let total = found.as_deref().and_then(|text| {
            let digits = text.strip_prefix(&format!("bytes {first}-{last}/"))?;
            // `parse` would also take a sign.
            digits.bytes().all(|b| b.is_ascii_digit()).then(|| digits.parse::<u64>().ok())?
        });
        match (total, self.pinned) {
            (Some(total), Some(pinned)) if total != pinned.total_bytes => {
                Err(RangeError::TotalChanged { name: self.name.into(), want: pinned.total_bytes, found: total })
            }
            (Some(total), _) if total > last => Ok(total),
            _ => {
                let total = self.pinned.map_or("TOTAL".into(), |pinned| pinned.total_bytes.to_string());
                Err(RangeError::ContentRange {
                    name: self.name.into(),
                    want: format!("bytes {first}-{last}/{total}"),
                    found: found.unwrap_or_else(|| "absent".into()),
                })
            }
        }
    }

    /// The first answer's validators, if they are as strong as required.
    fn pin(&self, pinned: Pinned) -> Result<Pinned, RangeError> {
        let strength = match (pinned.if_range(), &pinned.last_modified) {
            (Some(_), _) => Require::StrongEtag,
            (None, Some(_)) => Require::LastModified,
            (None, None) => Require::Length,
        };
        if strength >= self.require {
            return Ok(pinned);
        }
        let need = match strength {
            Require::LastModified => "a Last-Modified date can be accepted instead (--require last-modified)",
            _ => "an unchanged length can be accepted instead (--require length)",
        };
        let found = pinned.etag.unwrap_or_else(|| "none".into());
        Err(RangeError::Unpinned { name: self.name.into(), found, need })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ETAG: (&str, &str) = ("etag", "\"a\"");

    fn judge(asked: &Asked, status: u16, headers: &[(&str, &str)]) -> Result<Pinned, &'static str> {
        let header = |name: &str| headers.iter().find(|(key, _)| *key == name).map(|(_, value)| value.to_string());
        asked.validate(status, &header).map_err(|error| error.name())
    }

    #[test]
    fn a_first_answer_is_pinned_or_refused_with_its_cause() {
        let asked = Asked { name: "x", range: 10..20, pinned: None, require: Require::StrongEtag };
        let range = ("content-range", "bytes 10-19/100");
        let whole = judge(&asked, 206, &[range, ETAG, ("content-length", "10")]).expect("it is as it must be");
        assert_eq!((whole.total_bytes, whole.if_range()), (100, Some("\"a\"")));
        type Refused<'a> = (&'a str, u16, &'a [(&'a str, &'a str)]);
        let refused: [Refused; 17] = [
            ("range-ignored", 200, &[ETAG]),
            ("status", 404, &[]),
            ("status", 204, &[range, ETAG]),
            ("busy", 503, &[]),
            ("busy", 429, &[]),
            ("not-satisfiable", 416, &[("content-range", "bytes */5")]),
            ("encoded", 206, &[range, ETAG, ("content-encoding", "gzip")]),
            ("content-range", 206, &[ETAG]),
            ("content-range", 206, &[ETAG, ("content-range", "bytes 10-20/100")]),
            ("content-range", 206, &[ETAG, ("content-range", "bytes 0-9/100")]),
            ("content-range", 206, &[ETAG, ("content-range", "bytes 10-19/*")]),
            ("content-range", 206, &[ETAG, ("content-range", "bytes 10-19/+100")]),
            ("content-range", 206, &[ETAG, ("content-range", "bytes 10-19/19")]),
            ("content-length", 206, &[range, ETAG, ("content-length", "11")]),
            ("content-length", 206, &[range, ETAG, ("content-length", "10, 10")]),
            ("unpinned", 206, &[range, ("etag", "W/\"a\""), ("last-modified", "then")]),
            ("unpinned", 206, &[range]),
        ];
        for (name, status, headers) in refused {
            assert_eq!(judge(&asked, status, headers), Err(name), "{status} {headers:?}");
        }
    }

    #[test]
    fn later_answers_must_say_the_same() {
        let pinned = Pinned { etag: Some("\"a\"".into()), last_modified: Some("then".into()), total_bytes: 100 };
        let asked = Asked { name: "x", range: 0..1, pinned: Some(&pinned), require: Require::StrongEtag };
        let range = ("content-range", "bytes 0-0/100");
        assert!(judge(&asked, 206, &[range, ETAG, ("last-modified", "now")]).is_ok(), "the ETag decides");
        assert_eq!(judge(&asked, 206, &[range, ("etag", "\"b\"")]), Err("changed"));
        assert_eq!(judge(&asked, 206, &[range]), Err("changed"), "no ETag any more");
        assert_eq!(judge(&asked, 200, &[("etag", "\"b\"")]), Err("changed"), "If-Range did not hold");
        assert_eq!(judge(&asked, 200, &[ETAG]), Err("range-ignored"));
        assert_eq!(judge(&asked, 206, &[("content-range", "bytes 0-0/101"), ETAG]), Err("total-changed"));
        assert_eq!(judge(&asked, 416, &[("content-range", "bytes */0")]), Err("total-changed"));
    }

    #[test]
    fn what_is_weaker_is_accepted_only_where_that_was_said() {
        let range = ("content-range", "bytes 0-0/100");
        let first = |require, headers: &[(&str, &str)]| {
            judge(&Asked { name: "x", range: 0..1, pinned: None, require }, 206, headers)
        };
        let dated = first(Require::LastModified, &[range, ("last-modified", "then")]).expect("a date is enough");
        assert_eq!(dated.if_range(), None);
        assert_eq!(first(Require::LastModified, &[range]), Err("unpinned"));
        let bare = first(Require::Length, &[range]).expect("a length is enough");
        let later = |pinned, require, headers: &[(&str, &str)]| {
            judge(&Asked { name: "x", range: 0..1, pinned: Some(pinned), require }, 206, headers).map(drop)
        };
        assert_eq!(later(&dated, Require::LastModified, &[range, ("last-modified", "now")]), Err("changed"));
        assert_eq!(later(&dated, Require::LastModified, &[range, ("last-modified", "then")]), Ok(()));
        assert_eq!(later(&bare, Require::Length, &[range, ("last-modified", "now")]), Ok(()));
        assert_eq!(later(&bare, Require::Length, &[("content-range", "bytes 0-0/99")]), Err("total-changed"));
    }
}
