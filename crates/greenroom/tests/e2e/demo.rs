//! The demo is the product's main job; it must do it, do it again in the same data directory, and not pretend.

use crate::support::{BINARY, NO_STEPS, both, command, may_mount, path_text, repository};
use std::path::Path;
use std::process::{Command, Output};

const BASKET: &str = include_str!("../../src/demo/sample/basket.py");
const BASKET_TEST: &str = include_str!("../../src/demo/sample/test_basket.py");

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
            "Demo Asker <asker@demo.invalid>",
            "first token",
            "/changes/chg_",
        ] {
            assert!(text.contains(said), "the demo did not say {said:?}:\n{text}");
        }
    }
}

/// Somebody who is not root gets the whole loop, with the gaps that the server names.
#[test]
fn an_ordinary_user_gets_the_demo_too_and_it_clears_up_after_itself() {
    if !may_mount() {
        return;
    }
    const SOMEBODY: u32 = 12_345;
    let home = tempfile::tempdir().unwrap();
    let program = home.path().join("greenroom");
    std::fs::copy(BINARY, &program).unwrap();
    std::os::unix::fs::chown(home.path(), Some(SOMEBODY), Some(SOMEBODY)).unwrap();
    let ids = format!("--reuid={SOMEBODY}");
    let output = Command::new("setpriv")
        .args([&ids, &format!("--regid={SOMEBODY}"), "--clear-groups", path_text(&program), "demo", "--once"])
        .env_clear()
        .env("HOME", home.path())
        .env("PATH", "/usr/local/bin:/usr/bin:/bin")
        .current_dir("/")
        .output()
        .unwrap();
    let text = both(&output);
    assert!(output.status.success(), "{text}");
    assert!(text.contains("is merged into main"), "{text}");
    let kept = home.path().join(".local/share/greenroom-demo");
    assert_eq!(std::fs::read_dir(&kept).unwrap().count(), 0, "{} is not empty", kept.display());
}

#[test]
fn a_test_that_the_script_cannot_mend_fails_the_demo_and_opens_no_change() {
    let data = tempfile::tempdir().unwrap();
    let test = "import unittest\nfrom story import moral\n\nclass StoryTest(unittest.TestCase):\n    def test_moral(self):\n        \
                self.assertEqual(moral('slow and steady'), 'wins the race')\n";
    let files =
        [NO_STEPS, ("story.py", "def moral(tale):\n    return tale.upper()\n"), ("test_story.py", test)];
    let broken = repository(&files);
    let output = demo(data.path(), &["--sample", path_text(broken.path())]);
    let text = both(&output);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("opened no change"), "{text}");
    assert!(!text.contains("is merged"), "{text}");
    assert!(!text.contains("is approved"), "{text}");
}

/// Each step is computed from what the tools gave: another mistake gets another repair.
#[test]
fn a_sample_that_is_broken_otherwise_is_mended_otherwise() {
    let basket = BASKET.replace("amount + amount *", "amount - amount *");
    let off_by_one = ("    return sum(prices) + 1", "    return sum(prices)");
    assert_mended("basket", &basket, BASKET_TEST, off_by_one);
    let shipping = "def is_free(total):\n    return total >= 5000\n";
    let test = "import unittest\nfrom shipping import is_free\n\nclass ShippingTest(unittest.TestCase):\n    \
                def test_free_from_fifty(self):\n        self.assertTrue(is_free(5000))\n        \
                self.assertFalse(is_free(4999))\n";
    assert_mended("shipping", shipping, test, ("    return total > 5000", "    return total >= 5000"));
}

/// Puts the bad line where the good one is, and expects exactly that to be turned back and merged.
fn assert_mended(module: &str, right: &str, test: &str, (bad, good): (&str, &str)) {
    let data = tempfile::tempdir().unwrap();
    let broken = right.replace(good, bad);
    assert_ne!(right, broken);
    let (file, test_file) = (format!("{module}.py"), format!("test_{module}.py"));
    let sample = repository(&[NO_STEPS, (&file, &broken), (&test_file, test)]);
    let output = demo(data.path(), &["--sample", path_text(sample.path())]);
    let text = both(&output);
    assert!(output.status.success(), "{bad}:\n{text}");
    let change = text.split("── The change").nth(1).unwrap_or_default();
    let hunk = change.rsplit("@@").next().unwrap_or_default();
    let changed =
        |sign: char| -> Vec<&str> { hunk.lines().filter_map(|line| line.strip_prefix(sign)).collect() };
    assert_eq!((changed('-'), changed('+')), (vec![bad], vec![good]), "{text}");
    assert!(change.contains("is merged into main"), "{text}");
}
