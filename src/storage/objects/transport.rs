//! How a store of a cloud is reached: HTTP/1.1 over TLS with ring and the system's roots.
//!
//! Source: hyper, rustls. In: requests of the object store. Out: its answers.
//! Holds: without `allow_http` a request that TLS does not carry is refused; ring is the only
//! provider of cryptography.
//! Elsewhere: what is asked, signed and tried again (crate object_store).

use std::error::Error as StdError;
use std::io;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::BodyExt;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector as Sockets;
use hyper_util::rt::TokioExecutor;
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpRequestBody,
    HttpResponse, HttpResponseBody, HttpService,
};
use object_store::{ClientConfigKey, ClientOptions};
use rustls::crypto::ring;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use tokio::time::timeout;

/// How long a connection may take to open.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long an answer may take to begin; an upload counts in.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(300);

/// Names the file of certificates that are trusted, as other programs read it.
const ROOTS_VARIABLE: &str = "SSL_CERT_FILE";
/// Where systems keep the certificates that are trusted: Debian, Fedora, SUSE, Alpine and macOS.
const ROOTS: [&str; 5] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// The system's certificates; none where there are none: a store without TLS needs none.
fn roots() -> RootCertStore {
    let named = std::env::var_os(ROOTS_VARIABLE).map(PathBuf::from);
    let mut files = named.into_iter().chain(ROOTS.map(PathBuf::from));
    let mut roots = RootCertStore::empty();
    if let Some(read) = files.find_map(|file| CertificateDer::pem_file_iter(file).ok()) {
        roots.add_parsable_certificates(read.filter_map(Result::ok));
    }
    roots
}

/// Makes the transport.
#[derive(Debug)]
pub(super) struct Transport;

impl HttpConnector for Transport {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        let provider = Arc::new(ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("the ring provider has suites of TLS 1.3")
            .with_root_certificates(roots())
            .with_no_client_auth();
        let mut sockets = Sockets::new();
        sockets.enforce_http(false);
        sockets.set_connect_timeout(Some(CONNECT_TIMEOUT));
        sockets.set_nodelay(true);
        let allowed = options.get_config_value(&ClientConfigKey::AllowHttp);
        let builder = HttpsConnectorBuilder::new().with_tls_config(config);
        let is_plain_allowed = allowed.as_deref() == Some("true");
        let builder = match is_plain_allowed {
            true => builder.https_or_http(),
            false => builder.https_only(),
        };
        let connector = builder.enable_http1().wrap_connector(sockets);
        Ok(HttpClient::new(Service {
            client: Client::builder(TokioExecutor::new()).build(connector),
            is_plain_allowed,
        }))
    }
}

#[derive(Debug)]
struct Service {
    client: Client<HttpsConnector<Sockets>, HttpRequestBody>,
    is_plain_allowed: bool,
}

/// The store's address is one of plain HTTP, and that was not allowed.
#[derive(Debug, thiserror::Error)]
#[error("it is reached without TLS only where the environment says so: AWS_ALLOW_HTTP=true")]
struct Plain;

impl HttpService for Service {
    fn call<'a, 'b>(
        &'a self,
        request: HttpRequest,
    ) -> Pin<Box<dyn Future<Output = Result<HttpResponse, HttpError>> + Send + 'b>>
    where
        'a: 'b,
        Self: 'b,
    {
        Box::pin(async move {
            if !self.is_plain_allowed && request.uri().scheme_str() == Some("http") {
                // Tried again it is the same.
                return Err(HttpError::new(HttpErrorKind::Unknown, Plain));
            }
            let answer = timeout(ANSWER_TIMEOUT, self.client.request(request)).await;
            let answer = answer.map_err(|late| HttpError::new(HttpErrorKind::Timeout, late))?;
            let (head, body) = answer.map_err(broken)?.into_parts();
            let body = body.map_err(|error| HttpError::new(HttpErrorKind::Interrupted, error));
            Ok(HttpResponse::from_parts(head, HttpResponseBody::new(body)))
        })
    }
}

/// What kind of failure it was: that decides whether it is tried again.
fn broken(error: hyper_util::client::legacy::Error) -> HttpError {
    let mut kind = match error.is_connect() {
        true => HttpErrorKind::Connect,
        false => HttpErrorKind::Interrupted,
    };
    let mut cause = error.source();
    while let Some(error) = cause {
        // A certificate that does not hold will not hold a second later.
        let inner = error
            .downcast_ref::<io::Error>()
            .and_then(io::Error::get_ref);
        if error.is::<rustls::Error>() || inner.is_some_and(|inner| inner.is::<rustls::Error>()) {
            kind = HttpErrorKind::Unknown;
        }
        cause = error.source();
    }
    HttpError::new(kind, error)
}
