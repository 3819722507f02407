//! Small changes that repair the commonest slips: off by one, a wrong operator, comparison or function, swapped
//! operands, a wrong name. Bounded, and ordered by what the failure suggests.

use super::failure::Failure;
use super::python::{Function, Source, code_only};
use std::ops::Range;

/// A change of one line.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Candidate {
    pub(super) path: String,
    pub(super) line: usize,
    pub(super) before: String,
    pub(super) after: String,
    pub(super) kind: Kind,
    /// In which function; empty at the level of the module.
    pub(super) function: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Comparison,
    Operator,
    OffByOne,
    Swap,
    Logic,
    Function,
    Name,
}

impl Kind {
    pub(super) fn words(self) -> &'static str {
        match self {
            Self::Comparison => "the comparison looks wrong",
            Self::Operator => "the operator looks wrong",
            Self::OffByOne => "this looks off by one",
            Self::Swap => "the operands look swapped",
            Self::Logic => "the condition looks wrong",
            Self::Function => "this looks like the opposite of the right function",
            Self::Name => "this may be the wrong name",
        }
    }
}

/// Code under suspicion; a lower rank is more likely.
#[derive(Clone, Debug)]
pub(super) struct Suspect<'a> {
    pub(super) source: &'a Source,
    pub(super) function: Option<Function>,
    pub(super) lines: Range<usize>,
    pub(super) rank: u32,
}

/// The most promising changes first, at most `limit`.
pub(super) fn candidates(suspects: &[Suspect<'_>], failure: &Failure, limit: usize) -> Vec<Candidate> {
    let mut ranked: Vec<(u32, Candidate)> = Vec::new();
    for suspect in suspects {
        for candidate in of_suspect(suspect) {
            let is_known = ranked.iter().any(|(_, known)| {
                (known.line, &known.path, &known.after) == (candidate.line, &candidate.path, &candidate.after)
            });
            if !is_known {
                ranked.push((suspect.rank * 4 + weight(candidate.kind, failure), candidate));
            }
        }
    }
    ranked.sort_by_key(|(rank, _)| *rank);
    ranked.into_iter().take(limit).map(|(_, candidate)| candidate).collect()
}

/// What the difference between got and expected suggests.
fn weight(kind: Kind, failure: &Failure) -> u32 {
    let number = |text: &str| text.trim().parse::<f64>().ok();
    let is_truth = failure.message.contains("True") || failure.message.contains("False");
    let difference = failure
        .comparison()
        .and_then(|(got, expected)| Some((number(got)?, number(expected)?)))
        .map(|(got, expected)| (expected - got).abs());
    let is_near = difference.is_some_and(|difference| difference == 1.0);
    match kind {
        Kind::OffByOne if is_near => 0,
        Kind::Comparison | Kind::Logic if is_truth => 0,
        Kind::Comparison | Kind::Operator | Kind::Function => 1,
        Kind::OffByOne | Kind::Swap | Kind::Logic => 2,
        Kind::Name => 4,
    }
}

fn of_suspect(suspect: &Suspect<'_>) -> Vec<Candidate> {
    let code = code_only(&suspect.source.lines);
    let parameters =
        suspect.function.as_ref().map(|function| parameters(&code[function.lines.start])).unwrap_or_default();
    let mut found = Vec::new();
    for line in suspect.lines.clone() {
        let trimmed = code[line].trim_start();
        if ["def ", "async def ", "class ", "import ", "from ", "@"]
            .iter()
            .any(|head| trimmed.starts_with(head))
        {
            continue;
        }
        for (kind, after) in mutations(&suspect.source.lines[line], &code[line], &parameters) {
            found.push(Candidate {
                path: suspect.source.path.clone(),
                line,
                before: suspect.source.lines[line].clone(),
                after,
                kind,
                function: suspect.function.as_ref().map(|f| f.name.clone()).unwrap_or_default(),
            });
        }
    }
    found
}

/// Of a signature on one line.
fn parameters(signature: &str) -> Vec<String> {
    let inside = signature
        .split_once('(')
        .and_then(|(_, rest)| rest.rsplit_once(')'))
        .map_or("", |(inside, _)| inside);
    let names = inside.split(',').map(|part| {
        let end = part.find([':', '=']).unwrap_or(part.len());
        part[..end].trim().to_owned()
    });
    names.filter(|name| !name.is_empty() && name != "self" && !name.starts_with('*')).collect()
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum TokenKind {
    Word,
    Number,
    Sign,
}

#[derive(Clone, Debug)]
struct Token<'a> {
    text: &'a str,
    at: usize,
    kind: TokenKind,
}

impl Token<'_> {
    fn range(&self) -> Range<usize> {
        self.at..self.at + self.text.len()
    }
}

const SIGNS: &[&str] =
    &["//=", "**=", "//", "**", "<=", ">=", "==", "!=", "+=", "-=", "*=", "/=", "%=", "->", ":="];

fn tokens(code: &str) -> Vec<Token<'_>> {
    let mut tokens = Vec::new();
    let mut at = 0;
    while let Some(c) = code[at..].chars().next() {
        let rest = &code[at..];
        let is_word = |c: char| c.is_alphanumeric() || c == '_';
        let (kind, length) = if c.is_whitespace() {
            at += c.len_utf8();
            continue;
        } else if c.is_ascii_digit() {
            (TokenKind::Number, rest.find(|c: char| !(is_word(c) || c == '.')).unwrap_or(rest.len()))
        } else if is_word(c) {
            (TokenKind::Word, rest.find(|c: char| !is_word(c)).unwrap_or(rest.len()))
        } else {
            let sign = SIGNS.iter().find(|sign| rest.starts_with(**sign));
            (TokenKind::Sign, sign.map_or(c.len_utf8(), |sign| sign.len()))
        };
        tokens.push(Token { text: &rest[..length], at, kind });
        at += length;
    }
    tokens
}

fn mutations(line: &str, code: &str, parameters: &[String]) -> Vec<(Kind, String)> {
    let tokens = tokens(code);
    let replaced = |range: Range<usize>, by: &str| [&line[..range.start], by, &line[range.end..]].concat();
    let mut found = Vec::new();
    for (index, token) in tokens.iter().enumerate() {
        let is_binary = index > 0 && ends_operand(&tokens[index - 1]);
        for (kind, by) in replacements(token, is_binary) {
            found.push((kind, replaced(token.range(), by)));
        }
        if token.kind == TokenKind::Number
            && let Ok(number) = token.text.parse::<i64>()
        {
            found.push((Kind::OffByOne, replaced(token.range(), &(number + 1).to_string())));
            if number > 0 {
                found.push((Kind::OffByOne, replaced(token.range(), &(number - 1).to_string())));
            }
        }
        found.extend(without_one(line, &tokens, index).map(|after| (Kind::OffByOne, after)));
        found.extend(longer_range(line, &tokens, index).map(|after| (Kind::OffByOne, after)));
        found.extend(swapped_operands(line, &tokens, index).map(|after| (Kind::Swap, after)));
        found.extend(swapped_arguments(line, &tokens, index).map(|after| (Kind::Swap, after)));
        found.extend(without_not(line, &tokens, index).map(|after| (Kind::Logic, after)));
        let is_free = index == 0 || tokens[index - 1].text != ".";
        if is_free && parameters.iter().any(|name| name == token.text) {
            let others = parameters.iter().filter(|name| *name != token.text);
            found.extend(others.map(|other| (Kind::Name, replaced(token.range(), other))));
        }
    }
    found.retain(|(_, after)| after != line);
    found
}

/// Whether an operator may follow, so that a sign after it is no prefix.
fn ends_operand(token: &Token<'_>) -> bool {
    const KEYWORDS: &[&str] =
        &["return", "and", "or", "not", "in", "if", "else", "while", "lambda", "yield", "is"];
    match token.kind {
        TokenKind::Number => true,
        TokenKind::Word => !KEYWORDS.contains(&token.text),
        TokenKind::Sign => matches!(token.text, ")" | "]" | "}"),
    }
}

fn replacements(token: &Token<'_>, is_binary: bool) -> Vec<(Kind, &'static str)> {
    use Kind::{Comparison, Function, Logic, Operator};
    let (kind, by): (Kind, &[&'static str]) = match token.text {
        "<" => (Comparison, &["<=", ">"]),
        "<=" => (Comparison, &["<", ">="]),
        ">" => (Comparison, &[">=", "<"]),
        ">=" => (Comparison, &[">", "<="]),
        "==" => (Comparison, &["!="]),
        "!=" => (Comparison, &["=="]),
        "+" if is_binary => (Operator, &["-", "*"]),
        "-" if is_binary => (Operator, &["+"]),
        "*" if is_binary => (Operator, &["+", "/"]),
        "/" => (Operator, &["*", "//"]),
        "//" => (Operator, &["/", "%"]),
        "%" if is_binary => (Operator, &["//"]),
        "+=" => (Operator, &["-=", "*="]),
        "-=" => (Operator, &["+="]),
        "*=" => (Operator, &["+="]),
        "/=" => (Operator, &["*="]),
        "and" => (Logic, &["or"]),
        "or" => (Logic, &["and"]),
        "True" => (Logic, &["False"]),
        "False" => (Logic, &["True"]),
        "min" => (Function, &["max"]),
        "max" => (Function, &["min"]),
        "any" => (Function, &["all"]),
        "all" => (Function, &["any"]),
        "upper" => (Function, &["lower"]),
        "lower" => (Function, &["upper"]),
        "floor" => (Function, &["ceil"]),
        "ceil" => (Function, &["floor"]),
        "lstrip" => (Function, &["rstrip", "strip"]),
        "rstrip" => (Function, &["lstrip", "strip"]),
        "startswith" => (Function, &["endswith"]),
        "endswith" => (Function, &["startswith"]),
        "find" => (Function, &["rfind"]),
        "rfind" => (Function, &["find"]),
        _ => return Vec::new(),
    };
    by.iter().map(|by| (kind, *by)).collect()
}

/// `x - 1` and `x + 1` become `x`.
fn without_one(line: &str, tokens: &[Token<'_>], index: usize) -> Option<String> {
    let [sign, one] = tokens.get(index..index + 2)? else { return None };
    let is_wanted =
        matches!(sign.text, "+" | "-") && one.text == "1" && index > 0 && ends_operand(&tokens[index - 1]);
    is_wanted.then(|| [&line[..tokens[index - 1].range().end], &line[one.range().end..]].concat())
}

/// `range(…)` and slices `[…:x]` that end one too early.
fn longer_range(line: &str, tokens: &[Token<'_>], index: usize) -> Option<String> {
    let [word, open] = tokens.get(index..index + 2)? else { return None };
    if word.text != "range" || open.text != "(" {
        return None;
    }
    let close = closing(tokens, index + 1)?;
    let end = tokens[close - 1].range().end;
    Some([&line[..end], " + 1", &line[end..]].concat())
}

/// The position of the bracket that closes the one at `open`.
fn closing(tokens: &[Token<'_>], open: usize) -> Option<usize> {
    let mut depth = 0usize;
    for (index, token) in tokens.iter().enumerate().skip(open) {
        match token.text {
            "(" | "[" | "{" => depth += 1,
            ")" | "]" | "}" => {
                depth = depth.checked_sub(1)?;
                if depth == 0 {
                    return Some(index);
                }
            }
            _ => {}
        }
    }
    None
}

/// `a - b` becomes `b - a`, for plain names and numbers with dots.
fn swapped_operands(line: &str, tokens: &[Token<'_>], index: usize) -> Option<String> {
    if !matches!(tokens[index].text, "-" | "/" | "//" | "%" | "<" | ">" | "<=" | ">=") || index == 0 {
        return None;
    }
    let left = operand_before(tokens, index)?;
    let right = operand_after(tokens, index)?;
    Some(
        [
            &line[..left.start],
            &line[right.clone()],
            &line[left.end..right.start],
            &line[left],
            &line[right.end..],
        ]
        .concat(),
    )
}

fn operand_before(tokens: &[Token<'_>], sign: usize) -> Option<Range<usize>> {
    let last = sign.checked_sub(1)?;
    let mut first = if tokens[last].text == ")" { opening(tokens, last)?.checked_sub(1)? } else { last };
    if tokens[first].kind == TokenKind::Sign || !ends_operand(&tokens[first]) {
        return None;
    }
    while first >= 2 && tokens[first - 1].text == "." && tokens[first - 2].kind == TokenKind::Word {
        first -= 2;
    }
    Some(tokens[first].at..tokens[last].range().end)
}

fn opening(tokens: &[Token<'_>], close: usize) -> Option<usize> {
    (0..close).rev().find(|open| tokens[*open].text == "(" && closing(tokens, *open) == Some(close))
}

fn operand_after(tokens: &[Token<'_>], sign: usize) -> Option<Range<usize>> {
    let first = sign + 1;
    let mut last = first;
    if tokens.get(first)?.kind == TokenKind::Sign || !ends_operand(&tokens[first]) {
        return None;
    }
    loop {
        match (tokens.get(last + 1).map(|token| token.text), tokens.get(last + 2)) {
            (Some("."), Some(word)) if word.kind == TokenKind::Word => last += 2,
            (Some("("), _) => last = closing(tokens, last + 1)?,
            _ => return Some(tokens[first].at..tokens[last].range().end),
        }
    }
}

/// `f(a, b)` becomes `f(b, a)`, for plain arguments.
fn swapped_arguments(line: &str, tokens: &[Token<'_>], index: usize) -> Option<String> {
    let is_call = tokens[index].text == "(" && index > 0 && tokens[index - 1].kind == TokenKind::Word;
    if !is_call || !ends_operand(&tokens[index - 1]) {
        return None;
    }
    let left = operand_after(tokens, index)?;
    let comma = tokens.iter().position(|token| token.at >= left.end)?;
    let right = (tokens[comma].text == ",").then(|| operand_after(tokens, comma))??;
    let closes = tokens.iter().find(|token| token.at >= right.end).is_some_and(|token| token.text == ")");
    closes.then(|| {
        let (a, b) = (&line[left.clone()], &line[right.clone()]);
        [&line[..left.start], b, &line[left.end..right.start], a, &line[right.end..]].concat()
    })
}

/// `not x` becomes `x`; `not in` becomes `in`; `if x` becomes `if not x`.
fn without_not(line: &str, tokens: &[Token<'_>], index: usize) -> Option<String> {
    let next = tokens.get(index + 1)?;
    match tokens[index].text {
        "not" => Some([&line[..tokens[index].at], &line[next.at..]].concat()),
        "if" | "while"
            if next.text != "not"
                && tokens[index + 2..]
                    .iter()
                    .all(|token| token.text == ":" || token.text == "." || token.kind == TokenKind::Word) =>
        {
            Some([&line[..next.at], "not ", &line[next.at..]].concat())
        }
        _ => None,
    }
}

/// The texts for an edit of one line: with as many lines above as make both the old and the new text unique in the file
/// they are in, so that the change can be made and taken back.
pub(super) fn edit_texts(lines: &[String], at: usize, after: &str) -> (String, String) {
    let mut changed = lines.to_vec();
    after.clone_into(&mut changed[at]);
    let (before_text, after_text) = (lines.join("\n"), changed.join("\n"));
    let excerpt = |lines: &[String], from: usize| lines[from..=at].join("\n");
    let is_unique = |text: &str, part: &str| text.matches(part).count() == 1;
    let from = (0..=at)
        .rev()
        .find(|from| {
            is_unique(&before_text, &excerpt(lines, *from))
                && is_unique(&after_text, &excerpt(&changed, *from))
        })
        .unwrap_or(0);
    (excerpt(lines, from), excerpt(&changed, from))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(line: &str) -> Vec<String> {
        let lines = [line.to_owned()];
        let code = code_only(&lines);
        let parameters = ["a".to_owned(), "b".to_owned()];
        mutations(line, &code[0], &parameters).into_iter().map(|(_, after)| after).collect()
    }

    #[test]
    fn common_slips_have_their_repair_among_the_candidates() {
        let cases = [
            ("    return a - b", "    return a + b"),
            ("    return b - a", "    return a - b"),
            ("    return a / len(b)", "    return len(b) / a"),
            ("    for i in range(1, n):", "    for i in range(1, n + 1):"),
            ("    return x[len(x) - 2]", "    return x[len(x) - 1]"),
            ("    return total - 1", "    return total"),
            ("    if a < b:", "    if a <= b:"),
            ("    if a > b and c:", "    if a > b or c:"),
            ("    return min(x)", "    return max(x)"),
            ("    return join(a, b)", "    return join(b, a)"),
            ("    return not done", "    return done"),
            ("    if x not in y:", "    if x in y:"),
            ("    if empty:", "    if not empty:"),
            ("    total -= item.price * 2", "    total += item.price * 2"),
            ("    return 'é' + str(a)", "    return 'é' + str(b)"),
        ];
        for (broken, repaired) in cases {
            assert!(after(broken).contains(&repaired.to_owned()), "{broken}: {:?}", after(broken));
        }
    }

    #[test]
    fn prefixes_strings_and_arrows_are_left_alone() {
        assert!(after("    x = -y").iter().all(|line| !line.contains('+')));
        assert!(after("    print('a + b')").is_empty());
        assert!(after("    f(*a)").iter().all(|line| !line.contains('/')));
    }

    #[test]
    fn edits_take_as_much_context_as_makes_them_unique() {
        let lines =
            ["def f():", "    return 1", "def g():", "    return 1", "    return 10"].map(str::to_owned);
        let (old, new) = edit_texts(&lines, 3, "    return 2");
        assert_eq!((old.as_str(), new.as_str()), ("def g():\n    return 1", "def g():\n    return 2"));
    }
}
