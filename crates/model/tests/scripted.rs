//! The scripted provider with real tools over a real directory and a real Python: it repairs what it can, and says so
//! where it cannot.

#![allow(clippy::unwrap_used, reason = "a test's helpers fail the test")]

use greenroom_domain::message::{Content, Message, ToolCall, ToolResult};
use greenroom_model::scripted::Scripted;
use greenroom_model::{Provider, Request, StreamEvent};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

const STEP_LIMIT: usize = 150;

const CART: &str = r#""""Sums up a shopping cart. Prices - in cents - are whole numbers."""

FREE_SHIPPING_FROM = 5000
SHIPPING = 490


class Item:
    def __init__(self, name, price, count=1):
        self.name = name
        self.price = price
        self.count = count


def subtotal(items):
    total = 0
    for item in items:
        total += item.price * item.count
    return total


def discount(amount, percent):
    # integer arithmetic: 10 % of 999 is 99
    return amount * percent // 100


def shipping(amount):
    if amount >= FREE_SHIPPING_FROM:
        return 0
    return SHIPPING


def total(items, percent=0):
    amount = subtotal(items)
    amount = amount - discount(amount, percent)
    return amount + shipping(amount)


def cheapest(items, n):
    ordered = sorted(items, key=lambda item: item.price)
    names = []
    for i in range(0, n):
        names.append(ordered[i].name)
    return names


def is_bargain(item, limit):
    return item.price < limit and item.count > 0
"#;

const TESTS: &str = r#"import unittest

from shop.cart import Item, cheapest, discount, is_bargain, shipping, subtotal, total


class CartTest(unittest.TestCase):
    def setUp(self):
        self.items = [Item("tea", 450, 2), Item("cup", 1200), Item("pot", 2500)]

    def test_subtotal(self):
        self.assertEqual(subtotal(self.items), 4600)

    def test_discount(self):
        self.assertEqual(discount(999, 10), 99)

    def test_shipping(self):
        self.assertEqual(shipping(4999), 490)
        self.assertEqual(shipping(5000), 0)

    def test_total(self):
        self.assertEqual(total(self.items, 10), 4140 + 490)

    def test_cheapest(self):
        self.assertEqual(cheapest(self.items, 2), ["tea", "cup"])

    def test_bargain(self):
        self.assertTrue(is_bargain(self.items[0], 500))
        self.assertFalse(is_bargain(self.items[1], 500))
        self.assertFalse(is_bargain(Item("old", 100, 0), 500))


if __name__ == "__main__":
    unittest.main()
"#;

/// What became of a run.
struct Outcome {
    words: String,
    change: Option<(String, String)>,
    cart: String,
    runs: usize,
}

fn repository(cart: &str) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    for (path, text) in [
        ("README.md", "# Shop\n"),
        ("shop/__init__.py", ""),
        ("shop/cart.py", cart),
        ("tests/__init__.py", ""),
        ("tests/test_cart.py", TESTS),
    ] {
        let path = directory.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    directory
}

fn broken(from: &str, to: &str) -> String {
    assert_eq!(CART.matches(from).count(), 1, "{from}");
    CART.replace(from, to)
}

/// The tools of the agent, as far as the script uses them.
fn run_tool(root: &Path, call: &ToolCall) -> ToolResult {
    let text = |key: &str| call.input[key].as_str().unwrap_or_default().to_owned();
    let path = || root.join(text("path").trim_start_matches("/workspace/"));
    let outcome = match call.name.as_str() {
        "glob" => {
            let mut paths = Vec::new();
            list(root, root, &mut paths);
            paths.sort();
            Ok(paths.join("\n"))
        }
        "read" => std::fs::read_to_string(path()).map_err(|error| error.to_string()).map(|text| {
            let lines = text.lines().enumerate();
            lines.map(|(at, line)| format!("{:>6}\t{line}\n", at + 1)).collect()
        }),
        "edit" => edit(&path(), &text("old"), &text("new")),
        "bash" => Ok(bash(root, &text("command"))),
        "open_change" => Ok("Opened change 1.".to_owned()),
        name => Err(format!("no tool {name}")),
    };
    let is_error = outcome.is_err();
    let (Ok(text) | Err(text)) = outcome;
    ToolResult { call: call.id.clone(), text, is_error }
}

fn list(root: &Path, directory: &Path, paths: &mut Vec<String>) {
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            if !path.ends_with("__pycache__") {
                list(root, &path, paths);
            }
        } else {
            paths.push(path.strip_prefix(root).unwrap().display().to_string());
        }
    }
}

fn edit(path: &Path, old: &str, new: &str) -> Result<String, String> {
    let text = std::fs::read_to_string(path).map_err(|error| error.to_string())?;
    match text.matches(old).count() {
        1 => {
            std::fs::write(path, text.replace(old, new)).map_err(|error| error.to_string())?;
            Ok("edited".to_owned())
        }
        count => Err(format!("the old text occurs {count} times")),
    }
}

fn bash(root: &Path, command: &str) -> String {
    let output =
        Command::new("bash").args(["-c", &format!("{command} 2>&1")]).current_dir(root).output().unwrap();
    let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
    if let Some(code @ 1..) = output.status.code() {
        text.push_str(&format!("\n[exit code {code}]"));
    }
    text
}

async fn answer(messages: &[Message]) -> Vec<Content> {
    let provider = Scripted::with_pace(Duration::ZERO);
    let request = Request {
        system: String::new(),
        tools: vec![],
        messages: messages.to_vec(),
        max_output_tokens: 1000,
        effort: None,
        cache_key: String::new(),
    };
    let mut stream = provider.stream(request).await.unwrap();
    loop {
        match stream.recv().await.unwrap() {
            StreamEvent::Delta(_) => {}
            StreamEvent::Done(response) => return response.content,
            StreamEvent::Failed(error) => panic!("{error}"),
        }
    }
}

async fn run_in(root: &Path, prompt: &str) -> Outcome {
    let mut messages = vec![Message::user(prompt)];
    let (mut change, mut runs) = (None, 0);
    for _ in 0..STEP_LIMIT {
        let content = answer(&messages).await;
        messages.push(Message::Assistant { content: content.clone(), raw: None });
        let mut results = Vec::new();
        for part in &content {
            let Content::ToolCall(call) = part else { continue };
            if call.name == "open_change" {
                let text = |key: &str| call.input[key].as_str().unwrap().to_owned();
                change = Some((text("title"), text("body")));
            }
            runs += usize::from(call.name == "bash");
            results.push(run_tool(root, call));
        }
        if results.is_empty() {
            let Some(Content::Text { text }) = content.last() else { panic!("{content:?}") };
            let cart = std::fs::read_to_string(root.join("shop/cart.py")).unwrap_or_default();
            return Outcome { words: text.clone(), change, cart, runs };
        }
        messages.push(Message::ToolResults { results });
    }
    panic!("no end after {STEP_LIMIT} steps");
}

async fn run(cart: &str) -> Outcome {
    run_in(repository(cart).path(), "make the failing test pass").await
}

async fn is_repaired(from: &str, to: &str) {
    let outcome = run(&broken(from, to)).await;
    let (title, body) = outcome.change.unwrap_or_else(|| panic!("{to}: {}", outcome.words));
    assert!(title.starts_with("Fix ") && body.contains("```diff") && body.contains("OK"), "{title}\n{body}");
    assert!(outcome.words.starts_with("Done."), "{}", outcome.words);
    let directory = repository(&outcome.cart);
    assert!(!bash(directory.path(), "python3 -m unittest").contains("[exit code"), "{to}");
}

#[tokio::test]
async fn a_wrong_comparison_is_repaired() {
    is_repaired("amount >= FREE_SHIPPING_FROM", "amount > FREE_SHIPPING_FROM").await;
}

#[tokio::test]
async fn a_wrong_operator_is_repaired() {
    is_repaired("item.price * item.count", "item.price + item.count").await;
    is_repaired("amount + shipping(amount)", "amount - shipping(amount)").await;
}

#[tokio::test]
async fn an_off_by_one_is_repaired() {
    is_repaired("range(0, n)", "range(1, n)").await;
    is_repaired("range(0, n)", "range(0, n - 1)").await;
    is_repaired("total = 0\n", "total = 1\n").await;
}

#[tokio::test]
async fn swapped_operands_are_repaired() {
    is_repaired("amount - discount(amount, percent)", "discount(amount, percent) - amount").await;
}

#[tokio::test]
async fn a_wrong_condition_is_repaired() {
    is_repaired("item.price < limit and item.count", "item.price < limit or item.count").await;
}

#[tokio::test]
async fn two_mistakes_are_repaired_one_after_the_other() {
    let cart = broken("amount >= FREE_SHIPPING_FROM", "amount > FREE_SHIPPING_FROM")
        .replace("range(0, n)", "range(1, n)");
    let outcome = run(&cart).await;
    assert_eq!(outcome.cart, CART, "{}", outcome.words);
    assert_eq!(outcome.change.unwrap().0, "Fix 2 mistakes that made tests fail");
}

#[tokio::test]
async fn what_it_cannot_repair_is_admitted_and_left_as_it_was() {
    let missing = "raise NotImplementedError(\"to do\")";
    for cart in [
        broken("return amount * percent // 100", missing),
        broken("total += item.price * item.count", "total += len(item.name)"),
    ] {
        let outcome = run(&cart).await;
        assert_eq!(outcome.change, None, "{}", outcome.words);
        assert!(outcome.words.starts_with("I could not make `test_"), "{}", outcome.words);
        assert!(outcome.words.contains("I propose no change."), "{}", outcome.words);
        assert_eq!(outcome.cart, cart);
    }
}

#[tokio::test]
async fn a_syntax_error_is_admitted() {
    let outcome = run(&broken("def shipping(amount):", "def shipping(amount)")).await;
    assert_eq!(outcome.change, None);
    assert!(outcome.words.contains("no change"), "{}", outcome.words);
}

#[tokio::test]
async fn passing_tests_need_no_change() {
    let outcome = run(CART).await;
    assert_eq!((outcome.change, outcome.runs), (None, 1));
    assert!(outcome.words.starts_with("All tests pass already"), "{}", outcome.words);
}

#[tokio::test]
async fn a_repository_without_tests_is_said_to_have_none() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("README.md"), "# x\n").unwrap();
    let outcome = run_in(directory.path(), "make the failing test pass").await;
    assert!(outcome.words.starts_with("I found no tests"), "{}", outcome.words);
}

#[tokio::test]
async fn another_job_is_declined() {
    let outcome = run_in(repository(CART).path(), "write a poem").await;
    assert!(outcome.words.starts_with("I am a script"), "{}", outcome.words);
    assert_eq!(outcome.runs, 0);
}

async fn words_after(results: Vec<(&str, &str, bool)>) -> String {
    let mut messages = vec![Message::user("fix the test")];
    for (tool, text, is_error) in results {
        let content = answer(&messages).await;
        let call = content.iter().find_map(|part| match part {
            Content::ToolCall(call) => Some(call.clone()),
            _ => None,
        });
        let call = call.unwrap();
        assert_eq!(call.name, tool);
        messages.push(Message::Assistant { content, raw: None });
        let result = ToolResult { call: call.id, text: text.into(), is_error };
        messages.push(Message::ToolResults { results: vec![result] });
    }
    let [Content::Text { text }] = &answer(&messages).await[..] else { panic!("more calls") };
    text.clone()
}

#[tokio::test]
async fn unexpected_tool_answers_are_reported() {
    let words = words_after(vec![("glob", "the sandbox is gone", true)]).await;
    assert!(words.starts_with("The tool `glob` failed") && words.contains("the sandbox is gone"), "{words}");
    let missing = "bash: python3: command not found\n[exit code 127]";
    let words = words_after(vec![("glob", "a.py\ntest_a.py", false), ("bash", missing, true)]).await;
    assert!(words.contains("not what I expected") && words.contains("command not found"), "{words}");
}
