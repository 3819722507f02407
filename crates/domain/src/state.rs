//! (being written)
#[derive(Clone, Debug)]
pub struct SessionState;
#[derive(Clone, Debug)]
pub enum Effect {}
#[derive(Clone, Debug)]
pub struct Ids;
