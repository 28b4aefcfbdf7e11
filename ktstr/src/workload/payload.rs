//! Payloads: real programs that travel into the guest, and the numbers in what they print.

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

/// A type of [`crate::Payload`].
pub trait Program {
    /// What was declared.
    const PAYLOAD: Payload;

    /// Starts it with its own arguments and `more`, beside whatever else runs.
    fn start(ctx: &Ctx, more: &[&str]) -> Result<Running> {
        Running::start(ctx, &Self::PAYLOAD, more)
    }

    /// Runs it with its own arguments and `more` to its end.
    fn run(ctx: &Ctx, more: &[&str]) -> Result<AssertResult> {
        Self::start(ctx, more)?.wait()
    }
}

/// A program and how to read it.
#[derive(Clone, Copy, Debug)]
pub struct Payload {
    /// Its name, the first part of the names of its metrics, and the role of all its tasks.
    pub name: &'static str,
    /// File name, looked for on `PATH` of the host, or path from the package's directory.
    pub binary: &'static str,
    /// Arguments. `{dir}` is the directory that its files are in.
    pub args: &'static [&'static str],
    /// More files that it needs, as paths from the package's directory.
    pub files: &'static [&'static str],
    /// Numbers in its output.
    pub numbers: &'static [Number],
}

/// A number in a program's output; its metric is `PAYLOAD.NAME`.
#[derive(Clone, Copy, Debug)]
pub struct Number {
    /// Name.
    pub name: &'static str,
    /// Where it is.
    pub at: Place,
    /// What it is multiplied with.
    pub scale: f64,
    /// Unit, after that.
    pub unit: &'static str,
    /// Which direction is better.
    pub better: Better,
}

/// Where a number is in the output.
#[derive(Clone, Copy, Debug)]
pub enum Place {
    /// What the first group of a regular expression matches first, in standard output and standard error.
    Regex(&'static str),
    /// Keys and indexes from the root of the JSON document in standard output, with dots between them: `jobs.0.read.iops`.
    Json(&'static str),
}

/// A program that was started.
#[derive(Debug)]
#[must_use = "a program that nobody waits for is killed at the end and its numbers are lost"]
pub struct Running {
    payload: &'static str,
    numbers: &'static [Number],
    /// `None` in a dry run.
    child: Option<Child>,
    output: [PathBuf; 2],
}

/// Lines of the output that a failure shows.
const TAIL_LINES: usize = 20;

impl Payload {
    /// What has to travel.
    pub(crate) fn spec(&self) -> PayloadSpec {
        PayloadSpec {
            binary: self.binary.into(),
            files: self.files.iter().map(|f| f.to_string()).collect(),
            metrics: self.numbers.iter().map(|n| format!("{}.{}", self.name, n.name)).collect(),
        }
    }

    /// What is wrong with it, before it is started.
    fn check(&self, spec: &TestSpec) -> std::result::Result<(), String> {
        let name = self.name;
        if !spec.expectations.payloads.iter().any(|p| p.binary == self.binary) {
            return Err(format!(
                "the payload {name} is not in the guest: name it in the test's attribute, payloads(...)"
            ));
        }
        for number in self.numbers {
            let Place::Regex(pattern) = number.at else { continue };
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

    /// Its path in the guest.
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
        // Files, for a pipe would have to be read while the program runs.
        let output = ["out", "err"].map(|s| PathBuf::from(format!("/tmp/{}.{}.{s}", payload.name, now_id())));
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

    /// Waits for its end. Passes if it ended with status 0 and every number was found; the numbers become metrics.
    pub fn wait(mut self) -> Result<AssertResult> {
        let Some(child) = &mut self.child else { return Ok(AssertResult::dry()) };
        let status = child.wait()?;
        let text = |p: &Path| fs::read(p).map(|b| String::from_utf8_lossy(&b).into_owned());
        let (out, err) = (text(&self.output[0])?, text(&self.output[1])?);
        Ok(judge(self.payload, self.numbers, status, &out, &err))
    }
}

/// Tells the outputs of several programs apart.
fn now_id() -> u64 {
    crate::clock::now_ns()
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

impl Place {
    /// The number, or why there is none.
    fn find(&self, out: &str, all: &str) -> std::result::Result<f64, String> {
        match self {
            Place::Regex(pattern) => {
                let regex = regex_lite::Regex::new(pattern).map_err(|e| format!("'{pattern}': {e}"))?;
                let found = regex.captures(all).and_then(|c| c.get(1));
                let text = found.ok_or_else(|| format!("nothing matches '{pattern}'"))?.as_str();
                number(text).ok_or_else(|| format!("'{text}', which '{pattern}' matches, is no number"))
            }
            Place::Json(path) => {
                let root: serde_json::Value = serde_json::from_str(out.trim())
                    .map_err(|e| format!("standard output is no JSON: {e}"))?;
                let found = path.split('.').try_fold(&root, |v, key| match key.parse::<usize>() {
                    Ok(i) if v.is_array() => v.get(i),
                    _ => v.get(key),
                });
                let value = found.ok_or_else(|| format!("there is nothing at {path}"))?;
                let text = value.as_str().and_then(number);
                value.as_f64().or(text).ok_or_else(|| format!("{value} at {path} is no number"))
            }
        }
    }
}

/// The value in its unit. `nan`, `inf` and what is too large are numbers to Rust's parser, and no measurements.
fn finite(value: f64, scale: f64) -> std::result::Result<f64, String> {
    let scaled = value * scale;
    if scaled.is_finite() { Ok(scaled) } else { Err(format!("{value} times {scale} is not finite")) }
}

/// A decimal number, also with commas between its thousands.
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
            at: Place::Regex(r"time: ([\d.,]+)"),
            scale: 1e9,
            unit: "ns",
            better: Better::Lower,
        },
        Number { name: "b", at: Place::Json("jobs.1.iops"), scale: 1.0, unit: "1/s", better: Better::Higher },
        Number { name: "c", at: Place::Json("jobs.1.name"), scale: 1.0, unit: "", better: Better::Neutral },
    ];

    #[test]
    fn numbers_are_found_and_scaled() {
        let out = r#"{"jobs": [{}, {"iops": 1.5e3, "name": "x"}]}"#;
        let r = judge("p", &NUMBERS, ExitStatus::from_raw(0), out, "time: 1,200.5 s");
        let values: Vec<_> = r.values.iter().map(|v| (v.name.as_str(), v.value)).collect();
        assert_eq!(values, [("p.a", Some(1200.5e9)), ("p.b", Some(1500.0)), ("p.c", None)]);
        assert_eq!(r.reasons().len(), 1);
        assert!(r.reasons()[0].contains("\"x\" at jobs.1.name is no number"), "{}", r.reasons()[0]);
    }

    #[test]
    fn number_that_is_not_finite_fails_the_test_and_says_so() {
        for said in ["nan", "inf", "-inf", "1e300"] {
            let rate = Number { at: Place::Regex("rate (.*)"), scale: 1e300, ..NUMBERS[0] };
            let r = judge("p", &[rate], ExitStatus::from_raw(0), &format!("rate {said}"), "");
            assert_eq!(r.values[0].value, None);
            let [reason] = r.reasons() else { panic!("{said}: {:?}", r.reasons()) };
            assert!(reason.contains("p: no a: ") && reason.contains("is not finite"), "{reason}");
        }
    }

    #[test]
    fn failing_program_is_told_once_with_its_output() {
        let r = judge("p", &NUMBERS, ExitStatus::from_raw(256), "", "no such thing");
        assert_eq!(r.reasons().len(), 1);
        assert!(r.reasons()[0].contains("exit status: 1") && r.reasons()[0].contains("no such thing"));
        assert!(r.values.iter().all(|v| v.value.is_none()));
    }

    #[test]
    fn what_is_not_there_says_so() {
        let e = |p: Place, text: &str| p.find(text, text).unwrap_err();
        assert!(e(Place::Json("a.b"), "{}").contains("nothing at a.b"));
        assert!(e(Place::Json("a"), "x").contains("no JSON"));
        assert!(e(Place::Regex("(x"), "x").contains("(x"));
        assert!(e(Place::Regex("x"), "x").contains("nothing matches"));
    }
}
