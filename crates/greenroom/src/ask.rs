//! Questions on the terminal. Secrets are read without echo and never taken from the command line, where other
//! people on the machine could read them.

use crate::exit::Failure;
use std::io::{BufRead, IsTerminal, Read, Write};

/// Longest secret read from a file or standard input.
const SECRET_LIMIT: u64 = 16 * 1024;

pub(crate) fn secret(question: &str, otherwise: &str) -> Result<String, Failure> {
    if !std::io::stdin().is_terminal() {
        return Err(no_terminal(question, otherwise));
    }
    let answer = rpassword::prompt_password(format!("{question}: "))?;
    not_empty(&answer, question)
}

/// Asked twice: a new password that nobody sees could hold a slip.
pub(crate) fn new_password() -> Result<String, Failure> {
    let first = secret("New password", "Run it on a terminal.")?;
    if secret("Again", "Run it on a terminal.")? == first {
        return Ok(first);
    }
    Err(Failure::usage("The two passwords differ.", "Try again."))
}

pub(crate) fn line(question: &str, otherwise: &str) -> Result<String, Failure> {
    if !std::io::stdin().is_terminal() {
        return Err(no_terminal(question, otherwise));
    }
    let mut err = std::io::stderr();
    write!(err, "{question}: ")?;
    err.flush()?;
    let mut answer = String::new();
    std::io::stdin().lock().take(1024).read_line(&mut answer)?;
    not_empty(&answer, question)
}

/// A secret from a file, or from standard input for `-`; the newline at its end is not part of it.
pub(crate) fn secret_file(path: &std::path::Path) -> Result<String, Failure> {
    let unreadable = |error: std::io::Error| {
        Failure::usage(
            format!("{} cannot be read: {error}.", path.display()),
            "Name a file that holds the key.",
        )
    };
    let mut text = String::new();
    let reader: Box<dyn Read> = if path.as_os_str() == "-" {
        Box::new(std::io::stdin())
    } else {
        Box::new(std::fs::File::open(path).map_err(unreadable)?)
    };
    reader.take(SECRET_LIMIT).read_to_string(&mut text).map_err(unreadable)?;
    not_empty(&text, &path.display().to_string())
}

fn not_empty(answer: &str, what: &str) -> Result<String, Failure> {
    let answer = answer.trim();
    if answer.is_empty() {
        return Err(Failure::usage(format!("{what} is empty."), "Nothing was done."));
    }
    Ok(answer.to_owned())
}

fn no_terminal(question: &str, otherwise: &str) -> Failure {
    Failure::usage(format!("{question} cannot be asked: standard input is not a terminal."), otherwise)
}
