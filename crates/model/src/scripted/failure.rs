//! Reads the output of Python's unittest.

/// What a test run said.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Report {
    /// From "Ran 5 tests"; `None` when the output has no such line.
    pub(super) ran: Option<u32>,
    pub(super) is_success: bool,
    pub(super) failures: Vec<Failure>,
    /// The lines that sum up: "Ran 5 tests in 0.001s", "OK".
    pub(super) summary: String,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Failure {
    /// `test_total (test_cart.CartTest.test_total)`.
    pub(super) id: String,
    /// `test_total`.
    pub(super) test: String,
    /// Outermost first.
    pub(super) frames: Vec<Frame>,
    /// `AssertionError: 2 != 3`.
    pub(super) message: String,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Frame {
    pub(super) path: String,
    pub(super) line: usize,
    pub(super) function: String,
    pub(super) code: String,
}

impl Report {
    pub(super) fn parse(output: &str) -> Self {
        let lines: Vec<&str> = output.lines().collect();
        let has_failed =
            output.trim_end().lines().next_back().is_some_and(|line| line.starts_with("[exit code "));
        let summary_at = lines.iter().rposition(|line| line.starts_with("Ran ") && line.contains(" test"));
        let ran = summary_at.and_then(|at| lines[at].split(' ').nth(1)?.parse().ok());
        let verdict = summary_at.and_then(|at| lines[at + 1..].iter().find(|line| !line.trim().is_empty()));
        let mut failures = Vec::new();
        for (at, line) in lines.iter().enumerate() {
            if is_rule(line, '=')
                && let Some(failure) = Failure::parse(&lines[at + 1..])
            {
                failures.push(failure);
            }
        }
        Self {
            ran,
            is_success: !has_failed && verdict.is_some_and(|line| line.starts_with("OK")),
            failures,
            summary: summary_at
                .map(|at| [lines[at], verdict.copied().unwrap_or_default()].join(", "))
                .unwrap_or_default(),
        }
    }

    /// Whether `self` is a step forward from `before`: `fixed` passes, and nothing fails that did not fail before.
    pub(super) fn improves(&self, before: &Self, fixed: &Failure) -> bool {
        let failed = |report: &Self, id: &str| report.failures.iter().any(|failure| failure.id == id);
        self.ran == before.ran
            && !failed(self, &fixed.id)
            && self.failures.iter().all(|failure| failed(before, &failure.id))
    }
}

fn is_rule(line: &str, of: char) -> bool {
    line.len() >= 20 && line.chars().all(|c| c == of)
}

impl Failure {
    /// The lines after a `====` rule.
    fn parse(lines: &[&str]) -> Option<Self> {
        let id = lines.first()?.strip_prefix("FAIL: ").or_else(|| lines[0].strip_prefix("ERROR: "))?;
        let end = lines.iter().position(|line| is_rule(line, '=')).unwrap_or(lines.len());
        let mut failure = Self {
            id: id.to_owned(),
            test: id.split([' ', '(']).next().unwrap_or_default().to_owned(),
            ..Self::default()
        };
        for (at, line) in lines[..end].iter().enumerate() {
            if let Some(frame) = Frame::parse(line, lines.get(at + 1).copied().unwrap_or_default()) {
                failure.frames.push(frame);
            } else if !failure.frames.is_empty() && failure.message.is_empty() && is_message(line) {
                (*line).clone_into(&mut failure.message);
            }
        }
        Some(failure)
    }

    /// `(got, expected)`. unittest prints the arguments of `assertEqual` in order; which of them was computed is seen in
    /// the code of the line.
    pub(super) fn comparison(&self) -> Option<(&str, &str)> {
        let (first, second) = self.message.strip_prefix("AssertionError: ")?.split_once(" != ")?;
        let second = second.split(" : ").next().unwrap_or(second);
        // "Lists differ: [1] != [2]"
        let first = first.split_once(" differ: ").map_or(first, |(_, first)| first);
        let code = self.frames.last().map(|frame| frame.code.as_str()).unwrap_or_default();
        let arguments = code.split_once('(').map(|(_, arguments)| arguments).unwrap_or_default();
        let is_first_computed = arguments.split(", ").next().is_some_and(|argument| {
            argument.contains('(') || argument.contains('.') || argument.starts_with(char::is_alphabetic)
        });
        Some(if is_first_computed { (first, second) } else { (second, first) })
    }
}

/// Not indented, as `AssertionError: …` is; not a header.
fn is_message(line: &str) -> bool {
    line.starts_with(|c: char| c.is_ascii_alphabetic()) && !line.starts_with("Traceback ")
}

impl Frame {
    fn parse(line: &str, code: &str) -> Option<Self> {
        let (path, rest) = line.trim_start().strip_prefix("File \"")?.split_once("\", line ")?;
        let (number, function) = rest.split_once(", in ").unwrap_or((rest, ""));
        Some(Self {
            path: path.to_owned(),
            line: number.parse().ok()?,
            function: function.to_owned(),
            code: code.trim().to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OUTPUT: &str = r#"F.E
======================================================================
ERROR: test_empty (tests.test_cart.CartTest.test_empty)
----------------------------------------------------------------------
Traceback (most recent call last):
  File "/workspace/tests/test_cart.py", line 9, in test_empty
    self.assertEqual(0, mean([]))
                        ^^^^^^^^
  File "/workspace/cart.py", line 2, in mean
    return sum(x) / len(x)
           ~~~~~~~^~~~~~~~
ZeroDivisionError: division by zero

======================================================================
FAIL: test_total (tests.test_cart.CartTest.test_total)
----------------------------------------------------------------------
Traceback (most recent call last):
  File "/workspace/tests/test_cart.py", line 12, in test_total
    self.assertEqual(total([1, 2]), 3)
AssertionError: 2 != 3 : both count

----------------------------------------------------------------------
Ran 3 tests in 0.001s

FAILED (failures=1, errors=1)
[exit code 1]"#;

    #[test]
    fn failures_frames_and_messages_are_read() {
        let report = Report::parse(OUTPUT);
        assert_eq!((report.ran, report.is_success), (Some(3), false));
        let [error, failure] = &report.failures[..] else { panic!("{report:?}") };
        assert_eq!(error.frames.len(), 2);
        assert_eq!(error.frames[1].code, "return sum(x) / len(x)");
        assert_eq!(error.message, "ZeroDivisionError: division by zero");
        assert_eq!((failure.test.as_str(), failure.frames[0].line), ("test_total", 12));
        assert_eq!(failure.comparison(), Some(("2", "3")));
        assert_eq!(report.summary, "Ran 3 tests in 0.001s, FAILED (failures=1, errors=1)");
    }

    #[test]
    fn success_needs_a_verdict_and_no_exit_code() {
        assert!(Report::parse("..\n---\nRan 2 tests in 0.000s\n\nOK\n").is_success);
        assert!(!Report::parse("..\nRan 2 tests in 0.000s\n\nOK\n[exit code 1]").is_success);
        assert!(!Report::parse("bash: python3: command not found\n[exit code 127]").is_success);
    }

    #[test]
    fn the_computed_side_of_a_comparison_is_what_was_got() {
        let mut failure = Report::parse(OUTPUT).failures[1].clone();
        failure.frames[0].code = "self.assertEqual(3, total([1, 2]))".into();
        failure.message = "AssertionError: 3 != 2".into();
        assert_eq!(failure.comparison(), Some(("2", "3")));
        failure.frames[0].code = "self.assertEqual(names(x), ['a'])".into();
        failure.message = "AssertionError: Lists differ: [] != ['a']".into();
        assert_eq!(failure.comparison(), Some(("[]", "['a']")));
    }
}
