//! Which modules and crates does a piece of source name?

/// Whether a character is part of a name or number.
fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Source as words, `::` and single other characters; comments, literals and lifetimes are left out.
pub(crate) fn tokens(source: &str) -> Vec<String> {
    let chars: Vec<char> = source.chars().collect();
    let at = |i: usize| chars.get(i).copied().unwrap_or('\0');
    let mut found = Vec::new();
    let mut i = 0;
    while i < chars.len() {
        match at(i) {
            '/' if at(i + 1) == '/' => i = end_of_line(&chars, i),
            '/' if at(i + 1) == '*' => i = end_of_comment(&chars, i),
            'r' if matches!(at(i + 1), '"' | '#') && is_raw_string(&chars, i) => i = end_of_raw_string(&chars, i),
            '"' => i = end_of_string(&chars, i),
            '\'' if at(i + 1) == '\\' || at(i + 2) == '\'' => {
                // A character; what is escaped may itself be a quote.
                i += if at(i + 1) == '\\' { 3 } else { 2 };
                while i < chars.len() && at(i) != '\'' {
                    i += 1;
                }
                i += 1;
            }
            ':' if at(i + 1) == ':' => {
                found.push("::".to_owned());
                i += 2;
            }
            c if is_word(c) => {
                let word: String = chars[i..].iter().copied().take_while(|&c| is_word(c)).collect();
                i += word.chars().count();
                // `b"…"` is a literal too.
                if !(matches!(word.as_str(), "b" | "c") && at(i) == '"') {
                    found.push(word);
                }
            }
            c => {
                if !c.is_whitespace() && c != '\'' {
                    found.push(c.to_string());
                }
                i += 1;
            }
        }
    }
    found
}

fn end_of_line(chars: &[char], from: usize) -> usize {
    chars[from..]
        .iter()
        .position(|&c| c == '\n')
        .map_or(chars.len(), |n| from + n)
}

fn end_of_comment(chars: &[char], from: usize) -> usize {
    let (mut i, mut depth) = (from, 0);
    while i < chars.len() {
        match chars.get(i..i + 2) {
            Some(['/', '*']) => (depth, i) = (depth + 1, i + 2),
            Some(['*', '/']) => (depth, i) = (depth - 1, i + 2),
            _ => i += 1,
        }
        if depth == 0 {
            break;
        }
    }
    i
}

fn is_raw_string(chars: &[char], from: usize) -> bool {
    chars[from + 1..].iter().find(|&&c| c != '#') == Some(&'"')
}

fn end_of_raw_string(chars: &[char], from: usize) -> usize {
    let hashes = chars[from + 1..].iter().take_while(|&&c| c == '#').count();
    let mut i = from + 2 + hashes;
    while i < chars.len() {
        if chars[i] == '"' && chars[i + 1..].iter().take_while(|&&c| c == '#').count() >= hashes {
            return i + 1 + hashes;
        }
        i += 1;
    }
    i
}

fn end_of_string(chars: &[char], from: usize) -> usize {
    let mut i = from + 1;
    while i < chars.len() && chars[i] != '"' {
        i += if chars[i] == '\\' { 2 } else { 1 };
    }
    i + 1
}

/// All paths that `source` names, in `use` declarations and elsewhere, in absolute form: `crate::link::Session`,
/// `std::fs::File`. `module` is where the file stands, `["stream", "machine"]`.
pub(crate) fn named(module: &[String], source: &str) -> Vec<String> {
    let tokens = tokens(source);
    let token = |i: usize| tokens.get(i).map_or("", String::as_str);
    let mut scope = module.to_vec();
    // Depths at which the bodies of inline modules began.
    let mut bodies = Vec::new();
    let (mut depth, mut i) = (0, 0);
    let mut found = Vec::new();
    while i < tokens.len() {
        match token(i) {
            "mod" if token(i + 2) == "{" => {
                scope.push(token(i + 1).to_owned());
                bodies.push(depth);
                (depth, i) = (depth + 1, i + 3);
            }
            "{" => (depth, i) = (depth + 1, i + 1),
            "}" => {
                (depth, i) = (depth - 1, i + 1);
                if bodies.last() == Some(&depth) {
                    bodies.pop();
                    scope.pop();
                }
            }
            "use" if token(i + 1) != "<" => {
                i = tree(&tokens, i + 1, &mut Vec::new(), &mut |path| {
                    found.push(absolute(&scope, path))
                });
            }
            word if word.starts_with(is_word) && token(i + 1) == "::" => {
                let mut path = vec![word];
                while token(i + 1) == "::" && token(i + 2).starts_with(is_word) {
                    path.push(token(i + 2));
                    i += 2;
                }
                found.push(absolute(&scope, &path));
                i += 1;
            }
            _ => i += 1,
        }
    }
    found
}

/// Walks one use tree, from the token `i` on; returns the token behind it.
fn tree<'a>(tokens: &'a [String], mut i: usize, path: &mut Vec<&'a str>, found: &mut impl FnMut(&[&str])) -> usize {
    let outer = path.len();
    while i < tokens.len() {
        match tokens[i].as_str() {
            "::" => {}
            "{" => {
                i += 1;
                while i < tokens.len() && tokens[i] != "}" {
                    i = tree(tokens, i, path, found);
                    if tokens.get(i).is_some_and(|t| t == ",") {
                        i += 1;
                    }
                }
                path.truncate(outer);
                return i + 1;
            }
            // The new name after `as`.
            "as" => i += 1,
            word if word.starts_with(is_word) || word == "*" => path.push(word),
            _ => break,
        }
        i += 1;
    }
    found(path);
    path.truncate(outer);
    i
}

fn absolute(scope: &[String], path: &[&str]) -> String {
    let mut base: Option<Vec<&str>> = None;
    let mut rest = path;
    while let Some((&first, others)) = rest.split_first() {
        let inside = || scope.iter().map(String::as_str).collect::<Vec<_>>();
        match first {
            "crate" => base = Some(Vec::new()),
            "self" if base.is_none() => base = Some(inside()),
            "super" => {
                let mut parent = base.unwrap_or_else(inside);
                parent.pop();
                base = Some(parent);
            }
            _ => break,
        }
        rest = others;
    }
    let inside = base.map(|base| [vec!["crate"], base].concat());
    [inside.unwrap_or_default(), rest.to_vec()].concat().join("::")
}
