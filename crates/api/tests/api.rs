//! The interface from outside, over a fake application: who gets in, what bad requests get, streams, git, the page.

#![allow(clippy::unwrap_used)]

#[path = "api/attachments.rs"]
mod attachments;
#[path = "api/authorization.rs"]
mod authorization;
#[path = "api/bad_requests.rs"]
mod bad_requests;
#[path = "api/fake.rs"]
mod fake;
#[path = "api/frames.rs"]
mod frames;
#[path = "api/git.rs"]
mod git;
#[path = "api/going_on.rs"]
mod going_on;
#[path = "api/hooks.rs"]
mod hooks;
#[path = "api/inside.rs"]
mod inside;
#[path = "api/limits.rs"]
mod limits;
#[path = "api/live.rs"]
mod live;
#[path = "api/metrics.rs"]
mod metrics;
#[path = "api/previews.rs"]
mod previews;
#[path = "api/socket.rs"]
mod socket;
#[path = "api/stream.rs"]
mod stream;
#[path = "api/web.rs"]
mod web;
