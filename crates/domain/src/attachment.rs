//! Files that people attach to prompts and that the agent publishes: known by the digest of their bytes, which are never
//! in an event.

use crate::BlobDigest;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Most files on one prompt.
pub const ATTACHMENTS_LIMIT: usize = 10;
/// Longest name of a file, in characters.
const NAME_LIMIT: usize = 100;
const NAMELESS: &str = "file";

/// An uploaded file as a prompt names it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AttachmentRef {
    pub digest: BlobDigest,
    pub name: String,
}

/// A stored file. Type and size are those of its content, whatever its name says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Attachment {
    pub digest: BlobDigest,
    /// A bare file name of at most 100 characters.
    pub name: String,
    pub media_type: String,
    pub bytes: u64,
    /// In pixels, of an image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub width: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub height: Option<u32>,
}

impl Attachment {
    /// Of a kind that browsers and models show: PNG, JPEG, GIF or WebP.
    pub fn is_picture(&self) -> bool {
        is_picture(&self.media_type)
    }
}

pub fn is_picture(media_type: &str) -> bool {
    matches!(media_type, "image/png" | "image/jpeg" | "image/gif" | "image/webp")
}

/// The last part of a path in any system's writing, without what a file system, a terminal or a header would misread.
pub fn file_name(text: &str) -> String {
    let last = text.rsplit(['/', '\\']).next().unwrap_or_default();
    let kept: String = last.chars().filter(|c| is_harmless(*c)).collect();
    let kept = kept.trim_matches([' ', '-']).trim_end_matches('.');
    if kept.is_empty() {
        return NAMELESS.to_owned();
    }
    if kept.chars().count() <= NAME_LIMIT {
        return kept.to_owned();
    }
    // A long name keeps its ending, which programs go by.
    let ending = kept.rsplit_once('.').map_or("", |(_, ending)| ending);
    let ending = if ending.chars().count() <= 10 { format!(".{ending}") } else { String::new() };
    let beginning: String = kept.chars().take(NAME_LIMIT - ending.chars().count()).collect();
    format!("{}{ending}", beginning.trim_end_matches(['.', ' ']))
}

/// Marks that turn the direction of writing could show another ending than the name has.
fn is_harmless(c: char) -> bool {
    let turns = matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    !c.is_control() && !turns && !"<>:\"|?*`\u{2028}\u{2029}\u{feff}".contains(c)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_one_part_of_a_path_that_nothing_misreads() {
        for (given, name) in [
            ("shot.png", "shot.png"),
            ("../../etc/passwd", "passwd"),
            ("C:\\Users\\ann\\notes.md", "notes.md"),
            ("..", "file"),
            ("", "file"),
            ("a/", "file"),
            ("-rf", "rf"),
            ("a\r\nSet-Cookie: x", "aSet-Cookie x"),
            ("\u{202e}gnp.exe", "gnp.exe"),
            (".gitignore", ".gitignore"),
            ("Entwurf für Jürgen.pdf", "Entwurf für Jürgen.pdf"),
        ] {
            assert_eq!(file_name(given), name, "{given:?}");
        }
        let long = file_name(&format!("{}.tar", "x".repeat(500)));
        assert!(long.chars().count() == 100 && long.ends_with("x.tar"), "{long}");
    }
}
