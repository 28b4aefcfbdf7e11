//! Downloads over HTTP and HTTPS: short texts, and files whose digest is known.
//!
//! A file grows as `NAME.partial`, which an interrupted call leaves and the next one goes on with, and has its name only when
//! its digest was right. Proxies are those of the environment (`HTTPS_PROXY`, `NO_PROXY`), root certificates the system's.

use std::fs::{self, File};
use std::io::{ErrorKind, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ureq::Proxy;
use ureq::http::{Response, StatusCode, header};
use ureq::tls::{Certificate, RootCerts, TlsConfig};

use super::progress::Progress;
use super::{KernelError, file_error, lock};
use crate::interrupt;
use crate::run::identity::sha256_file;

/// After so long without an answer, or without a byte of it, there will be none.
const PATIENCE: Duration = Duration::from_secs(60);

type Answer = Response<ureq::Body>;

/// The text at `url`; `None` if the server says that there is none (404).
pub fn text(url: &str) -> Result<Option<String>, KernelError> {
    let mut answer = get(url, 0)?;
    if answer.status() == StatusCode::NOT_FOUND {
        return Ok(None);
    }
    refuse_errors(url, &answer)?;
    answer.body_mut().read_to_string().map(Some).map_err(|e| failed(url, e.to_string()))
}

/// Has the file of `url`, whose SHA-256 is `sha256`, at `path`. Nothing is fetched if a file is there. Several processes may
/// want the same at once: one downloads, the others wait.
pub fn file(url: &str, path: &Path, sha256: &str) -> Result<(), KernelError> {
    let beside = |suffix: &str| PathBuf::from(format!("{}.{suffix}", path.display()));
    if let Some(dir) = path.parent() {
        fs::create_dir_all(dir).map_err(file_error(dir))?;
    }
    let _lock = lock::exclusive(&beside("lock"), &format!("downloading {url}"))?;
    if path.is_file() {
        return Ok(());
    }
    let partial = beside("partial");
    let stop = interrupt::stop_flag().map_err(file_error(&partial))?;
    receive(url, &partial, &stop)?;
    let found = sha256_file(&partial).map_err(file_error(&partial))?;
    if found != sha256 {
        fs::remove_file(&partial).map_err(file_error(&partial))?;
        return Err(KernelError::Checksum { url: url.into(), expected: sha256.into(), found });
    }
    fs::rename(&partial, path).map_err(file_error(path))
}

fn failed(url: &str, reason: impl Into<String>) -> KernelError {
    KernelError::Download { url: url.into(), reason: reason.into() }
}

fn refuse_errors(url: &str, answer: &Answer) -> Result<(), KernelError> {
    if answer.status().is_success() {
        Ok(())
    } else {
        Err(failed(url, format!("the server says {}", answer.status())))
    }
}

/// Asks for everything from byte `start` on. Any status is an answer.
fn get(url: &str, start: u64) -> Result<Answer, KernelError> {
    let agent = agent(url)?;
    let request = match start {
        0 => agent.get(url),
        _ => agent.get(url).header(header::RANGE, format!("bytes={start}-")),
    };
    request.call().map_err(|e| failed(url, e.to_string()))
}

fn agent(url: &str) -> Result<ureq::Agent, KernelError> {
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
fn tls(url: &str) -> Result<TlsConfig, KernelError> {
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

/// What an answer to a request for the rest of a file gives.
#[derive(Debug, PartialEq, Eq)]
enum Rest {
    /// Bytes from here on.
    From(u64),
    /// Nothing: all of it is here.
    Nothing,
    /// Nothing that fits to what is here.
    Unusable,
}

/// `have` bytes are here and the rest was asked for (RFC 9110, sections 14.4, 15.3.7 and 15.5.17).
fn rest(status: StatusCode, content_range: Option<&str>, have: u64) -> Rest {
    let span = content_range.and_then(|r| r.strip_prefix("bytes "));
    let number = |text: Option<&str>| text.and_then(|t| t.parse::<u64>().ok());
    match status {
        StatusCode::PARTIAL_CONTENT if number(span.and_then(|s| s.split('-').next())) == Some(have) => {
            Rest::From(have)
        }
        StatusCode::RANGE_NOT_SATISFIABLE
            if number(span.and_then(|s| s.strip_prefix("*/"))) == Some(have) =>
        {
            Rest::Nothing
        }
        StatusCode::PARTIAL_CONTENT | StatusCode::RANGE_NOT_SATISFIABLE => Rest::Unusable,
        _ => Rest::From(0),
    }
}

/// Makes `partial` whole.
fn receive(url: &str, partial: &Path, stop: &AtomicBool) -> Result<(), KernelError> {
    let have = fs::metadata(partial).map_or(0, |m| m.len());
    let mut answer = get(url, have)?;
    let content_range = answer.headers().get(header::CONTENT_RANGE).and_then(|v| v.to_str().ok());
    let mut start = 0;
    if have > 0 {
        match rest(answer.status(), content_range, have) {
            Rest::Nothing => return Ok(()),
            Rest::From(from) => start = from,
            Rest::Unusable => answer = get(url, 0)?,
        }
    }
    refuse_errors(url, &answer)?;
    let total = answer.body().content_length().map(|rest| start + rest);
    let size = total.map_or("unknown size".into(), |t| format!("{:.1} MB", t as f64 / 1e6));
    match start {
        0 => eprintln!("kernel: downloading {url} ({size})"),
        _ => eprintln!("kernel: going on with {url} after {:.1} MB of {size}", start as f64 / 1e6),
    }
    let mut options = File::options();
    let options = if start > 0 { options.append(true) } else { options.write(true).truncate(true) };
    let out = options.create(true).open(partial).map_err(file_error(partial))?;
    let transfer = Transfer { url, partial, start, total, stop };
    transfer.run(answer.into_body().into_reader(), out)
}

struct Transfer<'a> {
    url: &'a str,
    partial: &'a Path,
    start: u64,
    total: Option<u64>,
    stop: &'a AtomicBool,
}

impl Transfer<'_> {
    fn run(&self, mut from: impl Read, mut to: File) -> Result<(), KernelError> {
        let mut progress = self.total.map(|total| Progress::new(self.start, total));
        let mut buffer = vec![0; 1 << 16];
        let mut position = self.start;
        loop {
            let read = from.read(&mut buffer);
            if self.stop.load(Ordering::Relaxed) {
                let kept =
                    format!("{} is kept, and the next call goes on from there", self.partial.display());
                return Err(KernelError::Interrupted(kept));
            }
            match read {
                Ok(0) => break,
                Ok(n) => {
                    to.write_all(&buffer[..n]).map_err(file_error(self.partial))?;
                    position += n as u64;
                }
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => return Err(self.broken(position, &e.to_string())),
            }
            if let Some(progress) = &mut progress {
                progress.set(position);
            }
        }
        if self.total.is_some_and(|total| total != position) {
            return Err(self.broken(position, "the server closed it"));
        }
        progress.map(Progress::finish);
        Ok(())
    }

    fn broken(&self, position: u64, why: &str) -> KernelError {
        let of = self.total.map(|t| format!(" of {t}")).unwrap_or_default();
        failed(
            self.url,
            format!(
                "the connection broke after {position}{of} bytes ({why}); the same command goes on from there"
            ),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernel_download_goes_on_only_where_the_file_ends() {
        let rest = |status: u16, range| rest(StatusCode::from_u16(status).unwrap(), range, 10);
        assert_eq!(rest(206, Some("bytes 10-19/20")), Rest::From(10));
        assert_eq!(rest(206, Some("bytes 0-19/20")), Rest::Unusable);
        assert_eq!(rest(206, None), Rest::Unusable);
        assert_eq!(rest(200, None), Rest::From(0));
        assert_eq!(rest(416, Some("bytes */10")), Rest::Nothing);
        assert_eq!(rest(416, Some("bytes */5")), Rest::Unusable);
        assert_eq!(rest(416, None), Rest::Unusable);
    }

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
