//! Completion scripts for shells: of `cargo-ktstr`, and for bash and zsh of `cargo ktstr` too.

use clap::CommandFactory;
use clap_complete::Shell;

use crate::commands::cli::Cli;

/// The name of the program. What `--help` calls it, `cargo ktstr`, is no word of a shell.
const PROGRAM: &str = "cargo-ktstr";

/// What the functions of the script for bash are called by: clap_complete 4.6 writes the `-` of a program's name into the cases of
/// subcommands in two ways, of which one never matches.
const BASH_NAME: &str = "ktstr";

/// Completes `cargo ktstr ...` as `cargo-ktstr ...`, and leaves everything else of cargo to what completed it before.
const BASH_BELOW_CARGO: &str = r#"
_ktstr_below_cargo() {
    if [[ ${COMP_WORDS[1]-} == ktstr && $COMP_CWORD -ge 2 ]]; then
        COMP_WORDS=(cargo-ktstr "${COMP_WORDS[@]:2}")
        COMP_CWORD=$((COMP_CWORD - 1))
        _ktstr cargo-ktstr "$2" "${COMP_WORDS[COMP_CWORD - 1]}"
        return
    fi
    if [[ -n $_ktstr_cargo_before ]]; then
        "$_ktstr_cargo_before" "$@"
        return
    fi
    [[ $COMP_CWORD -eq 1 && ktstr == "$2"* ]] && COMPREPLY=(ktstr)
}

# cargo's own completion may be loaded on demand only.
declare -F _completion_loader >/dev/null && ! complete -p cargo &>/dev/null && _completion_loader cargo &>/dev/null
_ktstr_cargo_before=$(complete -p cargo 2>/dev/null | sed -n 's/.* -F \([^ ]*\) .*/\1/p')
[[ $_ktstr_cargo_before == _ktstr_below_cargo || $_ktstr_cargo_before == _minimal || $_ktstr_cargo_before == _completion_loader ]] &&
    _ktstr_cargo_before=
complete -F _ktstr_below_cargo -o bashdefault -o default cargo
"#;

/// The same for zsh. Rust's own completion of cargo calls `_cargo-ktstr` by itself, where it is there.
const ZSH_BELOW_CARGO: &str = r#"
_ktstr_below_cargo() {
    if [[ $words[2] == ktstr ]] && (( CURRENT > 2 )); then
        words=(cargo-ktstr "${(@)words[3,-1]}")
        (( CURRENT-- ))
        _cargo-ktstr
    elif [[ -n $_ktstr_cargo_before ]]; then
        $_ktstr_cargo_before "$@"
    elif (( CURRENT == 2 )); then
        compadd -- ktstr
    else
        _default
    fi
}

if [[ $funcstack[1] != _cargo-ktstr && $_comps[cargo] != _ktstr_below_cargo ]]; then
    typeset -g _ktstr_cargo_before=$_comps[cargo]
    compdef _ktstr_below_cargo cargo
fi
"#;

/// The script for `shell`.
pub(crate) fn script(shell: Shell) -> String {
    match shell {
        Shell::Bash => {
            let script = generated(shell, BASH_NAME);
            script.replace("-o default ktstr\n", "-o default cargo-ktstr\n") + BASH_BELOW_CARGO
        }
        Shell::Zsh => generated(shell, PROGRAM) + ZSH_BELOW_CARGO,
        _ => generated(shell, PROGRAM),
    }
}

fn generated(shell: Shell, name: &'static str) -> String {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command().name(name), name, &mut script);
    String::from_utf8_lossy(&script).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    /// What a shell has loaded the script answers to the words, of which the last is completed; `ask` is a script that prints the answer.
    fn answers(shell: &str, script: Shell, ask: &str, words: &[&str]) -> Option<Vec<String>> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("script");
        std::fs::write(&path, super::script(script)).unwrap();
        let run = Command::new(shell).args(["-c", ask, "ask"]).arg(&path).args(words).output();
        let out = match run {
            Ok(out) => out,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return None,
            Err(e) => panic!("{shell}: {e}"),
        };
        let text = String::from_utf8(out.stdout).unwrap();
        assert_eq!(String::from_utf8_lossy(&out.stderr), "", "{words:?}");
        Some(text.split_whitespace().map(str::to_string).collect())
    }

    /// Bash's own interface of completion functions (bash(1), "Programmable Completion").
    const ASK_BASH: &str = r#"
        source "$1"; shift
        COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMP_LINE="$*"; COMP_POINT=${#COMP_LINE}
        function=$(complete -p "$1" | sed 's/.* -F \([^ ]*\) .*/\1/')
        "$function" "$1" "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD - 1]}"
        printf '%s\n' "${COMPREPLY[@]}""#;

    fn bash(words: &[&str]) -> Vec<String> {
        answers("bash", Shell::Bash, ASK_BASH, words).expect("there is a bash")
    }

    #[test]
    fn bash_completes_both_names_at_every_depth() {
        for name in [&["cargo-ktstr"][..], &["cargo", "ktstr"]] {
            let complete = |words: &[&str]| bash(&[name, words].concat());
            let commands = complete(&[""]);
            assert!(
                ["test", "stats", "replay"].iter().all(|c| commands.contains(&c.to_string())),
                "{commands:?}"
            );
            assert_eq!(complete(&["test", "--ac"]), ["--accel"]);
            assert_eq!(complete(&["test", "--accel", "s"]), ["sim"]);
            assert_eq!(complete(&["stats", "comp"]), ["compare"]);
            assert_eq!(complete(&["stats", "compare", "--a-sch"]), ["--a-scheduler"]);
        }
        assert_eq!(bash(&["cargo", "kt"]), ["ktstr"]);
        assert!(bash(&["cargo", "build", "--ac"]).is_empty());
    }

    #[test]
    fn bash_leaves_the_rest_of_cargo_to_what_completed_it_before() {
        let before = format!("_before() {{ COMPREPLY=(before); }}; complete -F _before cargo\n{ASK_BASH}");
        let ask = |words: &[&str]| answers("bash", Shell::Bash, &before, words).expect("there is a bash");
        assert_eq!(ask(&["cargo", "build", "--ac"]), ["before"]);
        assert_eq!(ask(&["cargo", "kt"]), ["before"]);
        assert_eq!(ask(&["cargo", "ktstr", "test", "--ac"]), ["--accel"]);
    }
}
