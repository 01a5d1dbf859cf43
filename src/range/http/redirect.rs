//! Addresses: which are taken, and where a `Location` leads.  RFC 3986 §5.2 for the references that servers send.

use hyper::Uri;

/// An `http` or `https` address with a host.
pub(super) fn parse(address: &str) -> Result<Uri, &'static str> {
    let uri: Uri = without_fragment(address).parse().map_err(|_| "is no address")?;
    match (uri.scheme_str(), uri.authority()) {
        (Some("http" | "https"), Some(authority)) if authority.as_str().contains('@') => {
            Err("an address with a user's name is not taken: it would be shown in messages")
        }
        (Some("http" | "https"), Some(authority)) => match authority.as_str().strip_prefix(authority.host()) {
            Some("" | ":") => Ok(uri),
            _ if uri.port_u16().is_some() => Ok(uri),
            _ => Err("the port is no number up to 65535"),
        },
        (Some(_), _) => Err("only http and https addresses are read"),
        (None, _) => Err("is no address: expected http:// or https://"),
    }
}

/// Where `location` leads from `base`.  Never from https to http.
pub(super) fn resolve(base: &Uri, location: &str) -> Result<Uri, &'static str> {
    let location = without_fragment(location);
    let scheme = base.scheme_str().unwrap_or("http");
    let authority = base.authority().map_or("", |authority| authority.as_str());
    let absolute = if location.is_empty() {
        return Err("it names nothing");
    } else if has_scheme(location) {
        location.to_string()
    } else if location.starts_with("//") {
        format!("{scheme}:{location}")
    } else {
        let (path, query) = location.split_at(location.find('?').unwrap_or(location.len()));
        let path = match path {
            "" => base.path().to_string(),
            _ if path.starts_with('/') => without_dots(path),
            _ => without_dots(&format!("{}/{path}", base.path().rsplit_once('/').map_or("", |(folder, _)| folder))),
        };
        format!("{scheme}://{authority}{path}{query}")
    };
    let next = parse(&absolute)?;
    match (scheme, next.scheme_str()) {
        ("https", Some("http")) => Err("it leaves https"),
        _ => Ok(next),
    }
}

fn without_fragment(address: &str) -> &str {
    address.split('#').next().unwrap_or_default()
}

/// `scheme:` before any slash, query or second word.
fn has_scheme(location: &str) -> bool {
    location.split_once(':').is_some_and(|(scheme, _)| {
        scheme.starts_with(|c: char| c.is_ascii_alphabetic())
            && scheme.bytes().all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b))
    })
}

/// RFC 3986 §5.2.4.
fn without_dots(path: &str) -> String {
    let mut kept: Vec<&str> = Vec::new();
    let segments: Vec<&str> = path.split('/').skip(1).collect();
    for (index, segment) in segments.iter().enumerate() {
        let is_last = index + 1 == segments.len();
        match *segment {
            "." | ".." => {
                if *segment == ".." {
                    kept.pop();
                }
                if is_last {
                    kept.push("");
                }
            }
            name => kept.push(name),
        }
    }
    format!("/{}", kept.join("/"))
}

/// An address for messages: queries carry signatures.
pub(super) fn without_query(address: &str) -> &str {
    address.split('?').next().unwrap_or_default()
}

/// An address for messages.
pub(super) fn shown(uri: &Uri) -> String {
    without_query(&uri.to_string()).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reference_leads_where_rfc_3986_says() {
        let base: Uri = "http://a/b/c/d?q".parse().expect("an address");
        let leads = [
            ("http://x:8/y", "http://x:8/y"),
            ("//x/y", "http://x/y"),
            ("/y", "http://a/y"),
            ("y", "http://a/b/c/y"),
            ("./y/", "http://a/b/c/y/"),
            ("../y?z=1", "http://a/b/y?z=1"),
            ("../../../y", "http://a/y"),
            ("..", "http://a/b/"),
            ("?z", "http://a/b/c/d?z"),
            ("/y#part", "http://a/y"),
            ("y:1/z", "is no address"),
            ("", "it names nothing"),
            ("ftp://x/y", "only http and https addresses are read"),
            ("http://u@x/y", "an address with a user's name is not taken: it would be shown in messages"),
            ("http:// x/", "is no address"),
            ("http://x:99999/", "the port is no number up to 65535"),
            ("http://[::1]:8/x", "http://[::1]:8/x"),
        ];
        for (location, want) in leads {
            let found = resolve(&base, location).map_or_else(String::from, |uri| uri.to_string());
            assert_eq!(found, want, "{location:?}");
        }
        let safe: Uri = "https://a/b".parse().expect("an address");
        assert_eq!(resolve(&safe, "http://a/b"), Err("it leaves https"));
        assert_eq!(resolve(&safe, "//c/d").map(|uri| uri.to_string()), Ok("https://c/d".into()));
    }
}
