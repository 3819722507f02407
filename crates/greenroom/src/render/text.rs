//! Words, numbers and untrusted text for terminals. Colours are always written; the output strips them where nobody
//! looks at a terminal.

use anstyle::{AnsiColor, Style};
use std::borrow::Cow;
use std::fmt::Display;

pub(crate) const PLAIN: Style = Style::new();
pub(crate) const BOLD: Style = Style::new().bold();
pub(crate) const DIM: Style = Style::new().dimmed();
pub(crate) const GOOD: Style = AnsiColor::Green.on_default();
pub(crate) const BAD: Style = AnsiColor::Red.on_default();
pub(crate) const WARN: Style = AnsiColor::Yellow.on_default();
pub(crate) const NOTE: Style = AnsiColor::Cyan.on_default();

pub(crate) fn paint(style: Style, text: impl Display) -> String {
    if style == PLAIN { text.to_string() } else { format!("{style}{text}{style:#}") }
}

/// Text of models, tools and repositories with everything that could steer a terminal made visible: control
/// characters and those that reorder what is read.
pub(crate) fn clean(text: &str) -> Cow<'_, str> {
    if !text.chars().any(is_unsafe) {
        return Cow::Borrowed(text);
    }
    let visible = |c: char| match c {
        '\r' => None,
        c if is_unsafe(c) => Some('\u{fffd}'),
        c => Some(c),
    };
    Cow::Owned(text.chars().filter_map(visible).collect())
}

fn is_unsafe(c: char) -> bool {
    (c.is_control() && c != '\n' && c != '\t')
        || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// The first line, cleaned, at most `limit` characters.
pub(crate) fn one_line(text: &str, limit: usize) -> String {
    let line = clean(text.trim().lines().next().unwrap_or_default()).into_owned();
    if line.chars().count() <= limit {
        return line;
    }
    let mut short: String = line.chars().take(limit.saturating_sub(1)).collect();
    short.push('…');
    short
}

/// `1234567` → `1,234,567`.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

pub(crate) fn duration(ms: u64) -> String {
    match ms {
        0..1_000 => format!("{ms} ms"),
        1_000..60_000 => format!("{:.1} s", ms as f64 / 1000.0),
        60_000..3_600_000 => format!("{} min {:02} s", ms / 60_000, ms / 1000 % 60),
        _ => format!("{} h {:02} min", ms / 3_600_000, ms / 60_000 % 60),
    }
}

/// Of memory and disk: powers of 1024 under the names people read.
pub(crate) fn bytes(value: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KB", "MB", "GB", "TB"];
    let mut size = value as f64;
    let mut unit = 0;
    while size >= 1024.0 && unit < UNITS.len() - 1 {
        size /= 1024.0;
        unit += 1;
    }
    if unit == 0 || size >= 100.0 {
        format!("{size:.0} {}", UNITS[unit])
    } else {
        format!("{size:.1} {}", UNITS[unit])
    }
}

pub(crate) fn dollars(microusd: u64) -> String {
    if microusd < 10_000 {
        format!("${:.4}", microusd as f64 / 1e6)
    } else {
        format!("${:.2}", microusd as f64 / 1e6)
    }
}

/// `3 min ago`, for lists.
pub(crate) fn ago(at_ms: i64, now_ms: i64) -> String {
    let seconds = (now_ms - at_ms).max(0) / 1000;
    match seconds {
        0..60 => "just now".to_owned(),
        60..3_600 => format!("{} min ago", seconds / 60),
        3_600..86_400 => format!("{} h ago", seconds / 3_600),
        _ => format!("{} d ago", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_cannot_steer_the_terminal() {
        assert_eq!(clean("a\x1b[2Jb\r\n\tc\u{202e}"), "a\u{fffd}[2Jb\n\tc\u{fffd}");
        assert!(matches!(clean("plain – ü\n"), Cow::Borrowed(_)));
    }

    #[test]
    fn numbers_read_easily() {
        assert_eq!(
            ["0", "999", "1,000", "1,234,567"],
            [0, 999, 1000, 1_234_567].map(grouped).each_ref().map(|s| s as &str)
        );
        assert_eq!(duration(999), "999 ms");
        assert_eq!(duration(61_500), "1 min 01 s");
        assert_eq!(dollars(1_234), "$0.0012");
        assert_eq!(dollars(1_234_000), "$1.23");
        assert_eq!(ago(0, 125_000), "2 min ago");
    }
}
