//! The demo is the product's main job; it must do it, do it again in the same data directory, and not pretend.

mod support;

use std::path::Path;
use std::process::Output;
use support::{both, command, repository};

fn demo(data: &Path, arguments: &[&str]) -> Output {
    command(data).arg("demo").arg("--once").args(arguments).output().expect("the binary starts")
}

#[test]
fn the_demo_merges_a_change_and_does_so_again_in_the_same_data_directory() {
    let data = tempfile::tempdir().unwrap();
    for repository in ["sample", "sample-2"] {
        let output = demo(data.path(), &[]);
        let text = both(&output);
        assert!(output.status.success(), "{text}");
        for said in [
            "a script chooses the model's words",
            "make the failing test pass",
            "Refused: ",
            &format!("{repository}#1 is approved"),
            "is merged into main",
            "Demo Asker",
            "first token",
        ] {
            assert!(text.contains(said), "the demo did not say {said:?}:\n{text}");
        }
    }
}

#[test]
fn a_test_that_the_script_cannot_mend_fails_the_demo_and_opens_no_change() {
    let data = tempfile::tempdir().unwrap();
    let test = "import unittest\nfrom story import moral\n\nclass StoryTest(unittest.TestCase):\n    def test_moral(self):\n        \
                self.assertEqual(moral('slow and steady'), 'wins the race')\n";
    let broken =
        repository(&[("story.py", "def moral(tale):\n    return tale.upper()\n"), ("test_story.py", test)]);
    let output = demo(data.path(), &["--sample", broken.path().to_str().unwrap()]);
    let text = both(&output);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("opened no change"), "{text}");
    assert!(!text.contains("is merged"), "{text}");
}
