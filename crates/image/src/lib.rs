//! stub
pub mod detect;
pub mod recipe;
