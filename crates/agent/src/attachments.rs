//! How files on a prompt reach the model: pictures are shown, short texts are quoted, and every file lies in the sandbox
//! under a path that the model is told. Pure: what was loaded is passed in, and the order of the log decides, so that a
//! conversation rebuilt from its log is the same byte for byte.

use greenroom_domain::message::Image;
use greenroom_domain::{Attachment, BlobDigest};
use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::Arc;

/// Where files lie in a sandbox: outside the repository, so that no commit takes them along by itself.
const DIRECTORY: &str = "/attachments";
/// Longest text that is quoted, in bytes.
const QUOTED_LIMIT: u64 = 32 * 1024;
/// Largest picture that is shown: with Base64 around it that is 5 MB, what the strictest provider takes.
const PICTURE_LIMIT: u64 = 3_750_000;
/// In pixels, of each side.
const PICTURE_SIDE_LIMIT: u32 = 8000;
/// All pictures of a conversation, which every request carries again.
pub const PICTURES_LIMIT: u64 = 15_000_000;
const PICTURES_COUNT_LIMIT: usize = 50;

const UNREADABLE: &str = "its content could not be read";

/// What a person says, with the pictures they show.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Said {
    pub text: String,
    pub images: Vec<Image>,
    /// A line for each of its files: where it lies, and what it is.
    pub files: Vec<String>,
}

impl From<String> for Said {
    fn from(text: String) -> Self {
        Self { text, ..Self::default() }
    }
}

impl From<&str> for Said {
    fn from(text: &str) -> Self {
        text.to_owned().into()
    }
}

/// Whether a file's content is needed to tell the model of it.
pub fn is_content_told(file: &Attachment) -> bool {
    is_quotable(file) || is_showable(file)
}

/// The absolute path of a file inside the sandbox. Two files of one name do not meet.
pub fn path_in_sandbox(file: &Attachment) -> String {
    format!("{DIRECTORY}/{}/{}", &file.digest.as_str()[..8], file.name)
}

fn is_quotable(file: &Attachment) -> bool {
    file.media_type.starts_with("text/") && file.bytes <= QUOTED_LIMIT
}

fn is_showable(file: &Attachment) -> bool {
    let fits = |side: Option<u32>| side.is_some_and(|side| side <= PICTURE_SIDE_LIMIT);
    file.is_picture() && file.bytes <= PICTURE_LIMIT && fits(file.width) && fits(file.height)
}

/// The contents that the model is to see, and whether it can.
#[derive(Clone, Debug, Default)]
pub struct Material {
    pub sees_images: bool,
    texts: HashMap<BlobDigest, Arc<str>>,
    images: HashMap<BlobDigest, Image>,
}

impl Material {
    pub fn new(sees_images: bool) -> Self {
        Self { sees_images, ..Self::default() }
    }

    pub fn has(&self, file: &Attachment) -> bool {
        self.texts.contains_key(&file.digest) || self.images.contains_key(&file.digest)
    }

    /// `encoded`: Base64 of the picture's bytes.
    pub fn add_picture(&mut self, file: &Attachment, encoded: String) {
        let image = Image { media_type: file.media_type.clone(), data: encoded.into() };
        self.images.insert(file.digest.clone(), image);
    }

    pub fn add_text(&mut self, file: &Attachment, text: &str) {
        self.texts.insert(file.digest.clone(), text.into());
    }
}

/// How much a conversation has shown by now.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Shown {
    bytes: u64,
    count: usize,
}

impl Shown {
    /// A prompt's words, followed by what is to be known of its files.
    pub(crate) fn present(&mut self, words: String, files: &[Attachment], material: &Material) -> Said {
        let mut said = Said::from(words);
        if files.is_empty() {
            return said;
        }
        said.text.push_str("\n\nAttached files (copies lie in the sandbox, outside the repository):");
        for file in files {
            let (note, image) = self.note(file, material);
            let line = format!("{} ({})", path_in_sandbox(file), kind(file));
            let _ = write!(said.text, "\n- {line}: {note}");
            said.files.push(line);
            said.images.extend(image);
        }
        let quoted = files.iter().filter(|file| is_quotable(file));
        for (file, text) in quoted.filter_map(|file| Some((file, material.texts.get(&file.digest)?))) {
            let fence = fence(text);
            let _ = write!(said.text, "\n\n{}:\n{fence}\n{}\n{fence}", file.name, text.trim_end());
        }
        said
    }

    fn note(&mut self, file: &Attachment, material: &Material) -> (String, Option<Image>) {
        if is_showable(file) {
            return self.show(file, material);
        }
        let note = match file {
            _ if is_quotable(file) && material.texts.contains_key(&file.digest) => "quoted below",
            _ if is_quotable(file) => UNREADABLE,
            _ if file.is_picture() => {
                "too large to be shown to you; make a smaller copy if you must look at it"
            }
            _ => "not shown here; read it when you need it",
        };
        (note.to_owned(), None)
    }

    fn show(&mut self, file: &Attachment, material: &Material) -> (String, Option<Image>) {
        let is_full = self.bytes + file.bytes > PICTURES_LIMIT || self.count >= PICTURES_COUNT_LIMIT;
        if is_full {
            return ("not shown: this conversation has shown as many pictures as it can".to_owned(), None);
        }
        // Counted for blind models too: another model may answer the next turn.
        self.bytes += file.bytes;
        self.count += 1;
        if !material.sees_images {
            return ("a picture, which you cannot see; say so if the answer depends on it".to_owned(), None);
        }
        match material.images.get(&file.digest) {
            Some(image) => (format!("shown to you as picture {}", self.count), Some(image.clone())),
            None => (UNREADABLE.to_owned(), None),
        }
    }
}

fn kind(file: &Attachment) -> String {
    match (file.width, file.height) {
        (Some(width), Some(height)) => format!("{}, {width}×{height}, {} bytes", file.media_type, file.bytes),
        _ => format!("{}, {} bytes", file.media_type, file.bytes),
    }
}

/// Longer than any fence in the text.
fn fence(text: &str) -> String {
    let runs = text.split(|c| c != '`').map(str::len).max().unwrap_or(0);
    "`".repeat(runs.max(2) + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(n: u8, name: &str, media_type: &str, bytes: u64, side: Option<u32>) -> Attachment {
        Attachment {
            digest: format!("{n:02x}").repeat(32).parse().unwrap(),
            name: name.into(),
            media_type: media_type.into(),
            bytes,
            width: side,
            height: side,
        }
    }

    fn material(sees_images: bool, pictures: &[&Attachment]) -> Material {
        let mut material = Material::new(sees_images);
        pictures.iter().for_each(|file| material.add_picture(file, "AAAA".into()));
        material
    }

    #[test]
    fn a_picture_is_shown_and_a_short_text_is_quoted() {
        let (shot, notes) =
            (file(1, "shot.png", "image/png", 9, Some(8)), file(2, "n.md", "text/plain", 9, None));
        let data = file(3, "all.csv", "text/plain", QUOTED_LIMIT + 1, None);
        let mut material = material(true, &[&shot]);
        material.add_text(&notes, "a ``` b");
        let said = Shown::default().present("Look".into(), &[shot, notes, data], &material);
        assert_eq!(said.images.len(), 1);
        assert_eq!(
            said.text,
            "Look\n\nAttached files (copies lie in the sandbox, outside the repository):\n\
             - /attachments/01010101/shot.png (image/png, 8×8, 9 bytes): shown to you as picture 1\n\
             - /attachments/02020202/n.md (text/plain, 9 bytes): quoted below\n\
             - /attachments/03030303/all.csv (text/plain, 32769 bytes): not shown here; read it when you need it\n\n\
             n.md:\n````\na ``` b\n````"
        );
    }

    #[test]
    fn who_cannot_see_is_told_so_and_what_is_too_large_is_not_shown() {
        let shot = file(1, "shot.png", "image/png", 9, Some(8));
        let said =
            Shown::default().present(String::new(), std::slice::from_ref(&shot), &material(false, &[&shot]));
        assert!(said.images.is_empty() && said.text.contains("cannot see"), "{}", said.text);
        for large in [
            file(1, "l.png", "image/png", PICTURE_LIMIT + 1, Some(8)),
            file(1, "l.png", "image/png", 9, Some(PICTURE_SIDE_LIMIT + 1)),
            file(1, "l.png", "image/png", 9, None),
        ] {
            let material = material(true, &[&large]);
            let said = Shown::default().present(String::new(), &[large], &material);
            assert!(said.images.is_empty() && said.text.contains("too large"), "{}", said.text);
        }
    }

    #[test]
    fn the_pictures_of_a_conversation_are_bounded_together() {
        let shot = file(1, "shot.png", "image/png", PICTURE_LIMIT, Some(8));
        let material = material(true, &[&shot]);
        let mut shown = Shown::default();
        let images: Vec<usize> = (0..6)
            .map(|_| shown.present(String::new(), std::slice::from_ref(&shot), &material).images.len())
            .collect();
        assert_eq!(images, [1, 1, 1, 1, 0, 0]);
    }
}
