//! Which model answers a session, and how hard it thinks.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// How hard a model thinks, from the least. Each model knows some of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Effort {
    Minimal,
    Low,
    Medium,
    High,
    Xhigh,
    Max,
}

impl Effort {
    pub const ALL: [Self; 6] = [Self::Minimal, Self::Low, Self::Medium, Self::High, Self::Xhigh, Self::Max];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Minimal => "minimal",
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
            Self::Xhigh => "xhigh",
            Self::Max => "max",
        }
    }

    /// Itself where it is among these, else the nearest, the lower one of two; `None` where there are none.
    pub fn nearest(self, known: &[Self]) -> Option<Self> {
        known.iter().copied().min_by_key(|one| ((*one as u8).abs_diff(self as u8), *one))
    }
}

/// What a session's turns are answered with.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ModelChoice {
    /// A name of the installation; `None`: its default at each turn.
    pub model: Option<String>,
    /// `None`: what the installation set for the model.
    pub effort: Option<Effort>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_effort_is_the_lower_of_two() {
        let known = [Effort::Low, Effort::High];
        assert_eq!(Effort::High.nearest(&known), Some(Effort::High));
        assert_eq!(Effort::Medium.nearest(&known), Some(Effort::Low));
        assert_eq!(Effort::Max.nearest(&known), Some(Effort::High));
        assert_eq!(Effort::Max.nearest(&[]), None);
    }
}
