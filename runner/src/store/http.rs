//! Requests over HTTP and HTTPS.
//!
//! Proxies are those of the environment (`HTTPS_PROXY`, `NO_PROXY`), root certificates the system's.

use std::sync::Arc;
use std::time::Duration;

use ureq::Proxy;
use ureq::http::{Response, StatusCode, header};
use ureq::tls::{Certificate, RootCerts, TlsConfig};

use crate::store::error::StoreError;

/// After so long without an answer, or without a byte of it, there will be none.
const PATIENCE: Duration = Duration::from_secs(60);

/// A server's answer.
pub(crate) type Answer = Response<ureq::Body>;

/// The text at `url`; `None` if the server says that there is none (404).
pub(crate) fn text(url: &str) -> Result<Option<String>, StoreError> {
    let mut answer = get(url, 0)?;
    if answer.status() == StatusCode::NOT_FOUND {
        return Ok(None);
    }
    refuse_errors(url, &answer)?;
    answer.body_mut().read_to_string().map(Some).map_err(|e| failed(url, reason(e)))
}

/// The error for `url`.
pub(crate) fn failed(url: &str, reason: impl Into<String>) -> StoreError {
    StoreError::Download { url: url.into(), reason: reason.into() }
}

/// An error for every status that is none of success.
pub(crate) fn refuse_errors(url: &str, answer: &Answer) -> Result<(), StoreError> {
    if answer.status().is_success() {
        Ok(())
    } else {
        Err(failed(url, format!("the server says {}", answer.status())))
    }
}

/// Asks for everything from byte `start` on. Any status is an answer.
pub(crate) fn get(url: &str, start: u64) -> Result<Answer, StoreError> {
    let agent = agent(url)?;
    let request = match start {
        0 => agent.get(url),
        _ => agent.get(url).header(header::RANGE, format!("bytes={start}-")),
    };
    request.call().map_err(|e| failed(url, reason(e)))
}

/// What the system or the TLS library says, without ureq's word before it.
fn reason(e: ureq::Error) -> String {
    match e {
        ureq::Error::Io(e) => e.to_string(),
        e => e.to_string(),
    }
}

fn agent(url: &str) -> Result<ureq::Agent, StoreError> {
    let https = url.starts_with("https:");
    let config = ureq::config::Config::builder()
        .http_status_as_error(false)
        .https_only(https)
        .proxy(if is_loopback(url) { None } else { Proxy::try_from_env() })
        .timeout_resolve(Some(PATIENCE))
        .timeout_connect(Some(PATIENCE))
        .timeout_recv_response(Some(PATIENCE))
        .timeout_per_read(Some(PATIENCE));
    let config = if https { config.tls_config(tls(url)?) } else { config };
    Ok(config.build().new_agent())
}

/// This machine is never behind a proxy, whatever the environment says (as Go's `http.ProxyFromEnvironment` has it).
fn is_loopback(url: &str) -> bool {
    let host = url.split_once("://").map_or("", |(_, rest)| rest.split('/').next().unwrap_or(rest));
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
    name == "localhost" || name.starts_with("127.") || name == "[::1]"
}

/// ring, for polars has it among its dependencies already.
fn tls(url: &str) -> Result<TlsConfig, StoreError> {
    let system = rustls_native_certs::load_native_certs();
    let roots: Vec<Certificate> =
        system.certs.iter().map(|c| Certificate::from_der(c.as_ref()).to_owned()).collect();
    if roots.is_empty() {
        return Err(failed(url, "this host has no root certificates; apt-get install ca-certificates"));
    }
    let crypto = Arc::new(rustls::crypto::ring::default_provider());
    Ok(TlsConfig::builder()
        .unversioned_rustls_crypto_provider(crypto)
        .root_certs(RootCerts::new_with_certs(&roots))
        .build())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernel_download_from_this_machine_takes_no_proxy() {
        for url in ["http://localhost/x", "http://127.0.0.1:8000/x", "http://[::1]:80/x"] {
            assert!(is_loopback(url), "{url}");
        }
        for url in ["https://cdn.kernel.org/pub", "http://localhost.example/x", "127.0.0.1"] {
            assert!(!is_loopback(url), "{url}");
        }
    }
}
