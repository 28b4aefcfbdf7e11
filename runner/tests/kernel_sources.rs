//! Kernel sources from a mirror and from a repository, both on this machine, up to where a build would begin.
#![expect(clippy::unwrap_used, reason = "the whole file is a test, its helpers included")]

mod mirror;

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use cargo_ktstr::{Commit, KernelError, Mirror, Release, Source, Wanted, download_file};
use ktstr_wire::env::{CACHE_DIR, KERNEL_MIRROR, PACKAGE_KEYRING, PACKAGE_MIRROR};
use mirror::{Server, Serving, sha256};
use tempfile::TempDir;

/// No kernel, and large enough for several reads and writes of a download.
fn bytes(seed: u8) -> Vec<u8> {
    (0..300_000u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8 ^ seed).collect()
}

fn server() -> Server {
    let versions = ["6.12", "6.12.1", "6.12.10", "6.12.9", "6.13", "6.14", "6.14.1", "6.14.2", "6.15"];
    Server::new(&versions.map(|v| (v, bytes(v.len() as u8))))
}

struct Fixture {
    server: Server,
    dir: TempDir,
}

impl Fixture {
    fn new() -> Fixture {
        Fixture { server: server(), dir: tempfile::tempdir().unwrap() }
    }

    fn mirror(&self) -> Mirror {
        Mirror::new(&self.server.url, self.dir.path().into()).unwrap()
    }

    fn choose(&self, spec: &str) -> Result<Vec<String>, KernelError> {
        let chosen = self.mirror().choose(Wanted::parse(spec)?.unwrap())?;
        Ok(chosen.iter().map(|v| v.to_string()).collect())
    }

    fn release(&self, spec: &str) -> Result<Release, KernelError> {
        let Some(Wanted::Release(version)) = Wanted::parse(spec)? else { panic!("{spec} is no release") };
        self.mirror().release(version)
    }

    fn archive(&self) -> PathBuf {
        self.dir.path().join("linux-6.14.2.tar.xz")
    }

    fn partial(&self) -> PathBuf {
        self.dir.path().join("linux-6.14.2.tar.xz.partial")
    }

    fn fetch(&self) -> Result<(), KernelError> {
        self.release("6.14.2")?.fetch()
    }

    /// All of the archive is here, and nothing else of it.
    fn check_whole(&self) {
        assert_eq!(sha256(&std::fs::read(self.archive()).unwrap()), sha256(&bytes(6)));
        assert!(!self.partial().exists());
    }
}

const FILE: &str = "/v6.x/linux-6.14.2.tar.xz";

#[test]
fn kernel_versions_are_chosen_from_the_list_of_the_mirror() {
    let f = Fixture::new();
    assert_eq!(f.choose("6.14.2").unwrap(), ["6.14.2"]);
    assert_eq!(f.choose("6.12").unwrap(), ["6.12.10"]);
    assert_eq!(f.choose("6.13").unwrap(), ["6.13.0"]);
    assert_eq!(f.choose("6.12..6.14").unwrap(), ["6.12.10", "6.13.0", "6.14.2"]);
    let first = f.release("6.13.0").unwrap();
    assert!(first.path.ends_with("linux-6.13.tar.xz"));
    first.fetch().unwrap();
    assert_eq!(f.server.take_requests(), ["/v6.x/linux-6.13.tar.xz"]);
}

#[test]
fn kernel_versions_that_the_mirror_lacks_are_named() {
    let f = Fixture::new();
    let message = |e: KernelError| {
        assert_eq!(e.exit_status(), 10);
        e.to_string()
    };
    let text = message(f.release("6.14.7").unwrap_err());
    assert!(text.contains("has no Linux 6.14.7; the newest of that series there is 6.14.2"), "{text}");
    assert!(message(f.choose("6.99").unwrap_err()).contains("has no Linux 6.99;"));
    assert!(message(f.choose("7.1").unwrap_err()).contains("has no Linux 7.x;"));
}

#[test]
fn kernel_archive_is_downloaded_once() {
    let f = Fixture::new();
    f.fetch().unwrap();
    f.check_whole();
    f.fetch().unwrap();
    assert_eq!(f.server.take_requests(), [FILE]);
}

#[test]
fn kernel_archive_is_the_same_source_by_its_version_and_by_its_path() {
    let f = Fixture::new();
    let by_version = Source::Release(f.release("6.14.2").unwrap());
    let before = by_version.identity().unwrap();
    by_version.fetch().unwrap();
    let by_path = Source::open(&f.archive()).unwrap();
    assert_eq!(before, by_path.identity().unwrap());
    assert_eq!(by_version.name(), "6.14.2");
}

#[test]
fn kernel_archive_goes_on_where_the_connection_broke() {
    let f = Fixture::new();
    f.server.serve(Serving::Cut);
    let error = f.fetch().unwrap_err();
    assert_eq!(error.exit_status(), 16);
    let text = error.to_string();
    assert!(text.contains("after 150000 of 300000 bytes") && text.contains(KERNEL_MIRROR.name), "{text}");
    assert_eq!(std::fs::read(f.partial()).unwrap(), bytes(6)[..150_000]);
    f.server.serve(Serving::Whole);
    f.fetch().unwrap();
    f.check_whole();
    assert_eq!(f.server.take_requests(), [FILE.to_string(), format!("{FILE} from 150000")]);
}

#[test]
fn kernel_archive_starts_over_where_the_server_has_no_ranges() {
    let f = Fixture::new();
    std::fs::write(f.partial(), b"what is no beginning of it").unwrap();
    f.server.serve(Serving::NoRanges);
    f.fetch().unwrap();
    f.check_whole();
}

#[test]
fn kernel_archive_that_was_whole_is_only_checked() {
    let f = Fixture::new();
    std::fs::write(f.partial(), bytes(6)).unwrap();
    f.fetch().unwrap();
    f.check_whole();
    assert_eq!(f.server.take_requests(), [format!("{FILE} from 300000")]);
}

#[test]
fn kernel_archive_starts_over_where_more_is_here_than_there() {
    let f = Fixture::new();
    std::fs::write(f.partial(), [bytes(6), bytes(6)].concat()).unwrap();
    f.fetch().unwrap();
    f.check_whole();
}

#[test]
fn kernel_archive_of_another_digest_is_removed() {
    let f = Fixture::new();
    f.server.serve(Serving::Corrupt);
    let error = f.fetch().unwrap_err();
    assert_eq!(error.exit_status(), 16);
    assert!(error.to_string().contains(&sha256(&bytes(6))), "{error}");
    assert!(!f.archive().exists() && !f.partial().exists());
    f.server.serve(Serving::Whole);
    f.fetch().unwrap();
    f.check_whole();
}

#[test]
fn kernel_archive_that_is_missing_is_an_error() {
    let f = Fixture::new();
    let url = format!("{}/v6.x/linux-6.0.tar.xz", f.server.url);
    let error = download_file(&url, &f.archive(), &sha256(b"")).unwrap_err();
    assert!(error.to_string().contains("404 Not Found"), "{error}");
    assert!(!f.archive().exists() && !f.partial().exists());
}

#[test]
fn kernel_version_that_is_here_needs_no_network() {
    let f = Fixture::new();
    f.fetch().unwrap();
    assert_eq!(f.choose("6.12..6.14").unwrap().len(), 3);
    // Nobody listens there any more.
    let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let offline = Mirror::new(&format!("http://{gone}"), f.dir.path().into()).unwrap();
    let wanted = |spec| Wanted::parse(spec).unwrap().unwrap();
    let newest = offline.choose(wanted("6.14")).unwrap()[0];
    let release = offline.release(newest).unwrap();
    release.fetch().unwrap();
    assert_eq!(release.sha256, sha256(&bytes(6)));
    // Of what is only listed the digest is known, and with it whether a kernel was built from it.
    let listed = offline.release(offline.choose(wanted("6.12")).unwrap()[0]).unwrap();
    assert_eq!(listed.sha256, sha256(&bytes(7)));
    let error = listed.fetch().unwrap_err();
    assert_eq!(error.exit_status(), 16);
    let error = offline.choose(wanted("5.10")).unwrap_err().to_string();
    assert!(error.contains("sha256sums.asc") && error.contains("check the network"), "{error}");
}

/// `cargo ktstr ARGS` with this mirror and cache.
fn ktstr(url: &str, cache: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cargo-ktstr"));
    command.args(args).env(KERNEL_MIRROR, url).env(CACHE_DIR, cache).current_dir(cache);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn stderr(out: &Output) -> String {
    String::from_utf8_lossy(&out.stderr).into_owned()
}

fn run(program: &str, dir: &Path, args: &[&str]) -> String {
    let out = Command::new(program).args(args).current_dir(dir).output().unwrap();
    assert!(out.status.success(), "{program} {args:?}: {}", stderr(&out));
    String::from_utf8_lossy(&out.stdout).trim().into()
}

fn archive_of_no_kernel(dir: &Path) -> Vec<u8> {
    std::fs::create_dir(dir.join("linux-6.14.2")).unwrap();
    std::fs::write(dir.join("linux-6.14.2/Makefile"), "all:\n").unwrap();
    run("tar", dir, &["-cJf", "a.tar.xz", "linux-6.14.2"]);
    std::fs::read(dir.join("a.tar.xz")).unwrap()
}

#[test]
fn kernel_build_of_a_version_downloads_checks_and_unpacks() {
    let dir = tempfile::tempdir().unwrap();
    let archive = archive_of_no_kernel(dir.path());
    let server = Server::new(&[("6.14.2", archive.clone())]);
    let out = ktstr(&server.url, dir.path(), &["kernel", "build", "6.14"]).output().unwrap();
    assert_eq!(out.status.code(), Some(11), "{}", stderr(&out));
    assert!(
        stderr(&out).contains("6.14.2 is not a kernel: it holds no kernel source tree"),
        "{}",
        stderr(&out)
    );
    let kept = dir.path().join("kernels/downloads/linux-6.14.2.tar.xz");
    assert_eq!(std::fs::read(kept).unwrap(), archive);
}

#[test]
fn kernel_range_is_several_kernels_of_a_test() {
    let server = server();
    let dir = tempfile::tempdir().unwrap();
    let out = ktstr(&server.url, dir.path(), &["test", "--kernel", "6.12..6.14"]).output().unwrap();
    assert!(stderr(&out).contains("6.12..6.14 is 6.12.10, 6.13.0, 6.14.2"), "{}", stderr(&out));
    // What is served is no archive.
    assert_eq!(out.status.code(), Some(13), "{}", stderr(&out));
    assert_eq!(server.take_requests(), ["/v6.x/linux-6.12.10.tar.xz"]);
}

#[test]
fn kernel_clean_removes_sources_too() {
    let server = server();
    let dir = tempfile::tempdir().unwrap();
    ktstr(&server.url, dir.path(), &["kernel", "build", "6.13"]).output().unwrap();
    let downloads = dir.path().join("kernels/downloads");
    assert!(downloads.join("linux-6.13.tar.xz").is_file());
    let out = ktstr(&server.url, dir.path(), &["kernel", "clean", "--all"]).output().unwrap();
    assert_eq!(out.status.code(), Some(0), "{}", stderr(&out));
    assert!(!downloads.exists());
}

#[test]
fn kernel_range_where_one_is_needed_is_wrong_usage() {
    let server = server();
    let dir = tempfile::tempdir().unwrap();
    let show = |spec| {
        let out = ktstr(&server.url, dir.path(), &["show", "t", "--kernel", spec]).output().unwrap();
        (out.status.code(), stderr(&out))
    };
    let (status, text) = show("6.12..6.14");
    assert_eq!(status, Some(2), "{text}");
    assert!(text.contains("only one kernel can be used"), "{text}");
    let (status, text) = show("nothing-of-that-name");
    assert_eq!(status, Some(10), "{text}");
    assert!(text.contains("6.12..6.14") && text.contains("git+URL#REF"), "{text}");
}

/// Waits for what must come; nextest ends a test that waits forever.
fn wait_until(condition: impl Fn() -> bool) {
    while !condition() {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
}

fn interrupt(child: &std::process::Child) {
    // SAFETY: sends a signal to our own child, which has not been waited for.
    assert_eq!(unsafe { libc::kill(child.id() as i32, libc::SIGINT) }, 0);
}

#[test]
fn kernel_download_that_is_interrupted_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let archive = archive_of_no_kernel(dir.path());
    let server = Server::new(&[("6.14.2", archive.clone())]);
    server.serve(Serving::Stalled);
    let child = ktstr(&server.url, dir.path(), &["kernel", "build", "6.14.2"]).spawn().unwrap();
    let half = archive.len() / 2;
    let partial = dir.path().join("kernels/downloads/linux-6.14.2.tar.xz.partial");
    wait_until(|| std::fs::metadata(&partial).is_ok_and(|m| m.len() == half as u64));
    interrupt(&child);
    let out = child.wait_with_output().unwrap();
    assert_eq!(out.status.code(), Some(130), "{}", stderr(&out));
    assert!(stderr(&out).contains("linux-6.14.2.tar.xz.partial"), "{}", stderr(&out));
    assert_eq!(std::fs::read(&partial).unwrap(), archive[..half]);
    server.serve(Serving::Whole);
    let out = ktstr(&server.url, dir.path(), &["kernel", "build", "6.14.2"]).output().unwrap();
    assert_eq!(out.status.code(), Some(11), "{}", stderr(&out));
    let again = "/v6.x/linux-6.14.2.tar.xz".to_string();
    assert_eq!(server.take_requests(), [again.clone(), format!("{again} from {half}")]);
}

#[test]
fn kernel_download_of_two_processes_is_one() {
    let dir = tempfile::tempdir().unwrap();
    let archive = archive_of_no_kernel(dir.path());
    let server = Server::new(&[("6.14.2", archive)]);
    server.serve(Serving::Stalled);
    let build = || ktstr(&server.url, dir.path(), &["kernel", "build", "6.14.2"]).spawn().unwrap();
    let first = build();
    let partial = dir.path().join("kernels/downloads/linux-6.14.2.tar.xz.partial");
    wait_until(|| partial.exists());
    let mut second = build();
    let mut says = std::io::BufReader::new(second.stderr.take().unwrap());
    let mut line = String::new();
    std::io::BufRead::read_line(&mut says, &mut line).unwrap();
    assert!(line.contains("another process is downloading") && line.contains("waiting for it"), "{line}");
    assert_eq!(server.take_requests().len(), 1);
    server.serve(Serving::Whole);
    interrupt(&first);
    assert_eq!(first.wait_with_output().unwrap().status.code(), Some(130));
    std::io::Read::read_to_string(&mut says, &mut line).unwrap();
    assert_eq!(second.wait().unwrap().code(), Some(11), "{line}");
}

/// A repository with a commit and a tag on it.
fn repository(dir: &Path) -> (String, String) {
    run("git", dir, &["init", "--quiet", "-b", "main", "linux"]);
    let repository = dir.join("linux");
    commit(&repository, "first");
    let identity = ["-c", "user.name=a", "-c", "user.email=a@example.org"];
    run("git", &repository, &[&identity[..], &["tag", "-a", "-m", "t", "v1"]].concat());
    let hash = run("git", &repository, &["rev-parse", "HEAD"]);
    (format!("file://{}", repository.display()), hash)
}

fn commit(repository: &Path, text: &str) {
    std::fs::write(repository.join("Makefile"), text).unwrap();
    run("git", repository, &["add", "Makefile"]);
    let identity = ["-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false"];
    run("git", repository, &[&identity[..], &["commit", "--quiet", "-m", text]].concat());
}

fn checked_out(commit: &Commit, cache: &Path) -> String {
    let into = tempfile::tempdir().unwrap();
    let index = cache.join("index");
    assert!(commit.checkout(cache, into.path(), &index).status().unwrap().success());
    std::fs::read_to_string(into.path().join("Makefile")).unwrap()
}

#[test]
fn kernel_commit_is_that_of_the_branch_at_this_time() {
    let dir = tempfile::tempdir().unwrap();
    let cache = dir.path().join("cache");
    let (url, first) = repository(dir.path());
    let resolve = |name: &str| Commit::resolve(&format!("{url}{name}")).unwrap();
    for name in ["", "#", "#main", "#v1", "#refs/heads/main"] {
        assert_eq!(resolve(name).hash, first, "{name}");
    }
    resolve("#main").fetch(&cache).unwrap();
    commit(&dir.path().join("linux"), "second");
    let moved = resolve("#main");
    assert_ne!(moved.hash, first);
    moved.fetch(&cache).unwrap();
    // What was fetched is there without the repository.
    std::fs::rename(dir.path().join("linux"), dir.path().join("gone")).unwrap();
    let old = resolve(&format!("#{first}"));
    old.fetch(&cache).unwrap();
    assert_eq!(checked_out(&old, &cache), "first");
    assert_eq!(checked_out(&moved, &cache), "second");
    assert_eq!(Commit::resolve(&url).unwrap_err().exit_status(), 16);
}

#[test]
fn kernel_refs_that_are_not_there_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let (url, _) = repository(dir.path());
    let error = Commit::resolve(&format!("{url}#for-next")).unwrap_err();
    assert_eq!(error.exit_status(), 10);
    assert!(error.to_string().contains("no branch or tag 'for-next'"), "{error}");
    let spec = format!("git+{url}#main");
    let out = ktstr("http://127.0.0.1:1", dir.path(), &["kernel", "build", &spec]).output().unwrap();
    assert_eq!(out.status.code(), Some(11), "{}", stderr(&out));
}

const STOCK: &str = "7.3.4+deb13-amd64";

/// A `.deb` with these files.
fn deb(dir: &Path, name: &str, files: &[(&str, &[u8])]) -> Vec<u8> {
    let root = dir.join(name);
    for (path, bytes) in files {
        let path = root.join("files").join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }
    run("tar", &root, &["-C", "files", "-cJf", "data.tar.xz", "."]);
    std::fs::write(root.join("debian-binary"), "2.0\n").unwrap();
    run("ar", &root, &["rc", "x.deb", "debian-binary", "data.tar.xz"]);
    std::fs::read(root.join("x.deb")).unwrap()
}

/// A mirror of Debian with one kernel in two packages, signed with a key that is made for it.
struct Debian {
    server: Server,
    dir: TempDir,
}

impl Debian {
    fn new() -> Debian {
        let debian = Debian { server: Server::new(&[]), dir: tempfile::tempdir().unwrap() };
        debian.gpg(&["--quick-gen-key", "tester", "ed25519", "sign", "never"]);
        std::fs::write(debian.keyring(), debian.gpg(&["--export"])).unwrap();
        debian.publish(7);
        debian
    }

    fn keyring(&self) -> PathBuf {
        self.dir.path().join("keyring.gpg")
    }

    fn gpg(&self, args: &[&str]) -> Vec<u8> {
        let mut gpg = Command::new("gpg");
        gpg.args(["--batch", "--quiet", "--pinentry-mode", "loopback", "--passphrase", "", "--homedir"]);
        let out = gpg.arg(self.dir.path()).args(args).output().unwrap();
        assert!(out.status.success(), "{}", stderr(&out));
        out.stdout
    }

    fn publish(&self, seed: u8) {
        let module = b"\x7fELF\0depends=\0";
        let lib = format!("usr/lib/modules/{STOCK}");
        let (image, config) = (format!("{lib}/vmlinuz"), format!("{lib}/config"));
        let vsock = format!("{lib}/kernel/net/vmw_vsock_virtio_transport.ko");
        let binary = deb(
            self.dir.path(),
            &format!("binary{seed}"),
            &[(&image, &bytes(seed)), (&config, b"CONFIG_SMP=y\n")],
        );
        let modules = deb(self.dir.path(), &format!("modules{seed}"), &[(&vsock, module)]);
        let mut index = format!(
            "Package: linux-image-amd64\nDepends: linux-image-{STOCK} (= 1)\nFilename: m\nSHA256: {}\n\n",
            sha256(b"")
        );
        for (name, depends, package) in
            [("image", format!("linux-modules-{STOCK} (= 1)"), binary), ("modules", "kmod".into(), modules)]
        {
            let file = format!("pool/linux-{name}-{STOCK}_{seed}_amd64.deb");
            index.push_str(&format!(
                "Package: linux-{name}-{STOCK}\nDepends: {depends}\nFilename: {file}\nSHA256: {}\n\n",
                sha256(&package)
            ));
            self.server.put(&format!("/{file}"), package);
        }
        std::fs::write(self.dir.path().join("Packages"), index).unwrap();
        run("xz", self.dir.path(), &["-kf", "Packages"]);
        let index = std::fs::read(self.dir.path().join("Packages.xz")).unwrap();
        let release = self.dir.path().join("Release");
        let line = format!(
            "Suite: stable-backports\nCodename: trixie-backports\nSHA256:\n {} {} main/binary-amd64/Packages.xz\n",
            sha256(&index),
            index.len()
        );
        std::fs::write(&release, line).unwrap();
        let signed = self.gpg(&["--clear-sign", "--output", "-", release.to_str().unwrap()]);
        self.server.put("/dists/stable-backports/InRelease", signed.clone());
        self.server.put("/dists/trixie-backports/InRelease", signed.clone());
        self.server.put("/dists/stable/InRelease", signed);
        self.server.put("/dists/trixie-backports/main/binary-amd64/Packages.xz", index);
    }

    fn build(&self, url: &str, keyring: &Path) -> Output {
        let mut command = ktstr(url, self.dir.path(), &["kernel", "build", "debian-backports"]);
        command.env(PACKAGE_MIRROR, url).env(PACKAGE_KEYRING, keyring).output().unwrap()
    }

    fn built(&self, url: &str) -> PathBuf {
        let out = self.build(url, &self.keyring());
        assert_eq!(out.status.code(), Some(0), "{}", stderr(&out));
        let text = String::from_utf8(out.stdout).unwrap();
        PathBuf::from(text.trim().strip_prefix(STOCK).unwrap().trim())
    }
}

#[test]
fn kernel_of_debian_is_prepared_once_and_then_needs_no_network() {
    let debian = Debian::new();
    let image = debian.built(&debian.server.url);
    assert_eq!(std::fs::read(&image).unwrap(), bytes(7));
    assert!(image.with_file_name("modules").join("vmw_vsock_virtio_transport.ko").is_file());
    assert_eq!(debian.server.take_requests().len(), 5);
    debian.built(&debian.server.url);
    let looks = ["stable-backports", "trixie-backports"].map(|suite| format!("/dists/{suite}/InRelease"));
    assert_eq!(debian.server.take_requests(), looks);
    let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    assert_eq!(debian.built(&format!("http://{gone}")), image);
    // A newer one of the same release is another kernel.
    debian.publish(8);
    assert_ne!(debian.built(&debian.server.url), image);
    let out = ktstr(&debian.server.url, debian.dir.path(), &["kernel", "list", "--json"]).output().unwrap();
    let list: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap();
    let prepared = list.as_array().unwrap().iter().filter(|k| k["place"] == "prepared");
    assert_eq!(
        prepared.filter(|k| k["release"] == STOCK && k["can"]["sched_ext"] == false).count(),
        2,
        "{list}"
    );
}

#[test]
fn kernel_of_debian_without_a_valid_signature_or_digest_is_refused() {
    let debian = Debian::new();
    let refused = |keyring: &Path, part: &str| {
        let out = debian.build(&debian.server.url, keyring);
        assert_eq!(out.status.code(), Some(16), "{}", stderr(&out));
        assert!(stderr(&out).contains(part), "{}", stderr(&out));
        assert!(!debian.dir.path().join("stock").join("meta.json").exists());
    };
    refused(&debian.dir.path().join("none.gpg"), "there is no keyring");
    let other = Debian::new();
    refused(&other.keyring(), "No public key");
    debian.server.serve(Serving::Corrupt);
    refused(&debian.keyring(), "cannot be verified");
    debian.server.serve(Serving::Whole);
    let out = ktstr(&debian.server.url, debian.dir.path(), &["kernel", "build", "debian"])
        .env(PACKAGE_MIRROR, &debian.server.url)
        .env(PACKAGE_KEYRING, debian.keyring())
        .output()
        .unwrap();
    assert!(stderr(&out).contains("the suite stable is another one"), "{}", stderr(&out));
    // The list is right, and the package is another one.
    debian.server.put(&format!("/pool/linux-image-{STOCK}_7_amd64.deb"), bytes(1));
    refused(&debian.keyring(), "what was downloaded is removed");
}

#[test]
fn newest_stable_kernel_is_that_of_the_mirrors_list() {
    let server = server();
    let dir = tempfile::tempdir().unwrap();
    server.put("/releases.json", br#"{"latest_stable": {"version": "6.14.2"}, "releases": []}"#.to_vec());
    let out = ktstr(&server.url, dir.path(), &["test", "--kernel", "stable"]).output().unwrap();
    assert!(stderr(&out).contains("stable is 6.14.2"), "{}", stderr(&out));
    let out = ktstr(&server.url, dir.path(), &["kernel", "build", "longterm"]).output().unwrap();
    assert_eq!(out.status.code(), Some(16), "{}", stderr(&out));
    assert!(stderr(&out).contains("it lists no longterm release"), "{}", stderr(&out));
}
