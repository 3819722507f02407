//! End to end: the real binary, real sandboxes, real git; only the model's words are written here.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "tests say what went wrong by panicking, and what they leave out"
)]

mod archive;
mod asks;
mod backup;
mod bad_input;
mod blame;
mod canary;
mod crash;
mod demo;
mod exchange;
mod files;
mod git_http;
mod hands;
mod history;
mod image_room;
mod lifecycle;
mod limits;
mod mirror;
mod models;
mod observe;
mod open_metrics;
mod outside;
mod preview;
mod queue;
mod real_repositories;
mod restart;
mod retention;
mod self_approval;
mod sharing;
mod spawn;
mod stop;
mod support;
mod trees;
mod work;
