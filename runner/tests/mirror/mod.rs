//! A mirror of kernel.org on this machine, whose faults are chosen by the test.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard};

use sha2::{Digest, Sha256};

/// How files that are no list are served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Serving {
    /// As RFC 9110 has it, with ranges.
    Whole,
    /// Always all of it, whatever was asked for.
    NoRanges,
    /// The connection is closed after half of what was asked for.
    Cut,
    /// As [`Serving::Cut`], but the connection stays open, and nothing comes any more.
    Stalled,
    /// Other bytes than those that are listed.
    Corrupt,
}

struct State {
    files: BTreeMap<String, Vec<u8>>,
    serving: Serving,
    /// What was asked for, as `PATH` or `PATH from BYTE`.
    requests: Vec<String>,
    /// Connections that are kept open.
    stalled: Vec<TcpStream>,
}

/// The server; it lives as long as the test's process.
pub struct Server {
    /// What to write into `KTSTR_KERNEL_MIRROR`.
    pub url: String,
    state: Arc<Mutex<State>>,
}

/// Digest in hexadecimal digits.
pub fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect()
}

impl Server {
    /// Serves these archives, named by their versions, and a list of them with what else such a list has.
    pub fn new(archives: &[(&str, Vec<u8>)]) -> Server {
        let mut list = "-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA256\n\n".to_string();
        let mut files = BTreeMap::new();
        for (version, bytes) in archives {
            let digest = sha256(bytes);
            list.push_str(&format!("{}  ChangeLog-{version}\n", sha256(version.as_bytes())));
            list.push_str(&format!("{digest}  linux-{version}.tar.xz\n"));
            list.push_str(&format!("{}  patch-{version}.xz\n", sha256(digest.as_bytes())));
            files.insert(format!("/v6.x/linux-{version}.tar.xz"), bytes.clone());
        }
        list.push_str("-----BEGIN PGP SIGNATURE-----\n\nnone\n-----END PGP SIGNATURE-----\n");
        files.insert("/v6.x/sha256sums.asc".into(), list.into_bytes());
        let state = State { files, serving: Serving::Whole, requests: Vec::new(), stalled: Vec::new() };
        let state = Arc::new(Mutex::new(state));
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let shared = state.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let state = shared.clone();
                std::thread::spawn(move || answer(stream.unwrap(), &state));
            }
        });
        Server { url, state }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Serves one more file.
    pub fn put(&self, path: &str, bytes: Vec<u8>) {
        self.state().files.insert(path.into(), bytes);
    }

    /// From now on files are served like this.
    pub fn serve(&self, serving: Serving) {
        self.state().serving = serving;
    }

    /// What was asked for since the last call, without the lists.
    pub fn take_requests(&self) -> Vec<String> {
        let all = std::mem::take(&mut self.state().requests);
        all.into_iter().filter(|r| !r.contains("sha256sums")).collect()
    }
}

/// Path and first byte of a request.
fn read_request(stream: &TcpStream) -> Option<(String, usize)> {
    let mut lines = BufReader::new(stream).lines().map_while(Result::ok);
    let path = lines.next()?.split(' ').nth(1)?.to_string();
    let headers: Vec<String> = lines.take_while(|l| !l.is_empty()).map(|l| l.to_lowercase()).collect();
    let from = headers.iter().find_map(|h| h.strip_prefix("range: bytes=")?.strip_suffix('-')?.parse().ok());
    Some((path, from.unwrap_or(0)))
}

fn answer(mut stream: TcpStream, state: &Mutex<State>) {
    let Some((path, from)) = read_request(&stream) else { return };
    let mut state = state.lock().unwrap();
    state.requests.push(if from > 0 { format!("{path} from {from}") } else { path.clone() });
    let list = path.ends_with(".asc");
    let serving = if list { Serving::Whole } else { state.serving };
    let Some(mut bytes) = state.files.get(&path).cloned() else {
        stream
            .write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            .unwrap();
        return;
    };
    if serving == Serving::Corrupt {
        bytes[0] ^= 1;
    }
    let total = bytes.len();
    let (status, range, body) = match from {
        from if serving == Serving::NoRanges || from == 0 => ("200 OK", String::new(), &bytes[..]),
        from if from >= total => {
            ("416 Range Not Satisfiable", format!("Content-Range: bytes */{total}\r\n"), &bytes[..0])
        }
        from => {
            let range = format!("Content-Range: bytes {from}-{}/{total}\r\n", total - 1);
            ("206 Partial Content", range, &bytes[from..])
        }
    };
    let length = body.len();
    let head = format!("HTTP/1.1 {status}\r\n{range}Content-Length: {length}\r\nConnection: close\r\n\r\n");
    let sent = if [Serving::Cut, Serving::Stalled].contains(&serving) { length / 2 } else { length };
    // The client may have gone.
    let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&body[..sent]));
    if serving == Serving::Stalled {
        state.stalled.push(stream);
    }
}
