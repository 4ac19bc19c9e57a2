//! A YAML document as a tree: the first document of a stream, aliases expanded, scalars typed (`config.md` §3–4).

use std::collections::{BTreeMap, BTreeSet};

use granit_parser::{Event, Parser, ScalarStyle, ScanError, Span, Tag};

use super::scalar;

/// Nesting of a document, expanded aliases included. Configurations need five levels.
pub const MAX_DEPTH: usize = 64;

/// Size of a document's tree after aliases were expanded, in bytes: 64 per node plus its text.
pub const MAX_WEIGHT: usize = 64 << 20;

const NODE_WEIGHT: usize = 64;

/// A value and where it stands.
#[derive(Clone, PartialEq, Debug)]
pub struct Node {
    /// Line of the file, from 1.
    pub line: usize,
    /// The value.
    pub value: Yaml,
}

/// A typed value.
#[derive(Clone, PartialEq, Debug)]
pub enum Yaml {
    /// Nothing.
    Null,
    /// A boolean.
    Bool(bool),
    /// An integer of Go's `int64` or `uint64`.
    Int(i128),
    /// A number.
    Float(f64),
    /// Text.
    Text(String),
    /// A sequence.
    List(Vec<Node>),
    /// A mapping in order of the file. Keys may repeat, the last one wins.
    Map(Vec<(Node, Node)>),
}

impl Yaml {
    /// The short YAML tag.
    pub(super) fn tag(&self) -> &'static str {
        match self {
            Self::Null => "!!null",
            Self::Bool(_) => "!!bool",
            Self::Int(_) => "!!int",
            Self::Float(_) => "!!float",
            Self::Text(_) => "!!str",
            Self::List(_) => "!!seq",
            Self::Map(_) => "!!map",
        }
    }
}

/// What is wrong with a document.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct YamlError {
    /// Line of the file, from 1.
    pub line: usize,
    /// What, without a position.
    pub text: String,
}

impl YamlError {
    fn new(line: usize, text: impl Into<String>) -> Self {
        Self {
            line,
            text: text.into(),
        }
    }
}

impl From<ScanError> for YamlError {
    fn from(error: ScanError) -> Self {
        Self::new(error.marker().line(), error.info())
    }
}

/// Whose rules a document follows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Schema {
    /// YAML 1.1 as dialect 1 reads it: `yes` is a boolean, of keys that repeat the last one wins.
    Classic,
    /// As dialect 2 reads it: `yes` is text, a key that repeats is an error.
    Modern,
}

/// Reads the first document of dialect 1; `None` if there is none.
///
/// # Errors
/// As for [`parse_as`].
pub fn parse(bytes: &[u8]) -> Result<Option<Node>, YamlError> {
    parse_as(bytes, Schema::Classic)
}

/// Reads the first document; `None` if there is none.
///
/// # Errors
/// A syntax error, or a document beyond [`MAX_DEPTH`] or [`MAX_WEIGHT`].
pub fn parse_as(bytes: &[u8], schema: Schema) -> Result<Option<Node>, YamlError> {
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let before = &bytes[..error.valid_up_to()];
        YamlError::new(
            1 + before.iter().filter(|&&byte| byte == b'\n').count(),
            "invalid UTF-8",
        )
    })?;
    let mut builder = Builder {
        schema,
        events: Parser::new_from_str(text),
        anchors: BTreeMap::new(),
        weight: 0,
    };
    loop {
        match builder.next()? {
            (Event::StreamEnd, _) => return Ok(None),
            (Event::DocumentStart(..), _) => {
                let (event, span) = builder.next()?;
                return builder.build(event, span, 1).map(|tree| Some(tree.node));
            }
            _ => {}
        }
    }
}

struct Builder<I> {
    schema: Schema,
    events: I,
    /// Finished nodes by anchor ID.
    anchors: BTreeMap<usize, Tree>,
    weight: usize,
}

/// A node with what expanding an alias to it would cost.
#[derive(Clone)]
struct Tree {
    node: Node,
    depth: usize,
    weight: usize,
}

/// What is in a list or a map, with the greatest depth and the sum of the weights.
struct Children<T> {
    nodes: Vec<T>,
    depth: usize,
    weight: usize,
}

impl<T> Default for Children<T> {
    fn default() -> Self {
        Self {
            nodes: Vec::new(),
            depth: 0,
            weight: 0,
        }
    }
}

impl<'input, I: Iterator<Item = Result<(Event<'input>, Span), ScanError>>> Builder<I> {
    fn next(&mut self) -> Result<(Event<'input>, Span), YamlError> {
        Ok(self
            .events
            .next()
            .unwrap_or_else(|| Ok((Event::StreamEnd, Span::default())))?)
    }

    fn build(&mut self, event: Event<'input>, span: Span, level: usize) -> Result<Tree, YamlError> {
        let line = span.start.line();
        let (value, anchor, depth, below) = match event {
            Event::Alias(id) => return self.expand(id, line, level),
            Event::Scalar(text, style, anchor, tag) => {
                let value =
                    typed(&text, style, tag.as_deref(), self.schema).map_err(|text| YamlError::new(line, text))?;
                (value, anchor, 1, text.len())
            }
            Event::SequenceStart(_, anchor, _) => {
                let it = self.sequence(line, level)?;
                (Yaml::List(it.nodes), anchor, it.depth + 1, it.weight)
            }
            Event::MappingStart(_, anchor, _) => {
                let it = self.mapping(line, level)?;
                (Yaml::Map(it.nodes), anchor, it.depth + 1, it.weight)
            }
            _ => return Err(YamlError::new(line, "unexpected end of the document")),
        };
        let own = if depth == 1 { NODE_WEIGHT + below } else { NODE_WEIGHT };
        self.charge(own, line)?;
        let weight = NODE_WEIGHT + below;
        let tree = Tree {
            node: Node { line, value },
            depth,
            weight,
        };
        if anchor != 0 {
            self.charge(weight, line)?;
            self.anchors.insert(anchor, tree.clone());
        }
        Ok(tree)
    }

    fn expand(&mut self, id: usize, line: usize, level: usize) -> Result<Tree, YamlError> {
        let Some((depth, weight)) = self.anchors.get(&id).map(|tree| (tree.depth, tree.weight)) else {
            return Err(YamlError::new(line, "anchor value contains itself"));
        };
        check_depth(level + depth - 1, line)?;
        self.charge(weight, line)?;
        let mut tree = self.anchors[&id].clone();
        tree.node.line = line;
        Ok(tree)
    }

    fn sequence(&mut self, line: usize, level: usize) -> Result<Children<Node>, YamlError> {
        check_depth(level, line)?;
        let mut all = Children::default();
        loop {
            let (event, span) = self.next()?;
            if matches!(event, Event::SequenceEnd) {
                return Ok(all);
            }
            let tree = self.build(event, span, level + 1)?;
            all.depth = all.depth.max(tree.depth);
            all.weight += tree.weight;
            all.nodes.push(tree.node);
        }
    }

    fn mapping(&mut self, line: usize, level: usize) -> Result<Children<(Node, Node)>, YamlError> {
        check_depth(level, line)?;
        let mut all = Children::default();
        let mut keys = BTreeSet::new();
        loop {
            let (event, span) = self.next()?;
            if matches!(event, Event::MappingEnd) {
                return Ok(all);
            }
            let merge = matches!(&event, Event::Scalar(text, ScalarStyle::Plain, _, None) if text == "<<");
            let key = self.build(event, span, level + 1)?;
            if matches!(key.node.value, Yaml::List(_) | Yaml::Map(_)) {
                return Err(YamlError::new(key.node.line, "invalid map key: a list or a map"));
            }
            if let Yaml::Text(text) = &key.node.value
                && self.schema == Schema::Modern
                && !merge
                && !keys.insert(text.clone())
            {
                return Err(YamlError::new(key.node.line, format!("key {text:?} is given twice")));
            }
            let (event, span) = self.next()?;
            let value = self.build(event, span, level + 1)?;
            all.depth = all.depth.max(value.depth);
            all.weight += key.weight + value.weight;
            if merge {
                merge_into(&mut all.nodes, value.node)?;
            } else {
                all.nodes.push((key.node, value.node));
            }
        }
    }

    fn charge(&mut self, weight: usize, line: usize) -> Result<(), YamlError> {
        self.weight += weight;
        if self.weight > MAX_WEIGHT {
            return Err(YamlError::new(
                line,
                "document contains excessive aliasing, or is too large",
            ));
        }
        Ok(())
    }
}

fn check_depth(level: usize, line: usize) -> Result<(), YamlError> {
    if level > MAX_DEPTH {
        return Err(YamlError::new(
            line,
            format!("document is nested deeper than {MAX_DEPTH} levels"),
        ));
    }
    Ok(())
}

/// `<<: MAP` and `<<: [MAP, …]`, where an earlier map of the list wins over a later one.
fn merge_into(entries: &mut Vec<(Node, Node)>, value: Node) -> Result<(), YamlError> {
    let line = value.line;
    let wrong = || YamlError::new(line, "map merge requires map or sequence of maps as the value");
    match value.value {
        Yaml::Map(merged) => entries.extend(merged),
        Yaml::List(maps) => {
            for map in maps.into_iter().rev() {
                let Yaml::Map(merged) = map.value else {
                    return Err(wrong());
                };
                entries.extend(merged);
            }
        }
        _ => return Err(wrong()),
    }
    Ok(())
}

fn typed(text: &str, style: ScalarStyle, tag: Option<&Tag>, schema: Schema) -> Result<Yaml, String> {
    match tag {
        // The tag `!` alone says nothing but "no tag", even of quoted text.
        Some(tag) if tag.original() == "!" => Ok(scalar::plain(text)),
        Some(tag) => tag
            .core_suffix()
            .map_or_else(|| Ok(Yaml::Text(text.into())), |tag| scalar::tagged(tag, text)),
        None if style == ScalarStyle::Plain && schema == Schema::Modern => Ok(scalar::plain_modern(text)),
        None if style == ScalarStyle::Plain => Ok(scalar::plain(text)),
        None => Ok(Yaml::Text(text.into())),
    }
}

#[cfg(test)]
#[path = "yaml/tests.rs"]
mod tests;
