//! End to end: the real binary, real sandboxes, real git; only the model's words are written here.

mod bad_input;
mod demo;
mod git_http;
mod real_repositories;
mod restart;
mod support;
mod work;
