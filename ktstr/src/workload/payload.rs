//! Payloads: real programs that are copied into the guest, and the numbers in their output.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

use ktstr_wire::PAYLOAD_DIR;
use ktstr_wire::body::Reported;
use ktstr_wire::spec::{PayloadSpec, TestSpec};

use crate::Result;
use crate::ctx::Ctx;
use crate::note::Note;
use crate::result::{AssertResult, Better};

/// A program that tests run; [`crate::Payload`] implements it.
pub trait Program {
    /// The declaration of the program.
    const PAYLOAD: Payload;

    /// Starts the program with its declared arguments and `more`, and does not wait. Errors: the test does
    /// not name the payload, or the program cannot be started.
    fn start(ctx: &Ctx, more: &[&str]) -> Result<Running> {
        Running::start(ctx, &Self::PAYLOAD, more)
    }

    /// Starts the program with its declared arguments and `more`, and waits for its end.
    fn run(ctx: &Ctx, more: &[&str]) -> Result<AssertResult> {
        Self::start(ctx, more)?.wait()
    }
}

/// Declaration of a program, and how to read its output.
#[derive(Clone, Copy, Debug)]
pub struct Payload {
    /// The first part of the names of its metrics, and the role of its tasks.
    pub name: &'static str,
    /// A file name on the host's `PATH`, or a path from the package's directory.
    pub binary: &'static str,
    /// Its arguments. `{dir}` stands for the directory of its files.
    pub args: &'static [&'static str],
    /// Other files that it needs, as paths from the package's directory.
    pub files: &'static [&'static str],
    /// Numbers in its output.
    pub numbers: &'static [Number],
}

/// A number in a program's output; its metric is `PAYLOAD.NAME`.
#[derive(Clone, Copy, Debug)]
pub struct Number {
    /// The second part of the metric's name.
    pub name: &'static str,
    /// Its location in the output.
    pub at: Location,
    /// Factor for the conversion to `unit`.
    pub scale: f64,
    /// Unit of the metric.
    pub unit: &'static str,
    /// The direction in which the metric improves.
    pub better: Better,
}

/// Location of a number in the output of a program.
#[derive(Clone, Copy, Debug)]
pub enum Location {
    /// The first group of a regular expression at its first match in standard output and standard error.
    Regex(&'static str),
    /// A path of keys and indexes in the JSON document on standard output, as in `jobs.0.read.iops`.
    Json(&'static str),
}

/// A running program.
#[derive(Debug)]
#[must_use = "without wait() the program is killed at the end of the test and its numbers are lost"]
pub struct Running {
    payload: &'static str,
    numbers: &'static [Number],
    /// `None` in a dry run.
    child: Option<Child>,
    output: [PathBuf; 2],
}

/// Number of lines of output in a failure message.
const TAIL_LINES: usize = 20;

impl Payload {
    pub(crate) fn spec(&self) -> PayloadSpec {
        PayloadSpec {
            binary: self.binary.into(),
            files: self.files.iter().map(|f| f.to_string()).collect(),
            metrics: self.numbers.iter().map(|n| format!("{}.{}", self.name, n.name)).collect(),
        }
    }

    /// Checks the declaration before the program is started.
    fn check(&self, spec: &TestSpec) -> std::result::Result<(), String> {
        let name = self.name;
        if !spec.expectations.payloads.iter().any(|p| p.binary == self.binary) {
            return Err(format!(
                "the payload {name} is not in the guest: name it in the test's attribute, payloads(...)"
            ));
        }
        for number in self.numbers {
            let Location::Regex(pattern) = number.at else { continue };
            let regex = regex_lite::Regex::new(pattern)
                .map_err(|e| format!("{name}: the regex of {}, '{pattern}': {e}", number.name))?;
            if regex.captures_len() < 2 {
                return Err(format!(
                    "{name}: the regex of {}, '{pattern}', has no group: put parentheses around the number",
                    number.name
                ));
            }
        }
        Ok(())
    }

    /// The path in the guest.
    fn path(&self) -> PathBuf {
        let file = Path::new(self.binary).file_name().unwrap_or_default();
        Path::new(PAYLOAD_DIR).join(file)
    }
}

impl Running {
    fn start(ctx: &Ctx, payload: &Payload, more: &[&str]) -> Result<Running> {
        payload.check(ctx.spec()).map_err(|why| ctx.refuse(why))?;
        let path = payload.path();
        let args = payload.args.iter().chain(more).map(|a| a.replace("{dir}", PAYLOAD_DIR));
        if ctx.is_dry() {
            let words: Vec<String> = std::iter::once(payload.binary.to_string()).chain(args).collect();
            crate::note::note(&Note::Step(format!("start {}: {}", payload.name, words.join(" "))));
            ctx.announce(0, payload.name)?;
            let output = [path.clone(), path];
            return Ok(Running { payload: payload.name, numbers: payload.numbers, child: None, output });
        }
        // Files, because pipes would have to be read while the program runs.
        // Unique, because a payload may run more than once at a time.
        let id = crate::clock::now_ns();
        let output = ["out", "err"].map(|s| PathBuf::from(format!("/tmp/{}.{id}.{s}", payload.name)));
        let child = Command::new(&path)
            .args(args)
            .stdin(Stdio::null())
            .stdout(File::create(&output[0])?)
            .stderr(File::create(&output[1])?)
            .spawn()
            .map_err(|e| format!("{}: {e}", path.display()))?;
        ctx.announce(child.id(), payload.name)?;
        Ok(Running { payload: payload.name, numbers: payload.numbers, child: Some(child), output })
    }

    /// Waits for the end of the program. The result passes if the exit status is 0 and every number was
    /// found; the numbers become metrics. Errors: the output cannot be read.
    pub fn wait(mut self) -> Result<AssertResult> {
        let Some(child) = &mut self.child else { return Ok(AssertResult::dry()) };
        let status = child.wait()?;
        let text = |p: &Path| fs::read(p).map(|b| String::from_utf8_lossy(&b).into_owned());
        let (out, err) = (text(&self.output[0])?, text(&self.output[1])?);
        Ok(judge(self.payload, self.numbers, status, &out, &err))
    }
}

fn judge(name: &str, numbers: &[Number], status: ExitStatus, out: &str, err: &str) -> AssertResult {
    let all = format!("{out}\n{err}");
    let tail = || {
        let lines: Vec<&str> = all.trim().lines().collect();
        lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n")
    };
    let mut result = AssertResult::pass().ensure(status.success(), || {
        format!("{name} ended with {status}; the end of its output:\n{}", tail())
    });
    for number in numbers {
        let found = number.at.find(out, &all).and_then(|v| finite(v, number.scale));
        if status.success() {
            result = result.ensure(found.is_ok(), || {
                let why = found.as_ref().err().cloned().unwrap_or_default();
                format!("{name}: no {}: {why}; the end of its output:\n{}", number.name, tail())
            });
        }
        result.values.push(Reported {
            name: format!("{name}.{}", number.name),
            role: None,
            phase: None,
            stat: "value".into(),
            value: found.ok(),
            unit: Some(number.unit.into()),
            polarity: Some(number.better.name().into()),
        });
    }
    result
}

impl Location {
    /// The number, or the reason why there is none.
    fn find(&self, out: &str, all: &str) -> std::result::Result<f64, String> {
        match self {
            Location::Regex(pattern) => {
                let regex = regex_lite::Regex::new(pattern).map_err(|e| format!("'{pattern}': {e}"))?;
                let found = regex.captures(all).and_then(|c| c.get(1));
                let text = found.ok_or_else(|| format!("nothing matches '{pattern}'"))?.as_str();
                number(text).ok_or_else(|| format!("'{text}', which '{pattern}' matches, is not a number"))
            }
            Location::Json(path) => {
                let root: serde_json::Value = serde_json::from_str(out.trim())
                    .map_err(|e| format!("standard output is not JSON: {e}"))?;
                let found = path.split('.').try_fold(&root, |v, key| match key.parse::<usize>() {
                    Ok(i) if v.is_array() => v.get(i),
                    _ => v.get(key),
                });
                let value = found.ok_or_else(|| format!("there is nothing at {path}"))?;
                let text = value.as_str().and_then(number);
                value.as_f64().or(text).ok_or_else(|| format!("{value} at {path} is not a number"))
            }
        }
    }
}

/// The value in its unit. Rust parses `nan`, `inf` and overflows as numbers; they are not measurements.
fn finite(value: f64, scale: f64) -> std::result::Result<f64, String> {
    let scaled = value * scale;
    if scaled.is_finite() { Ok(scaled) } else { Err(format!("{value} times {scale} is not finite")) }
}

/// Parses a decimal number, with or without commas between thousands.
fn number(text: &str) -> Option<f64> {
    text.trim().replace(',', "").parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::process::ExitStatusExt;

    const NUMBERS: [Number; 3] = [
        Number {
            name: "a",
            at: Location::Regex(r"time: ([\d.,]+)"),
            scale: 1e9,
            unit: "ns",
            better: Better::Lower,
        },
        Number {
            name: "b",
            at: Location::Json("jobs.1.iops"),
            scale: 1.0,
            unit: "1/s",
            better: Better::Higher,
        },
        Number {
            name: "c",
            at: Location::Json("jobs.1.name"),
            scale: 1.0,
            unit: "",
            better: Better::Neutral,
        },
    ];

    #[test]
    fn numbers_are_found_and_scaled() {
        let out = r#"{"jobs": [{}, {"iops": 1.5e3, "name": "x"}]}"#;
        let r = judge("p", &NUMBERS, ExitStatus::from_raw(0), out, "time: 1,200.5 s");
        let values: Vec<_> = r.values.iter().map(|v| (v.name.as_str(), v.value)).collect();
        assert_eq!(values, [("p.a", Some(1200.5e9)), ("p.b", Some(1500.0)), ("p.c", None)]);
        assert_eq!(r.reasons().len(), 1);
        assert!(r.reasons()[0].contains("\"x\" at jobs.1.name is not a number"), "{}", r.reasons()[0]);
    }

    #[test]
    fn number_that_is_not_finite_fails_the_test_and_says_so() {
        for said in ["nan", "inf", "-inf", "1e300"] {
            let rate = Number { at: Location::Regex("rate (.*)"), scale: 1e300, ..NUMBERS[0] };
            let r = judge("p", &[rate], ExitStatus::from_raw(0), &format!("rate {said}"), "");
            assert_eq!(r.values[0].value, None);
            let [reason] = r.reasons() else { panic!("{said}: {:?}", r.reasons()) };
            assert!(reason.contains("p: no a: ") && reason.contains("is not finite"), "{reason}");
        }
    }

    #[test]
    fn failing_program_is_reported_once_with_its_output() {
        let r = judge("p", &NUMBERS, ExitStatus::from_raw(256), "", "no such thing");
        assert_eq!(r.reasons().len(), 1);
        assert!(r.reasons()[0].contains("exit status: 1") && r.reasons()[0].contains("no such thing"));
        assert!(r.values.iter().all(|v| v.value.is_none()));
    }

    #[test]
    fn what_is_not_there_says_so() {
        let e = |p: Location, text: &str| p.find(text, text).unwrap_err();
        assert!(e(Location::Json("a.b"), "{}").contains("nothing at a.b"));
        assert!(e(Location::Json("a"), "x").contains("not JSON"));
        assert!(e(Location::Regex("(x"), "x").contains("(x"));
        assert!(e(Location::Regex("x"), "x").contains("nothing matches"));
    }
}
