//! https: a server that is trusted, one that is not, and one that does not speak TLS.
//!
//! The certificates in `tls/` are this suite's own, for 127.0.0.1, valid for a hundred years; their authority's key was
//! thrown away.

use std::io::{Read, Write};
use std::sync::Arc;

use gptoss::range::{HttpOptions, HttpSource, RangeError};
use gptoss::verify::liar::{Answer, Liar};
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{ServerConfig, ServerConnection, StreamOwned, crypto::ring};

use super::{file, options, read_right, wait};

fn authority() -> Vec<u8> {
    CertificateDer::from_pem_slice(include_bytes!("tls/ca.pem")).expect("a certificate").to_vec()
}

/// A server of the file that speaks TLS; plain paths redirect to http.
fn secure() -> Liar {
    let chain = vec![CertificateDer::from_pem_slice(include_bytes!("tls/server.pem")).expect("a certificate")];
    let key = PrivateKeyDer::from_pem_slice(include_bytes!("tls/server.key")).expect("a key");
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("TLS 1.2 and 1.3")
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .expect("the key is the certificate's");
    let config = Arc::new(config);
    let script = |heard: &gptoss::verify::liar::Heard| match heard.path.as_str() {
        "/plain" => Answer::redirect(302, "http://127.0.0.1:1/x"),
        _ => file().honest(heard),
    };
    let wrap = move |stream| {
        let connection = ServerConnection::new(config.clone()).map_err(std::io::Error::other)?;
        Ok(Box::new(StreamOwned::new(connection, stream)) as Box<dyn gptoss::verify::liar::Wire>)
    };
    Liar::wrapped(script, wrap).expect("loopback can be listened on")
}

fn read(port: u16, path: &str, roots: Vec<Vec<u8>>) -> Result<(), RangeError> {
    wait(async {
        let options = HttpOptions { roots, attempts: 2, ..options() };
        let source = HttpSource::open(&format!("https://127.0.0.1:{port}{path}"), options).await?;
        read_right(&source, &file()).await
    })
}

#[test]
fn a_trusted_server_is_read() {
    let server = secure();
    let outcome = read(server.address().port(), "/model.gguf", vec![authority()]);
    assert!(outcome.is_ok(), "{outcome:?}");
}

#[test]
fn one_that_is_not_trusted_is_refused_at_once() {
    let server = secure();
    let error = read(server.address().port(), "/model.gguf", Vec::new()).expect_err("nobody vouches for it");
    assert_eq!(error.name(), "tls", "{error}");
    assert_eq!(server.heard().len(), 0, "nothing was sent");
}

#[test]
fn https_is_not_left() {
    let server = secure();
    let error = read(server.address().port(), "/plain", vec![authority()]).expect_err("it leaves https");
    assert_eq!(error.name(), "redirect-target", "{error}");
}

#[test]
fn a_server_without_tls_and_a_root_that_is_none_are_told() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("loopback can be listened on");
    let port = listener.local_addr().expect("an address").port();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let _ = stream.read(&mut [0; 4096]);
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n");
        }
    });
    let error = read(port, "/model.gguf", vec![authority()]).expect_err("it speaks http");
    assert_eq!(error.name(), "tls", "{error}");
    let error = read(port, "/model.gguf", vec![b"no certificate".to_vec()]).expect_err("no root");
    assert_eq!(error.name(), "address", "{error}");
}
