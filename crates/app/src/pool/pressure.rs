//! How much memory the machine has left for sandboxes that nobody uses yet.

/// The share of memory that must be available before another warm sandbox is started, and below which they are ended.
const START_SHARE: f64 = 0.15;
const END_SHARE: f64 = 0.07;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pressure {
    None,
    /// No further ones.
    High,
    /// Fewer.
    Severe,
}

/// Of this machine now; a machine that does not say has none.
pub(super) async fn pressure() -> Pressure {
    match tokio::fs::read_to_string("/proc/meminfo").await {
        Ok(text) => of_meminfo(&text).unwrap_or(Pressure::None),
        Err(_) => Pressure::None,
    }
}

fn of_meminfo(text: &str) -> Option<Pressure> {
    let field = |name: &str| -> Option<f64> {
        let line = text.lines().find(|line| line.starts_with(name))?;
        line.split_ascii_whitespace().nth(1)?.parse().ok()
    };
    let share = field("MemAvailable:")? / field("MemTotal:")?.max(1.0);
    Some(match share {
        share if share < END_SHARE => Pressure::Severe,
        share if share < START_SHARE => Pressure::High,
        _ => Pressure::None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pressure_follows_what_is_available() {
        let text =
            |available: u64| format!("MemTotal: 1000 kB\nMemFree: 1 kB\nMemAvailable: {available} kB\n");
        assert_eq!(of_meminfo(&text(500)), Some(Pressure::None));
        assert_eq!(of_meminfo(&text(100)), Some(Pressure::High));
        assert_eq!(of_meminfo(&text(50)), Some(Pressure::Severe));
        assert_eq!(of_meminfo("nothing"), None);
    }
}
