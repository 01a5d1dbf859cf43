//! Connections: opened with TLS where the address says so, kept while they are idle.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http_body_util::Empty;
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::{Request, Response, Uri};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use super::{HttpOptions, HttpSource};
use crate::range::{RangeError, Waiting};

type Sender = SendRequest<Empty<Bytes>>;

/// Scheme, host and port.
type Place = (bool, String, u16);

/// Opens connections and keeps idle ones.
pub(super) struct Client {
    tls: TlsConnector,
    idle: Mutex<HashMap<Place, Vec<Sender>>>,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Client")
    }
}

/// A connection that is in use.
pub(super) struct Lease {
    place: Place,
    sender: Sender,
}

impl Client {
    /// A client that trusts Mozilla's list and the certificates of `options`.
    pub(super) fn new(options: &HttpOptions) -> Result<Client, String> {
        let mut roots = RootCertStore::from_iter(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
        for root in &options.roots {
            let root = CertificateDer::from(root.clone());
            roots.add(root).map_err(|error| format!("a certificate to trust: {error}"))?;
        }
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("the provider knows TLS 1.2 and 1.3")
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Client { tls: TlsConnector::from(Arc::new(config)), idle: Mutex::default() })
    }

    /// Sends a GET and waits for the head of its answer.
    pub(super) async fn get(
        &self,
        source: &HttpSource,
        uri: &Uri,
        headers: HeaderMap,
    ) -> Result<(Response<Incoming>, Lease), RangeError> {
        let place = place(uri);
        // A server may have closed a kept connection just now, or written behind its last answer: that says nothing of
        // this request.
        while let Some(sender) = self.take(&place) {
            match self.exchange(source, uri, &headers, Lease { place: place.clone(), sender }).await {
                Err(RangeError::Broken { .. } | RangeError::Malformed { .. }) => {}
                done => return done,
            }
        }
        let connecting = self.connect(source, &place);
        let sender = source.limited(source.options.connect, Waiting::Connection, connecting).await??;
        self.exchange(source, uri, &headers, Lease { place, sender }).await
    }

    async fn exchange(
        &self,
        source: &HttpSource,
        uri: &Uri,
        headers: &HeaderMap,
        mut lease: Lease,
    ) -> Result<(Response<Incoming>, Lease), RangeError> {
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        let mut request = Request::get(path).body(Empty::new()).expect("a part of an address is an address");
        let host = uri.authority().map_or("", |authority| authority.as_str());
        request.headers_mut().extend([
            (header::HOST, HeaderValue::from_str(host).expect("an authority is visible ASCII")),
            (header::USER_AGENT, HeaderValue::from_static(concat!("gptoss/", env!("CARGO_PKG_VERSION")))),
            (header::ACCEPT, HeaderValue::from_static("*/*")),
            (header::ACCEPT_ENCODING, HeaderValue::from_static("identity")),
        ]);
        request.headers_mut().extend(headers.clone());
        source.options.traffic.requests.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let answer = async {
            lease.sender.ready().await?;
            lease.sender.send_request(request).await
        };
        let answer = source.limited(source.options.stall, Waiting::Answer, answer).await?;
        Ok((answer.map_err(|error| source.broken(error))?, lease))
    }

    fn take(&self, place: &Place) -> Option<Sender> {
        let mut idle = self.idle.lock().expect("nothing panics while it is held");
        let kept = idle.get_mut(place)?;
        std::iter::from_fn(|| kept.pop()).find(|sender| !sender.is_closed())
    }

    /// Keeps a connection whose answer was read to its end.
    pub(super) fn put_back(&self, lease: Lease) {
        if !lease.sender.is_closed() {
            let mut idle = self.idle.lock().expect("nothing panics while it is held");
            idle.entry(lease.place).or_default().push(lease.sender);
        }
    }

    async fn connect(&self, source: &HttpSource, place: &Place) -> Result<Sender, RangeError> {
        let (is_tls, host, port) = place;
        let name = || source.name.clone();
        let shown = || format!("{host}:{port}");
        let stream = TcpStream::connect((host.as_str(), *port)).await.map_err(|error| RangeError::Connect {
            name: name(),
            host: shown(),
            source: error,
        })?;
        let _ = stream.set_nodelay(true);
        let broken = |error| source.broken(error);
        if !*is_tls {
            let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
            tokio::spawn(connection);
            return Ok(sender);
        }
        let reason = |_| RangeError::Address { name: name(), reason: format!("{host} is no name of a TLS server") };
        let server = ServerName::try_from(host.clone()).map_err(reason)?;
        let stream = self.tls.connect(server, stream).await.map_err(|error| match error.kind() {
            // What rustls objects to; the rest is the way there.
            std::io::ErrorKind::InvalidData => RangeError::Tls { name: name(), host: shown(), source: error },
            _ => RangeError::Connect { name: name(), host: shown(), source: error },
        })?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
        tokio::spawn(connection);
        Ok(sender)
    }
}

/// Where an address's server is.  IPv6 addresses lose their brackets.
fn place(uri: &Uri) -> Place {
    let is_tls = uri.scheme_str() == Some("https");
    let host = uri.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
    (is_tls, host.to_string(), uri.port_u16().unwrap_or(if is_tls { 443 } else { 80 }))
}
