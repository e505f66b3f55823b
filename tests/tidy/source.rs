//! Reads Rust files as tokens and paths: enough to check what they import, not a compiler.
//!
//! Source: the Rust reference, paths and use declarations. In: a path and its text. Out:
//! [`Source`]. Holds: comments, strings and characters give no token; lines stay where they are.
//! Elsewhere: the rules (`tidy.rs`). Not seen: what a macro makes, `#[path]`, `include!`.

/// One file: as written, and as tokens without comments and strings.
pub(crate) struct Source {
    pub(crate) path: String,
    pub(crate) text: String,
    pub(crate) tokens: Vec<Token>,
    /// First and last lines of what is compiled for tests alone.
    tests: Vec<(usize, usize)>,
}

pub(crate) struct Token {
    pub(crate) text: String,
    pub(crate) line: usize,
}

/// A path as code names it, `use` trees expanded; of the crate it is absolute.
#[derive(Debug, PartialEq)]
pub(crate) struct Named {
    pub(crate) names: Vec<String>,
    pub(crate) line: usize,
}

pub(crate) struct Function {
    pub(crate) name: String,
    pub(crate) line: usize,
    pub(crate) lines: usize,
}

/// Stands for a path that names the crate as a stranger would.
pub(crate) const CRATE_BY_NAME: &str = "consortium::";

impl Source {
    pub(crate) fn new(path: &str, text: &str) -> Self {
        let tokens = tokens(&code_of(text));
        let name = path.rsplit('/').next().unwrap_or(path);
        let whole = path.starts_with("tests/") || path.starts_with("benches/");
        let whole = whole || path.contains("/tests/") || name.ends_with("tests.rs");
        let tests = if whole {
            vec![(1, usize::MAX)]
        } else {
            test_regions(&tokens)
        };
        Self {
            path: path.into(),
            text: text.into(),
            tokens,
            tests,
        }
    }

    pub(crate) fn is_test(&self, line: usize) -> bool {
        self.tests
            .iter()
            .any(|(first, last)| (*first..=*last).contains(&line))
    }

    /// The module on a floor that this file is part of.
    pub(crate) fn home(&self) -> Option<String> {
        let below = self.path.starts_with("src/") && !is_root(&self.path);
        below.then(|| module_of(&self.path).swap_remove(0))
    }

    /// Lines on which these tokens follow each other.
    pub(crate) fn sequences(&self, wanted: &[&str]) -> Vec<usize> {
        let windows = self.tokens.windows(wanted.len());
        let same = |w: &&[Token]| w.iter().map(|t| &t.text).eq(wanted.iter());
        windows.filter(same).map(|w| w[0].line).collect()
    }

    /// The same, tests aside.
    pub(crate) fn sequences_outside_tests(&self, wanted: &[&str]) -> Vec<usize> {
        let mut lines = self.sequences(wanted);
        lines.retain(|line| !self.is_test(*line));
        lines
    }

    /// Every path of this crate that is named, absolute. An empty one is the crate itself.
    pub(crate) fn crate_paths(&self) -> Vec<Named> {
        let mut found = Vec::new();
        let mut inline: Vec<(String, usize)> = Vec::new(); // inline modules and their depths
        let mut depth = 0;
        let mut i = 0;
        while i < self.tokens.len() {
            let at = |j: usize| self.tokens.get(j).map_or("", |t| t.text.as_str());
            let start = i;
            i += 1;
            match at(start) {
                "{" => depth += 1,
                "}" => {
                    depth -= 1;
                    inline.retain(|(_, opened)| *opened <= depth);
                }
                "mod" if at(start + 2) == "{" => {
                    inline.push((at(start + 1).to_owned(), depth + 1));
                }
                "crate" if at(i) == "::" => i = expand(&self.tokens, start, &mut found, &[]),
                "crate" if start > 0 && at(start - 1) == "(" && at(i) == ")" => {} // visibility
                "crate" => found.push(Named {
                    names: vec![],
                    line: self.tokens[start].line,
                }),
                "super" | "self" if at(i) == "::" && !continues(&self.tokens, start) => {
                    let mut here = module_of(&self.path);
                    here.extend(inline.iter().map(|(name, _)| name.clone()));
                    i = expand(&self.tokens, start, &mut found, &here);
                }
                "consortium" if at(i) == "::" && !continues(&self.tokens, start) => {
                    let names = vec![CRATE_BY_NAME.to_owned()];
                    found.push(Named {
                        names,
                        line: self.tokens[start].line,
                    });
                }
                _ => {}
            }
        }
        found
    }

    /// Every other path and name, `use` trees expanded.
    pub(crate) fn outside_paths(&self) -> Vec<Named> {
        let mut found = Vec::new();
        let mut i = 0;
        while i < self.tokens.len() {
            let word = self.tokens[i]
                .text
                .starts_with(|c: char| c.is_alphabetic() || c == '_');
            i = if word {
                expand(&self.tokens, i, &mut found, &[])
            } else {
                i + 1
            };
        }
        found
    }
}

/// Whether the token at `i` goes on a path rather than starting one.
fn continues(tokens: &[Token], i: usize) -> bool {
    let before = |n: usize| i.checked_sub(n).map_or("", |j| tokens[j].text.as_str());
    let word = |t: &str| t.ends_with(|c: char| c.is_alphanumeric() || c == '_');
    let keyword = ["use", "in", "as", "return", "mut", "dyn", "impl"].contains(&before(2));
    before(1) == "::" && (before(2) == ">" || (word(before(2)) && !keyword))
}

/// Reads the path or `use` tree at token `i` into `found` and gives the token behind it.
///
/// `crate` empties the path, `self` keeps it, `super` takes the last name away.
fn expand(tokens: &[Token], i: usize, found: &mut Vec<Named>, prefix: &[String]) -> usize {
    let at = |j: usize| tokens.get(j).map_or("", |t| t.text.as_str());
    let line = tokens[i].line;
    let mut names = prefix.to_vec();
    let mut i = i;
    loop {
        match at(i) {
            "crate" => names.clear(),
            "self" => {}
            "super" => drop(names.pop()),
            "{" => {
                i += 1;
                while i < tokens.len() && at(i) != "}" {
                    i = match at(i) {
                        "," | "::" => i + 1,
                        "as" => i + 2,
                        _ => expand(tokens, i, found, &names),
                    };
                }
                return i + 1;
            }
            name => names.push(name.to_owned()),
        }
        let next = at(i + 2);
        let word = next.starts_with(|c: char| c.is_alphabetic() || c == '_');
        if at(i + 1) != "::" || !(word || next == "{" || next == "*") {
            found.push(Named { names, line });
            return i + 1;
        }
        i += 2;
    }
}

/// Lines of items under `#[cfg(test)]`.
fn test_regions(tokens: &[Token]) -> Vec<(usize, usize)> {
    let marks = ["#", "[", "cfg", "(", "test", ")", "]"];
    let mut found = Vec::new();
    for i in 0..tokens.len().saturating_sub(marks.len()) {
        if tokens[i..i + marks.len()]
            .iter()
            .map(|t| &t.text)
            .eq(marks.iter())
        {
            let end = item_end(tokens, i + marks.len());
            found.push((tokens[i].line, tokens[end].line));
        }
    }
    found
}

/// The token that ends the item at `i`: its `;` or the brace that closes its body.
fn item_end(tokens: &[Token], i: usize) -> usize {
    let mut depth = 0;
    for (j, token) in tokens.iter().enumerate().skip(i) {
        match token.text.as_str() {
            "{" | "(" | "[" => depth += 1,
            "}" | ")" | "]" => depth -= 1,
            _ => {}
        }
        if depth == 0 && ["}", ";"].contains(&token.text.as_str()) {
            return j;
        }
    }
    tokens.len() - 1
}

pub(crate) fn functions(s: &Source) -> Vec<Function> {
    let mut found = Vec::new();
    for (i, pair) in s.tokens.windows(2).enumerate() {
        let named = pair[1]
            .text
            .starts_with(|c: char| c.is_alphabetic() || c == '_');
        if pair[0].text == "fn" && named {
            let (line, end) = (pair[0].line, item_end(&s.tokens, i));
            let lines = s.tokens[end].line - line + 1;
            found.push(Function {
                name: pair[1].text.clone(),
                line,
                lines,
            });
        }
    }
    found
}

/// `text` with comments, strings and characters blanked; lines stay where they are.
fn code_of(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut code = String::with_capacity(text.len());
    let mut i = 0;
    while i < chars.len() {
        let end = literal_end(&chars, i);
        if end == i {
            code.push(chars[i]);
            i += 1;
        } else {
            let blank = |c: &char| if *c == '\n' { '\n' } else { ' ' };
            code.extend(chars[i..end].iter().map(blank));
            i = end;
        }
    }
    code
}

/// Where the comment, string or character that starts at `i` ends; `i` when none starts there.
fn literal_end(chars: &[char], i: usize) -> usize {
    let at = |j: usize| chars.get(j).copied().unwrap_or('\0');
    let find = |from: usize, end: &[char]| {
        let rest = chars.get(from..).unwrap_or_default();
        let place = rest.windows(end.len()).position(|w| w == end);
        place.map_or(chars.len(), |p| from + p + end.len())
    };
    match (at(i), at(i + 1)) {
        ('/', '/') => find(i, &['\n']) - usize::from(find(i, &['\n']) < chars.len()),
        ('/', '*') => {
            let (mut depth, mut j) = (1, i + 2);
            while depth > 0 && j < chars.len() {
                match (at(j), at(j + 1)) {
                    ('/', '*') => (depth, j) = (depth + 1, j + 2),
                    ('*', '/') => (depth, j) = (depth - 1, j + 2),
                    _ => j += 1,
                }
            }
            j
        }
        ('"', _) => {
            let mut j = i + 1;
            while j < chars.len() && at(j) != '"' {
                j += 1 + usize::from(at(j) == '\\');
            }
            (j + 1).min(chars.len())
        }
        ('r', '#' | '"') => {
            let hashes = chars[i + 1..].iter().take_while(|c| **c == '#').count();
            let end: Vec<char> = std::iter::once('"').chain(vec!['#'; hashes]).collect();
            let prefix = i > 0 && (at(i - 1).is_alphanumeric() || at(i - 1) == '_');
            let bytes = prefix && ['b', 'c'].contains(&at(i - 1));
            let raw = at(i + 1 + hashes) == '"' && (!prefix || bytes);
            if raw { find(i + 2 + hashes, &end) } else { i }
        }
        ('\'', '\\') => find(i + 3, &['\'']),
        ('\'', _) if at(i + 2) == '\'' => i + 3,
        _ => i,
    }
}

/// Words, `::`, and single signs.
fn tokens(code: &str) -> Vec<Token> {
    let mut found: Vec<Token> = Vec::new();
    for (i, text) in code.lines().enumerate() {
        let mut glue = ' '; // the last sign, where the next may join it
        for c in text.chars() {
            let word = c.is_alphanumeric() || c == '_';
            let joins = (word && glue == 'w') || (c == ':' && glue == ':');
            match found.last_mut() {
                Some(last) if joins => last.text.push(c),
                _ if c.is_whitespace() => {}
                _ => found.push(Token {
                    text: c.into(),
                    line: i + 1,
                }),
            }
            glue = match c {
                _ if word => 'w',
                ':' if !joins => ':',
                _ => ' ',
            };
        }
    }
    found
}

pub(crate) fn is_root(path: &str) -> bool {
    ["src/lib.rs", "src/main.rs"].contains(&path)
}

/// The module that a file is: `src/fsm/normal/tests.rs` is `fsm::normal::tests`.
pub(crate) fn module_of(path: &str) -> Vec<String> {
    let inner = path.trim_start_matches("src/").trim_end_matches(".rs");
    let mut names: Vec<_> = inner.split('/').map(str::to_owned).collect();
    if is_root(path) || names.last().is_some_and(|name| name == "mod") {
        names.pop();
    }
    names
}
