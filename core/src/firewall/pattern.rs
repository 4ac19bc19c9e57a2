//! Conditions of firewall rules: an exact text, or a regular expression between slashes (`security.md` §13.2).
//!
//! Classic nodes have RE2's syntax. Here the syntax is that of the `regex` crate, brought to RE2's meaning where the two give
//! one text two meanings; where that cannot be done, the text is refused. So a rule never means something else here than in a
//! classic node, except that this node says no where the classic one drops a condition that it cannot read.

use alloc::boxed::Box;
use alloc::string::{String, ToString as _};
use core::fmt;

use regex_automata::meta::{self, Regex};
use regex_syntax::ast::{
    self, Ast, ClassBracketed, ClassPerl, ClassPerlKind, ClassSet, ClassSetItem, Flag, FlagsItemKind, GroupKind,
};
use regex_syntax::hir;

/// Longest text of a pattern, in bytes.
const MAX_TEXT: usize = 64 << 10;

/// Most memory that one regular expression is compiled to, in bytes.
const MAX_COMPILED: usize = 4 << 20;

/// Memory that a regular expression keeps of what it has matched, in bytes.
const SCRATCH: usize = 256 << 10;

/// Deepest nesting of a regular expression.
const MAX_DEPTH: u32 = 100;

/// A condition on a name.
#[derive(Clone)]
pub struct Pattern {
    text: String,
    /// `None` if the text is to be equal.
    regex: Option<Box<Regex>>,
}

impl Pattern {
    /// Reads a condition: `/REGEX/`, or any other text, which has to be equal byte for byte.
    ///
    /// As in classic nodes the expression is put between `^` and `$` without a group, so that `/a|b/` means "begins with a, or
    /// ends with b".
    ///
    /// # Errors
    /// What a classic node would drop, leaving a rule that matches more: no closing slash, or an expression that does not
    /// compile; an expression that is larger than 64 KiB, or 4 MiB compiled.
    pub fn new(text: &str) -> Result<Self, String> {
        let regex = match text.strip_prefix('/') {
            None => None,
            Some(rest) => {
                let inner = rest
                    .strip_suffix('/')
                    .ok_or_else(|| alloc::format!("the regular expression {text:?} has no closing /"))?;
                let regex = compile(inner).map_err(|why| alloc::format!("the regular expression {text:?}: {why}"))?;
                Some(Box::new(regex))
            }
        };
        Ok(Self {
            text: text.into(),
            regex,
        })
    }

    /// Whether a name satisfies the condition. Takes time linear in its length.
    pub fn matches(&self, name: &[u8]) -> bool {
        let Some(regex) = &self.regex else {
            return self.text.as_bytes() == name;
        };
        match core::str::from_utf8(name) {
            Ok(_) => regex.is_match(name),
            // Go sees each byte that is not UTF-8 as U+FFFD. Nothing may hide from `.` behind such bytes.
            Err(_) => {
                let mut text = String::new();
                for chunk in name.utf8_chunks() {
                    text.push_str(chunk.valid());
                    text.extend(chunk.invalid().iter().map(|_| char::REPLACEMENT_CHARACTER));
                }
                regex.is_match(&text)
            }
        }
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pattern({:?})", self.text)
    }
}

fn compile(inner: &str) -> Result<Regex, String> {
    if inner.len() > MAX_TEXT {
        return Err(alloc::format!("longer than {MAX_TEXT} bytes"));
    }
    let text = alloc::format!("^{inner}$");
    let mut ast = parse(&text)?;
    to_re2(&mut ast)?;
    let hir = hir::translate::TranslatorBuilder::new()
        .utf8(false)
        .build()
        .translate(&text, &ast)
        .map_err(|error| error.kind().to_string())?;
    let config = meta::Config::new()
        .utf8_empty(false)
        .nfa_size_limit(Some(MAX_COMPILED))
        .hybrid_cache_capacity(SCRATCH);
    meta::Builder::new()
        .configure(config)
        .build_from_hir(&hir)
        .map_err(|error| match error.size_limit() {
            Some(limit) => alloc::format!("larger than {limit} bytes when compiled"),
            None => error.to_string(),
        })
}

fn parse(text: &str) -> Result<Ast, String> {
    ast::parse::ParserBuilder::new()
        .nest_limit(MAX_DEPTH)
        .build()
        .parse(text)
        .map_err(|error| error.kind().to_string())
}

/// Changes what RE2 reads in another way to RE2's meaning; refuses what it does not have. The depth is bounded by the parser.
fn to_re2(ast: &mut Ast) -> Result<(), String> {
    match ast {
        Ast::Empty(_) | Ast::Literal(_) | Ast::Dot(_) | Ast::ClassUnicode(_) => {}
        Ast::Flags(set) => flags(&set.flags)?,
        Ast::Assertion(assertion) => match assertion.kind {
            ast::AssertionKind::WordBoundary => *ast = parse(r"(?-u:\b)")?,
            ast::AssertionKind::NotWordBoundary => *ast = parse(r"(?-u:\B)")?,
            ast::AssertionKind::StartLine
            | ast::AssertionKind::EndLine
            | ast::AssertionKind::StartText
            | ast::AssertionKind::EndText => {}
            _ => return Err("word boundaries are written \\b".into()),
        },
        Ast::ClassPerl(class) => *ast = Ast::class_bracketed(perl(class)?),
        Ast::ClassBracketed(class) => class_set(&mut class.kind)?,
        Ast::Repetition(repetition) => to_re2(&mut repetition.ast)?,
        Ast::Group(group) => {
            if let GroupKind::NonCapturing(set) = &group.kind {
                flags(set)?;
            }
            to_re2(&mut group.ast)?;
        }
        Ast::Alternation(alternation) => alternation.asts.iter_mut().try_for_each(to_re2)?,
        Ast::Concat(concat) => concat.asts.iter_mut().try_for_each(to_re2)?,
    }
    Ok(())
}

fn flags(flags: &ast::Flags) -> Result<(), String> {
    for item in &flags.items {
        match &item.kind {
            FlagsItemKind::Negation
            | FlagsItemKind::Flag(
                Flag::CaseInsensitive | Flag::MultiLine | Flag::DotMatchesNewLine | Flag::SwapGreed,
            ) => {}
            FlagsItemKind::Flag(_) => return Err("the flags are i, m, s and U".into()),
        }
    }
    Ok(())
}

/// `\d`, `\s`, `\w` and their opposites, which know ASCII only in RE2.
fn perl(class: &ClassPerl) -> Result<ClassBracketed, String> {
    let members = match class.kind {
        ClassPerlKind::Digit => "0-9",
        ClassPerlKind::Space => r"\t\n\f\r ",
        ClassPerlKind::Word => "0-9A-Za-z_",
    };
    let not = if class.negated { "^" } else { "" };
    match parse(&alloc::format!("[{not}{members}]"))? {
        Ast::ClassBracketed(ref class) => Ok(ClassBracketed::clone(class)),
        _ => Err("a class is not a class".into()),
    }
}

fn class_set(set: &mut ClassSet) -> Result<(), String> {
    match set {
        ClassSet::Item(item) => class_item(item),
        ClassSet::BinaryOp(_) => Err("&&, -- and ~~ in a class need a backslash".into()),
    }
}

fn class_item(item: &mut ClassSetItem) -> Result<(), String> {
    match item {
        ClassSetItem::Empty(_)
        | ClassSetItem::Literal(_)
        | ClassSetItem::Range(_)
        | ClassSetItem::Ascii(_)
        | ClassSetItem::Unicode(_) => Ok(()),
        ClassSetItem::Perl(class) => {
            *item = ClassSetItem::Bracketed(Box::new(perl(class)?));
            Ok(())
        }
        // RE2 reads [ in a class as itself.
        ClassSetItem::Bracketed(_) => Err("[ in a class needs a backslash".into()),
        ClassSetItem::Union(union) => union.items.iter_mut().try_for_each(class_item),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(pattern: &str, name: &str) -> bool {
        Pattern::new(pattern).unwrap().matches(name.as_bytes())
    }

    #[test]
    fn a_text_is_equal_or_not() {
        assert!(matches("foo", "foo"));
        assert!(!matches("foo", "Foo"));
        assert!(!matches("foo", "foobar"));
        assert!(matches("f.o/", "f.o/"));
    }

    #[test]
    fn an_expression_matches_the_whole_name() {
        assert!(matches("/edge-[0-9]+/", "edge-12"));
        assert!(!matches("/edge-[0-9]+/", "my-edge-12"));
        assert!(!matches("/edge/", "EDGE"));
        assert!(matches("/(?i)edge/", "EDGE"));
        assert!(matches("/a/b/", "a/b"));
        assert!(matches("//", ""));
        assert!(!matches("//", "x"));
    }

    /// `security.md` §13.2: as the classic node does.
    #[test]
    fn alternatives_are_not_grouped() {
        for name in ["abc", "xb", "a", "b"] {
            assert!(matches("/a|b/", name), "{name}");
        }
        assert!(!matches("/a|b/", "xa"));
        assert!(!matches("/(a|b)/", "abc"));
    }

    #[test]
    fn classes_know_ascii_only() {
        assert!(matches(r"/\d\w\s\D\W\S/", "7_\téé."));
        for (pattern, name) in [
            (r"/\d/", "٣"),
            (r"/\w/", "é"),
            (r"/[\w]/", "é"),
            (r"/\s/", "\u{a0}"),
            (r"/[^\W]/", "é"),
            (r"/é\bx/", "éx\n"),
            (r"/\s/", "\u{b}"),
        ] {
            assert!(!matches(pattern, name), "{pattern} {name}");
        }
        assert!(matches(r"/é\bx/", "éx"));
        assert!(matches(r"/e\Bx/", "ex"));
        assert!(matches(r"/[[:alpha:]]\pL\p{Greek}[^a]./", "aéωbß"));
        assert!(matches("/(?i)ß-É/", "ß-é"));
    }

    #[test]
    fn what_would_mean_something_else_is_refused() {
        for (pattern, text) in [
            ("/", "the regular expression \"/\" has no closing /"),
            ("/foo", "the regular expression \"/foo\" has no closing /"),
            ("/(/", "the regular expression \"/(/\": unclosed group"),
            (
                "/[a&&b]/",
                "the regular expression \"/[a&&b]/\": &&, -- and ~~ in a class need a backslash",
            ),
            (
                "/[[a]]/",
                "the regular expression \"/[[a]]/\": [ in a class needs a backslash",
            ),
            (
                "/(?x)a#/",
                "the regular expression \"/(?x)a#/\": the flags are i, m, s and U",
            ),
            (
                "/(?R:a)/",
                "the regular expression \"/(?R:a)/\": the flags are i, m, s and U",
            ),
        ] {
            assert_eq!(Pattern::new(pattern), Err(text.into()), "{pattern}");
        }
        for pattern in [
            r"/\<a/",
            r"/\b{start}a/",
            r"/\Qa.b\E/",
            r"/\1/",
            r"/(?=a)/",
            "/a{/",
            r"/\p{No such}/",
        ] {
            assert!(Pattern::new(pattern).is_err(), "{pattern}");
        }
    }

    #[test]
    fn size_and_depth_are_bounded() {
        let error = |text: &str| Pattern::new(text).unwrap_err();
        assert!(error("/((a{1000}){1000}){1000}/").ends_with("larger than 4194304 bytes when compiled"));
        assert!(error(&alloc::format!("/{}/", "a".repeat(MAX_TEXT + 1))).ends_with("longer than 65536 bytes"));
        let nested = alloc::format!("/{}a{}/", "(".repeat(1000), ")".repeat(1000));
        assert!(error(&nested).contains("nest"), "{}", error(&nested));
        // Would take for ever if it went back.
        assert!(!matches("/(a*)*b/", &"a".repeat(1000)));
    }

    #[test]
    fn bytes_that_are_no_text_are_each_one_character() {
        let pattern = Pattern::new("/a.{2}b/").unwrap();
        assert!(pattern.matches(b"a\xff\xfeb"));
        assert!(pattern.matches(b"a\xe2\x82b"));
        assert!(!pattern.matches(b"a\xffb"));
        assert!(Pattern::new("/\u{fffd}/").unwrap().matches(b"\xff"));
        assert!(!Pattern::new("\u{fffd}").unwrap().matches(b"\xff"));
    }
}
