//! One small static program with three roles, chosen by its first argument: `zygote` makes sandboxes for `sandboxd`,
//! `stage` is PID 1 inside one, `search` reads files for stage as an ordinary bounded run. Blocking and poll based, no
//! async runtime; started from a memfd, so it runs over any root. Holds no secret and no policy.
#![allow(unsafe_code, reason = "raw system calls; every block carries its proof")]

mod attach;
mod base;
mod enter;
mod files;
mod guard;
mod landlock;
mod link;
mod net;
mod ports;
mod processes;
mod reading;
mod run;
mod search;
mod spawn;
mod stage;
mod sys;
mod terminal;
mod watch;
mod zygote;

fn main() {
    sys::close_inherited();
    let role = std::env::args().nth(1).unwrap_or_default();
    let code = match role.as_str() {
        "zygote" => zygote::main(),
        "stage" => stage::main(),
        "search" => search::main(),
        _ => 64,
    };
    std::process::exit(code);
}
