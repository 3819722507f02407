//! As much of Python as is needed to find the code that a test exercises: imports, functions, calls, and which
//! characters of a line are code.

use super::project::Project;
use std::ops::Range;

/// A source file, line by line.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Source {
    pub(super) path: String,
    pub(super) lines: Vec<String>,
}

/// A function's place in its file. `lines` begins with the `def` line; positions count from 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Function {
    pub(super) name: String,
    pub(super) class: Option<String>,
    pub(super) lines: Range<usize>,
}

impl Source {
    /// From the output of `read`: `{line number}\t{text}`. `None` when it has no such line.
    pub(super) fn from_read(path: &str, output: &str) -> Option<Self> {
        let lines: Vec<String> = output
            .lines()
            .filter_map(|line| {
                let (number, text) = line.split_once('\t')?;
                number.trim().parse::<usize>().ok().map(|_| text.to_owned())
            })
            .collect();
        (!lines.is_empty()).then(|| Self { path: path.to_owned(), lines })
    }

    pub(super) fn text(&self) -> String {
        self.lines.join("\n")
    }

    pub(super) fn functions(&self) -> Vec<Function> {
        let mut classes: Vec<(usize, String)> = Vec::new();
        let mut functions = Vec::new();
        for (at, line) in self.lines.iter().enumerate() {
            let Some(indent) = indent(line) else { continue };
            classes.retain(|(of_class, _)| *of_class < indent);
            if let Some(name) = name_after(line, "class ") {
                classes.push((indent, name));
            } else if let Some(name) = name_after(line, "def ").or_else(|| name_after(line, "async def ")) {
                let class = classes.last().map(|(_, class)| class.clone());
                functions.push(Function { name, class, lines: at..self.block_end(at, indent) });
            }
        }
        functions
    }

    /// The line after the last one that is indented deeper than the block's head.
    fn block_end(&self, head: usize, of_head: usize) -> usize {
        let mut end = head + 1;
        let mut is_signature = !self.lines[head].trim_end().ends_with(':');
        for (at, line) in self.lines.iter().enumerate().skip(head + 1) {
            match indent(line) {
                Some(indent) if indent <= of_head && !is_signature => break,
                Some(_) => {
                    end = at + 1;
                    is_signature &= !line.trim_end().ends_with(':');
                }
                None => {}
            }
        }
        end
    }

    /// Files of the project that this one imports, in order.
    pub(super) fn imports(&self, project: &Project) -> Vec<String> {
        let joined = self.text().replace("(\n", "(");
        let mut found = Vec::new();
        for line in joined.lines().map(str::trim_start) {
            let modules: Vec<String> = if let Some(rest) = line.strip_prefix("from ") {
                let Some((module, names)) = rest.split_once(" import ") else { continue };
                let separator = if module.ends_with('.') { "" } else { "." };
                let names = names.trim_matches(['(', ')', ' ']).split(',').map(first_word);
                let submodules = names.map(|name| format!("{module}{separator}{name}"));
                std::iter::once(module.to_owned()).chain(submodules).collect()
            } else if let Some(rest) = line.strip_prefix("import ") {
                rest.split(',').map(|module| first_word(module).to_owned()).collect()
            } else {
                continue;
            };
            for path in modules.iter().filter_map(|module| self.resolve(module, project)) {
                if path != self.path && !found.contains(&path) {
                    found.push(path);
                }
            }
        }
        found
    }

    fn resolve(&self, module: &str, project: &Project) -> Option<String> {
        let directory = self.path.rsplit_once('/').map_or("", |(directory, _)| directory);
        let dots = module.chars().take_while(|c| *c == '.').count();
        let tail = module[dots..].replace('.', "/");
        let roots: Vec<String> = if dots > 0 {
            let mut parts: Vec<&str> = directory.split('/').filter(|part| !part.is_empty()).collect();
            parts.truncate(parts.len().saturating_sub(dots - 1));
            vec![parts.join("/")]
        } else {
            vec![String::new(), "src".to_owned(), directory.to_owned()]
        };
        roots.iter().find_map(|root| {
            let stem =
                [root.as_str(), &tail].iter().filter(|part| !part.is_empty()).copied().collect::<Vec<_>>();
            let stem = stem.join("/");
            [format!("{stem}.py"), format!("{stem}/__init__.py")].into_iter().find(|path| project.has(path))
        })
    }
}

fn first_word(text: &str) -> &str {
    text.split_whitespace().next().unwrap_or_default()
}

fn indent(line: &str) -> Option<usize> {
    (!line.trim().is_empty()).then(|| line.len() - line.trim_start().len())
}

fn name_after(line: &str, keyword: &str) -> Option<String> {
    let rest = line.trim_start().strip_prefix(keyword)?;
    let name: String = rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
    (!name.is_empty()).then_some(name)
}

/// The code of lines with everything else (strings, comments, docstrings) blanked out; positions stay the same.
pub(super) fn code_only(lines: &[String]) -> Vec<String> {
    let mut open: Option<&'static str> = None;
    lines.iter().map(|line| mask_line(line, &mut open)).collect()
}

/// `open` is the triple quote of a string that goes on in the next line.
fn mask_line(line: &str, open: &mut Option<&'static str>) -> String {
    let mut masked = String::with_capacity(line.len());
    let mut rest = line;
    while let Some(c) = rest.chars().next() {
        if let Some(quote) = *open {
            if rest.starts_with(quote) {
                *open = None;
                rest = blank(&mut masked, rest, quote.len());
            } else {
                rest = blank(&mut masked, rest, c.len_utf8());
            }
        } else if let Some(quote) = ["\"\"\"", "'''"].into_iter().find(|quote| rest.starts_with(quote)) {
            *open = Some(quote);
            rest = blank(&mut masked, rest, quote.len());
        } else if c == '#' {
            rest = blank(&mut masked, rest, rest.len());
        } else if matches!(c, '"' | '\'') {
            rest = blank(&mut masked, rest, string_length(rest, c));
        } else {
            masked.push(c);
            rest = &rest[c.len_utf8()..];
        }
    }
    masked
}

fn blank<'a>(masked: &mut String, rest: &'a str, length: usize) -> &'a str {
    masked.extend(std::iter::repeat_n(' ', length));
    &rest[length..]
}

fn string_length(text: &str, quote: char) -> usize {
    let mut is_escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if is_escaped => is_escaped = false,
            '\\' => is_escaped = true,
            c if c == quote => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// Names that a piece of code calls or reaches for with a dot: `f(`, `.f`.
pub(super) fn used_names(code: &str) -> Vec<&str> {
    let mut names = Vec::new();
    let mut start = None;
    for (at, c) in code.char_indices().chain([(code.len(), ' ')]) {
        let is_word = c.is_alphanumeric() || c == '_';
        match (start, is_word) {
            (None, true) => start = Some(at),
            (Some(from), false) => {
                let name = &code[from..at];
                let is_reached = code[..from].ends_with('.') || code[at..].starts_with('(');
                if is_reached && !name.starts_with(|c: char| c.is_ascii_digit()) && !names.contains(&name) {
                    names.push(name);
                }
                start = None;
            }
            _ => {}
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(path: &str, text: &str) -> Source {
        Source { path: path.into(), lines: text.lines().map(str::to_owned).collect() }
    }

    #[test]
    fn the_output_of_read_becomes_lines() {
        let output = "     1\tdef f():\n     2\t\treturn 1\n     3\t\n(end of file)";
        assert_eq!(Source::from_read("a.py", output).unwrap().lines, ["def f():", "\treturn 1", ""]);
        assert_eq!(Source::from_read("a.py", "no such file"), None);
    }

    #[test]
    fn functions_methods_and_long_signatures_are_found() {
        let text = "class A:\n    def f(self):\n        x = 1\n\n        return x\n\n    def g(\n        self,\n    ):\n        pass\n\ndef h():\n    pass\nx = 1";
        let functions = source("a.py", text).functions();
        let found: Vec<_> =
            functions.iter().map(|f| (f.name.as_str(), f.class.as_deref(), f.lines.clone())).collect();
        assert_eq!(found, [("f", Some("A"), 1..5), ("g", Some("A"), 6..10), ("h", None, 11..13)]);
    }

    #[test]
    fn imports_lead_to_files_of_the_project() {
        let project =
            Project::from_listing("shop/__init__.py\nshop/cart.py\nshop/tax.py\nutil.py\ntests/helper.py");
        let text = "import os, util\nfrom shop.cart import (\n    total,\n)\nfrom shop import tax as t\nfrom helper import x";
        let imports = source("tests/test_a.py", text).imports(&project);
        assert_eq!(
            imports,
            ["util.py", "shop/cart.py", "shop/__init__.py", "shop/tax.py", "tests/helper.py"]
        );
        let relative =
            source("shop/__init__.py", "from .cart import total\nfrom . import tax").imports(&project);
        assert_eq!(relative, ["shop/cart.py", "shop/tax.py"]);
    }

    #[test]
    fn strings_and_comments_are_no_code() {
        let lines = ["x = 'a + b' # c + d", "y = \"\"\"a", "b + c", "\"\"\" + 1"].map(str::to_owned);
        let code = code_only(&lines);
        assert_eq!(code[0].trim_end(), "x =");
        assert_eq!(code[1].trim_end(), "y =");
        assert_eq!(code[2].trim(), "");
        assert_eq!(code[3], "    + 1");
        assert_eq!(code[0].len(), lines[0].len());
    }

    #[test]
    fn used_names_are_called_or_reached_with_a_dot() {
        assert_eq!(used_names("self.assertEqual(total(x), cart.size)"), ["assertEqual", "total", "size"]);
    }
}
