//! Versions of Linux: how they are written, and which of those that a mirror lists is meant.
//!
//! `6.14.2` is one release, `6.14` the newest release of that series, `6.12..6.14` the newest release of each series from
//! 6.12 to 6.14, both included. The first release of a series is published as `linux-6.14.tar.xz`; it calls itself 6.14.0,
//! and that is how it is asked for alone.

use std::collections::BTreeMap;
use std::fmt;

use crate::kernel::error::KernelError;

/// The first two numbers of a version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Series {
    /// 6 of 6.14.
    pub major: u32,
    /// 14 of 6.14.
    pub minor: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    pub series: Series,
    /// 2 of 6.14.2; 0 of the first release of a series.
    pub patch: u32,
}

/// What a specification asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// This release only.
    Release(Version),
    /// The newest release of a series.
    Newest(Series),
    /// The newest release of each series from the first to the last.
    Range(Series, Series),
}

/// Of which kind the newest release is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Of mainline, release candidates included.
    Latest,
    /// The newest stable release.
    Stable,
    /// The newest release of the series that are maintained for years.
    Longterm,
}

impl Kind {
    const ALL: [(Kind, &'static str); 3] =
        [(Kind::Latest, "latest"), (Kind::Stable, "stable"), (Kind::Longterm, "longterm")];

    /// The kind of this name.
    pub(crate) fn parse(name: &str) -> Option<Kind> {
        Kind::ALL.iter().find(|(_, n)| *n == name).map(|(kind, _)| *kind)
    }

    /// The newest version of this kind in kernel.org's `releases.json`.
    pub(crate) fn newest_in(self, releases: &serde_json::Value) -> Option<String> {
        let of = |moniker: &'static str| {
            let all = releases["releases"].as_array().into_iter().flatten();
            all.filter(move |r| r["moniker"] == moniker).filter_map(|r| r["version"].as_str())
        };
        let newest = match self {
            Kind::Latest => of("mainline").next(),
            Kind::Stable => releases["latest_stable"]["version"].as_str(),
            Kind::Longterm => of("longterm").max_by_key(|v| single(v).map(exact)),
        };
        newest.map(str::to_string)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = Kind::ALL.iter().find(|(kind, _)| kind == self).map_or("", |(_, name)| name);
        f.write_str(name)
    }
}

impl fmt::Display for Series {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.series, self.patch)
    }
}

impl fmt::Display for Wanted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Wanted::Release(version) => version.fmt(f),
            Wanted::Newest(series) => series.fmt(f),
            Wanted::Range(first, last) => write!(f, "{first}..{last}"),
        }
    }
}

impl Version {
    /// The name of its archive.
    pub fn tarball(&self) -> String {
        match self.patch {
            0 => format!("linux-{}.tar.xz", self.series),
            _ => format!("linux-{self}.tar.xz"),
        }
    }

    fn of_tarball(name: &str) -> Option<Version> {
        match single(name.strip_prefix("linux-")?.strip_suffix(".tar.xz")?)? {
            Wanted::Release(version) if version.patch > 0 => Some(version),
            Wanted::Newest(series) => Some(Version { series, patch: 0 }),
            _ => None,
        }
    }
}

fn number(text: &str) -> Option<u32> {
    let plain = text.bytes().all(|b| b.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    plain.then(|| text.parse().ok())?
}

/// A release or a series. Before 3.0 versions had another form.
fn single(text: &str) -> Option<Wanted> {
    let numbers = text.split('.').map(number).collect::<Option<Vec<u32>>>()?;
    let series = |major, minor| Series { major, minor };
    match numbers[..] {
        [major, minor] if major >= 3 => Some(Wanted::Newest(series(major, minor))),
        [major, minor, patch] if major >= 3 => {
            Some(Wanted::Release(Version { series: series(major, minor), patch }))
        }
        _ => None,
    }
}

/// The release of this name: a tag v6.14 is the first of its series.
fn exact(wanted: Wanted) -> Version {
    match wanted {
        Wanted::Release(version) => version,
        Wanted::Newest(series) | Wanted::Range(series, _) => Version { series, patch: 0 },
    }
}

impl Wanted {
    /// `None` for what has not the form of a version or range; an error for a range that makes no sense.
    pub fn parse(spec: &str) -> Result<Option<Wanted>, KernelError> {
        if let Some(tag) = spec.strip_prefix('v') {
            return Ok(single(tag).map(|w| Wanted::Release(exact(w))));
        }
        let Some((first, last)) = spec.split_once("..") else { return Ok(single(spec)) };
        let (Some(first), Some(last)) = (single(first), single(last)) else { return Ok(None) };
        let refused = |reason| Err(KernelError::Range { spec: spec.into(), reason });
        match (first, last) {
            (Wanted::Newest(first), Wanted::Newest(last)) if first <= last => {
                Ok(Some(Wanted::Range(first, last)))
            }
            (Wanted::Newest(_), Wanted::Newest(_)) => refused("the older series comes first"),
            _ => refused("it is of series, without the third number"),
        }
    }
}

/// The releases that a mirror has, with the SHA-256 of their archives in hexadecimal digits.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Listing(BTreeMap<Version, String>);

impl Listing {
    /// Reads the lines `SHA-256  linux-VERSION.tar.xz` of a `sha256sums.asc`, and skips all others.
    pub(crate) fn parse(text: &str) -> Listing {
        let listed = |line: &str| {
            let (sha256, name) = line.split_once("  ")?;
            let digest = sha256.len() == 64 && sha256.bytes().all(|b| b.is_ascii_hexdigit());
            let version = Version::of_tarball(name.trim_end())?;
            digest.then(|| (version, sha256.to_ascii_lowercase()))
        };
        Listing(text.lines().filter_map(listed).collect())
    }

    /// Whether nothing is listed.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The digest of the archive of a release.
    pub(crate) fn sha256(&self, version: Version) -> Option<&str> {
        self.0.get(&version).map(String::as_str)
    }

    /// The newest release of a series.
    pub(crate) fn newest(&self, series: Series) -> Option<Version> {
        self.newest_of_each(series, series).pop()
    }

    /// The newest release of each series from `first` to `last`, in order.
    pub(crate) fn newest_of_each(&self, first: Series, last: Series) -> Vec<Version> {
        let newest: BTreeMap<Series, Version> = self.0.keys().map(|v| (v.series, *v)).collect();
        if first > last {
            return Vec::new();
        }
        newest.range(first..=last).map(|(_, v)| *v).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::hex_digest;

    fn listing(names: &[&str]) -> Listing {
        let line = |name: &&str| format!("{}  {name}\n", hex_digest(name.as_bytes()));
        let lines: String = names.iter().map(line).collect();
        let head = "-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA256\n\n";
        let signature =
            "-----BEGIN PGP SIGNATURE-----\n\niQIzBAEBCAAdFiEE6.14\n-----END PGP SIGNATURE-----\n";
        Listing::parse(&format!("{head}{lines}{signature}"))
    }

    fn realistic() -> Listing {
        listing(&[
            "ChangeLog-6.14.1",
            "linux-6.12.9.tar.gz",
            "linux-6.12.9.tar.xz",
            "linux-6.12.10.tar.xz",
            "linux-6.12.tar.xz",
            "linux-6.13.tar.xz",
            "linux-6.14-rc1.tar.xz",
            "linux-6.14.1.tar.xz",
            "linux-6.14.99.tar.sign",
            "linux-6.14.tar.xz",
            "linux-6.2.tar.xz",
            "patch-6.14.3.xz",
        ])
    }

    fn parsed(spec: &str) -> Option<String> {
        Wanted::parse(spec).unwrap().map(|w| format!("{w:?}").split('(').next().unwrap_or_default().into())
    }

    #[test]
    fn forms_of_a_version() {
        for (spec, form) in [("6.14.2", "Release"), ("6.14", "Newest"), ("5.19..6.2", "Range")] {
            assert_eq!(parsed(spec).as_deref(), Some(form), "{spec}");
            assert_eq!(Wanted::parse(spec).unwrap().unwrap().to_string(), spec);
        }
        for spec in [
            "6", "6.14.2.1", "6.14-rc1", "2.6.32", "+6.14", "6.014", "6..", "..6.14", "../linux", "6.14.", "",
        ] {
            assert_eq!(parsed(spec), None, "{spec}");
        }
    }

    #[test]
    fn newest_of_a_kind_is_by_the_list_of_releases() {
        let list = serde_json::json!({
            "latest_stable": {"version": "7.2.12"},
            "releases": [
                {"moniker": "mainline", "version": "7.3-rc4"}, {"moniker": "stable", "version": "7.2.12"},
                {"moniker": "longterm", "version": "6.6.9"}, {"moniker": "longterm", "version": "6.12.117"},
            ],
        });
        let newest = |name| Kind::parse(name).unwrap().newest_in(&list);
        assert_eq!(newest("latest").as_deref(), Some("7.3-rc4"));
        assert_eq!(newest("stable").as_deref(), Some("7.2.12"));
        assert_eq!(newest("longterm").as_deref(), Some("6.12.117"));
        assert_eq!(Kind::Stable.newest_in(&serde_json::json!([])), None);
    }

    #[test]
    fn ranges_that_make_no_sense_are_refused() {
        let message = |spec| Wanted::parse(spec).unwrap_err().to_string();
        assert!(message("6.14..6.12").contains("the older series comes first"));
        assert!(message("6.12..6.14.2").contains("without the third number"));
    }

    #[test]
    fn newest_of_a_series_is_by_number_and_of_archives_only() {
        let newest = |spec: &str| match Wanted::parse(spec).unwrap() {
            Some(Wanted::Newest(series)) => realistic().newest(series).map(|v| v.to_string()),
            other => panic!("{other:?}"),
        };
        assert_eq!(newest("6.12").as_deref(), Some("6.12.10"));
        assert_eq!(newest("6.13").as_deref(), Some("6.13.0"));
        assert_eq!(newest("6.14").as_deref(), Some("6.14.1"));
        assert_eq!(newest("6.15"), None);
    }

    #[test]
    fn a_range_has_one_release_per_series() {
        let series = |minor| Series { major: 6, minor };
        let chosen = realistic().newest_of_each(series(12), series(20));
        let names: Vec<String> = chosen.iter().map(Version::tarball).collect();
        assert_eq!(names, ["linux-6.12.10.tar.xz", "linux-6.13.tar.xz", "linux-6.14.1.tar.xz"]);
        let first = Version { series: series(13), patch: 0 };
        assert_eq!(realistic().sha256(first), Some(hex_digest(b"linux-6.13.tar.xz").as_str()));
        assert!(realistic().newest_of_each(series(15), series(20)).is_empty());
    }

    #[test]
    fn a_page_that_is_no_list_lists_nothing() {
        assert!(Listing::parse("<html>log in to the network  linux-6.14.tar.xz</html>").is_empty());
        assert!(listing(&["patch-6.14.xz"]).is_empty());
    }
}
