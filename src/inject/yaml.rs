//! Documents of YAML that can be changed in one place and stay the same everywhere else.
//!
//! Kubernetes reads YAML 1.1: `0644` is octal there and `yes` is true. So a scalar is kept as it was
//! written, with its quotes, and never understood and written anew. A document in which nothing was changed
//! goes out byte for byte; one that was changed keeps every field and their order, but not its comments.

use std::collections::HashMap;
use std::fmt::Write;

use granit_parser::{Event, Options, Parser, ScalarStyle, Tag, options};

/// The most nodes that aliases may make of one stream.
const MOST_NODES: usize = 1_000_000;
/// How deep documents may be nested: Kubernetes' own are never near.
const DEEPEST: usize = 128;

/// A value, as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Node {
    Scalar { text: String, quotes: Quotes, tag: String },
    List(Vec<Node>),
    Map(Vec<(Node, Node)>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quotes {
    None,
    Single,
    Double,
    /// Lines under a `|`, or under a `>`, which are written as `|`.
    Block,
}

impl Node {
    pub fn text(text: impl Into<String>) -> Self {
        Node::Scalar { text: text.into(), quotes: Quotes::Double, tag: String::new() }
    }

    /// As it stands: a number, or what reads as text without quotes.
    pub fn plain(text: impl Into<String>) -> Self {
        Node::Scalar { text: text.into(), quotes: Quotes::None, tag: String::new() }
    }

    /// Between single quotes, where double ones would need escapes.
    pub fn single(text: impl Into<String>) -> Self {
        Node::Scalar { text: text.into(), quotes: Quotes::Single, tag: String::new() }
    }

    /// As lines under a `|`.
    pub fn lines(text: impl Into<String>) -> Self {
        Node::Scalar { text: text.into(), quotes: Quotes::Block, tag: String::new() }
    }

    pub fn map() -> Self {
        Node::Map(Vec::new())
    }

    pub fn list() -> Self {
        Node::List(Vec::new())
    }

    /// Nothing was written, or `null`.
    pub fn is_null(&self) -> bool {
        matches!(self, Node::Scalar { text, quotes: Quotes::None, tag }
            if tag.is_empty() && matches!(text.as_str(), "" | "~" | "null" | "Null" | "NULL"))
    }

    pub fn is_true(&self) -> bool {
        matches!(self, Node::Scalar { text, quotes: Quotes::None, .. }
            if matches!(text.as_str(), "true" | "True" | "TRUE" | "yes" | "Yes" | "YES" | "on" | "On" | "ON"))
    }

    /// The text of a scalar that is there.
    pub fn as_text(&self) -> Option<&str> {
        match self {
            Node::Scalar { text, .. } if !self.is_null() => Some(text),
            _ => None,
        }
    }

    /// A number that was written without quotes.
    pub fn as_port(&self) -> Option<u16> {
        match self {
            Node::Scalar { text, quotes: Quotes::None, .. } => text.parse().ok(),
            _ => None,
        }
    }

    pub fn items(&self) -> &[Node] {
        match self {
            Node::List(items) => items,
            _ => &[],
        }
    }

    pub fn entries(&self) -> &[(Node, Node)] {
        match self {
            Node::Map(entries) => entries,
            _ => &[],
        }
    }

    /// The value of a key; what is `null` is not there.
    pub fn get(&self, key: &str) -> Option<&Node> {
        let entry = self.entries().iter().find(|(name, _)| name.as_text() == Some(key));
        entry.map(|(_, value)| value).filter(|value| !value.is_null())
    }

    /// The value at the end of a path of keys.
    pub fn at(&self, path: &[&str]) -> Option<&Node> {
        path.iter().try_fold(self, |node, key| node.get(key))
    }

    pub fn text_at(&self, path: &[&str]) -> Option<&str> {
        self.at(path)?.as_text()
    }

    /// The items of the list at the end of a path.
    pub fn list_at(&self, path: &[&str]) -> &[Node] {
        self.at(path).map_or(&[], Node::items)
    }

    pub fn get_mut(&mut self, key: &str) -> Option<&mut Node> {
        match self {
            Node::Map(entries) => {
                entries.iter_mut().find(|(name, _)| name.as_text() == Some(key)).map(|(_, value)| value)
            }
            _ => None,
        }
    }

    pub fn at_mut(&mut self, path: &[&str]) -> Option<&mut Node> {
        path.iter().try_fold(self, |node, key| node.get_mut(key))
    }

    pub fn items_mut(&mut self) -> Option<&mut Vec<Node>> {
        match self {
            Node::List(items) => Some(items),
            _ => None,
        }
    }

    /// In the place of the value that the key has, else behind the other keys.
    pub fn set(&mut self, key: &str, value: Node) {
        if let Some(there) = self.get_mut(key) {
            *there = value;
        } else if let Node::Map(entries) = self {
            entries.push((Node::key(key), value));
        }
    }

    pub fn remove(&mut self, key: &str) {
        if let Node::Map(entries) = self {
            entries.retain(|(name, _)| name.as_text() != Some(key));
        }
    }

    /// What stands at `key`; `empty` is put there if nothing does. Says what was there.
    pub fn at_or_put(&mut self, key: &str, empty: fn() -> Node) -> (&mut Node, Was) {
        let was = match self.get_mut(key) {
            None => Was::Absent,
            Some(value) if value.is_null() => Was::Null,
            Some(_) => Was::There,
        };
        if was != Was::There {
            self.set(key, empty());
        }
        (self.get_mut(key).expect("it is a map, and was put there"), was)
    }

    fn key(key: &str) -> Node {
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '/');
        let starts = key.starts_with(|c: char| c.is_ascii_alphabetic());
        if starts && key.chars().all(plain) { Node::plain(key) } else { Node::text(key) }
    }
}

impl From<&str> for Node {
    fn from(text: &str) -> Self {
        // Only what no reader of YAML takes for anything but text.
        const TAKEN: [&str; 10] = ["true", "false", "null", "yes", "no", "on", "off", "y", "n", "nan"];
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '/' | '.' | '_');
        let is_name = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '/')
            && text.chars().all(plain)
            && !TAKEN.contains(&text.to_ascii_lowercase().as_str());
        if is_name { Node::plain(text) } else { Node::text(text) }
    }
}

impl From<String> for Node {
    fn from(text: String) -> Self {
        Node::from(text.as_str())
    }
}

impl From<bool> for Node {
    fn from(value: bool) -> Self {
        Node::plain(value.to_string())
    }
}

impl From<u32> for Node {
    fn from(value: u32) -> Self {
        Node::plain(value.to_string())
    }
}

impl From<u16> for Node {
    fn from(value: u16) -> Self {
        Node::plain(value.to_string())
    }
}

impl From<Vec<Node>> for Node {
    fn from(items: Vec<Node>) -> Self {
        Node::List(items)
    }
}

/// What stood at a key before something was put there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Was {
    Absent,
    Null,
    There,
}

/// A map whose keys stand in the order given.
#[macro_export]
macro_rules! yaml_map {
    ($($key:literal: $value:expr),* $(,)?) => {{
        #[allow(unused_mut)]
        let mut map = $crate::inject::yaml::Node::map();
        $(map.set($key, $crate::inject::yaml::Node::from($value));)*
        map
    }};
}

/// One document, and the text that it came as.
#[derive(Clone, Debug)]
pub struct Document {
    /// As it was written, with the `---` before it.
    written: String,
    /// What stands before its first value: `---`, and comments such as Helm's `# Source`.
    head: String,
    /// The line on which it begins.
    pub line: usize,
    original: Node,
    pub root: Node,
}

impl Document {
    pub fn made(root: Node) -> Self {
        let head = "---\n".to_owned();
        Document { written: String::new(), head, line: 0, original: Node::map(), root }
    }

    /// Its text: the very bytes it came as, if nothing in it was changed.
    pub fn render(&self) -> String {
        if self.root == self.original { self.written.clone() } else { self.rewritten() }
    }

    /// As it came, written as a changed one is: what a difference is shown against.
    pub fn original(&self) -> String {
        if self.root == self.original || self.written.is_empty() {
            return self.written.clone();
        }
        Document { root: self.original.clone(), ..self.clone() }.rewritten()
    }

    /// Written anew, whether or not something was changed.
    pub fn rewritten(&self) -> String {
        let mut text = self.head.clone();
        write_block(&self.root, 0, &mut text);
        text
    }
}

/// What is no YAML: where, and why.
#[derive(Debug, PartialEq, Eq)]
pub struct Fault {
    pub line: usize,
    pub message: String,
}

/// All documents of a text, in their order. A document without a value is kept as it is written.
pub fn parse(text: &str) -> Result<Vec<Document>, Fault> {
    let options: Options =
        options! { emit_comments: false, flow_nesting_limit: DEEPEST, block_nesting_limit: DEEPEST };
    let mut loader =
        Loader { events: Parser::new_from_str_with_options(text, options), made: 0, anchors: HashMap::new() };
    let mut starts = Vec::new();
    loop {
        let (event, at) = loader.next()?;
        match event {
            Event::DocumentStart(..) => {
                loader.anchors.clear();
                let (node, first) = loader.document()?;
                starts.push((at, node, first));
            }
            Event::StreamEnd => break,
            _ => {}
        }
    }
    // A text is cut where documents begin; what stands before the first belongs to it.
    let mut documents = Vec::new();
    for (n, (start, node, first)) in starts.iter().enumerate() {
        let from = if n == 0 { 0 } else { start.byte };
        let to = starts.get(n + 1).map_or(text.len(), |(next, _, _)| next.byte);
        let mut written = text[from..to].to_owned();
        if !written.ends_with('\n') {
            written.push('\n');
        }
        let until =
            first.map_or(from, |first| text[from..first].rfind('\n').map_or(from, |end| from + end + 1));
        let mut head = text[from..until].to_owned();
        if n > 0 && !head.lines().any(|line| line.starts_with("---")) {
            head.insert_str(0, "---\n"); // the value stood behind it, on its line
        }
        documents.push(Document {
            written,
            head,
            line: start.line,
            original: node.clone(),
            root: node.clone(),
        });
    }
    Ok(documents)
}

#[derive(Clone, Copy)]
struct Mark {
    byte: usize,
    line: usize,
}

struct Loader<'t> {
    events: Parser<'t, granit_parser::StrInput<'t>>,
    anchors: HashMap<usize, Node>,
    made: usize,
}

impl<'t> Loader<'t> {
    fn next(&mut self) -> Result<(Event<'t>, Mark), Fault> {
        match self.events.next() {
            Some(Ok((event, span))) => {
                let byte = span.byte_range().map_or(0, |range| range.start);
                Ok((event, Mark { byte, line: span.start.line() }))
            }
            Some(Err(error)) => Err(Fault { line: error.marker().line(), message: error.to_string() }),
            None => Ok((Event::StreamEnd, Mark { byte: 0, line: 0 })),
        }
    }

    /// Its value, and where that begins.
    fn document(&mut self) -> Result<(Node, Option<usize>), Fault> {
        let (event, at) = self.next()?;
        if matches!(event, Event::DocumentEnd) {
            return Ok((Node::plain(""), None));
        }
        let first = Some(at.byte);
        Ok((self.node(event, at)?, first))
    }

    fn node(&mut self, event: Event<'t>, at: Mark) -> Result<Node, Fault> {
        let fault = |message: &str| Fault { line: at.line, message: message.to_owned() };
        self.made += 1;
        if self.made > MOST_NODES {
            return Err(fault("it holds more than a million values: give fewer manifests at once"));
        }
        let (node, anchor) = match event {
            Event::Scalar(text, style, anchor, tag) => {
                let quotes = match style {
                    ScalarStyle::Plain => Quotes::None,
                    ScalarStyle::SingleQuoted => Quotes::Single,
                    ScalarStyle::DoubleQuoted => Quotes::Double,
                    ScalarStyle::Literal | ScalarStyle::Folded => Quotes::Block,
                };
                (Node::Scalar { text: text.into_owned(), quotes, tag: shown(tag.as_deref()) }, anchor)
            }
            Event::SequenceStart(_, anchor, tag) => {
                only_standard(tag.as_deref(), "seq").map_err(|message| fault(&message))?;
                let mut items = Vec::new();
                loop {
                    match self.next()? {
                        (Event::SequenceEnd, _) => break,
                        (event, at) => items.push(self.node(event, at)?),
                    }
                }
                (Node::List(items), anchor)
            }
            Event::MappingStart(_, anchor, tag) => {
                only_standard(tag.as_deref(), "map").map_err(|message| fault(&message))?;
                let mut entries: Vec<(Node, Node)> = Vec::new();
                let mut merged = Vec::new();
                loop {
                    let (event, at) = match self.next()? {
                        (Event::MappingEnd, _) => break,
                        key => key,
                    };
                    let key = self.node(event, at)?;
                    if key.as_text().is_none() {
                        return Err(Fault {
                            line: at.line,
                            message: "a key is no text: write a name".to_owned(),
                        });
                    }
                    let (event, value_at) = self.next()?;
                    let value = self.node(event, value_at)?;
                    if key == Node::plain("<<") {
                        merged.push(value);
                    } else if entries.iter().any(|(known, _)| same_key(known, &key)) {
                        let key = key.as_text().unwrap_or_default();
                        let message =
                            format!("the key {key:?} stands there twice: which is meant? Leave one out");
                        return Err(Fault { line: at.line, message });
                    } else {
                        entries.push((key, value));
                    }
                }
                merge(&mut entries, merged);
                (Node::Map(entries), anchor)
            }
            Event::Alias(id) => {
                let node =
                    self.anchors.get(&id).cloned().ok_or_else(|| fault("an alias within what it names"))?;
                self.made += size(&node);
                (node, 0)
            }
            other => return Err(fault(&format!("{other:?} is not expected here"))),
        };
        if anchor > 0 {
            self.anchors.insert(anchor, node.clone());
        }
        Ok(node)
    }
}

fn same_key(a: &Node, b: &Node) -> bool {
    a.as_text() == b.as_text()
}

/// Kubernetes has no others.
fn only_standard(tag: Option<&Tag>, suffix: &str) -> Result<(), String> {
    match tag {
        Some(tag) if !tag.is_yaml_core_schema_tag(suffix) => {
            Err(format!("Kubernetes has no tag {tag}: leave it out"))
        }
        _ => Ok(()),
    }
}

/// What `<<` brings: keys that are not there yet, before those that are; the first that brings one wins.
fn merge(entries: &mut Vec<(Node, Node)>, merged: Vec<Node>) {
    let mut brought: Vec<(Node, Node)> = Vec::new();
    for value in merged {
        let maps = match value {
            Node::List(items) => items,
            map => vec![map],
        };
        for (key, value) in maps.iter().flat_map(Node::entries) {
            if !entries.iter().chain(&brought).any(|(known, _)| same_key(known, key)) {
                brought.push((key.clone(), value.clone()));
            }
        }
    }
    entries.splice(0..0, brought);
}

fn size(node: &Node) -> usize {
    match node {
        Node::Scalar { .. } => 1,
        Node::List(items) => 1 + items.iter().map(size).sum::<usize>(),
        Node::Map(entries) => 1 + entries.iter().map(|(key, value)| size(key) + size(value)).sum::<usize>(),
    }
}

/// A scalar's tag as it is written before it.
fn shown(tag: Option<&Tag>) -> String {
    let Some(tag) = tag.map(ToString::to_string) else { return String::new() };
    match tag.strip_prefix("tag:yaml.org,2002:") {
        Some(suffix) => format!("!!{suffix} "),
        None if tag.starts_with('!') => format!("{tag} "),
        None => format!("!<{tag}> "),
    }
}

/// Block style, two spaces deeper for each map, lists at the depth of their key: as kubectl writes.
fn write_block(node: &Node, depth: usize, out: &mut String) {
    match node {
        Node::Map(entries) if !entries.is_empty() => {
            for (n, (key, value)) in entries.iter().enumerate() {
                if n > 0 {
                    indent(depth, out);
                }
                write_key(key, out);
                out.push(':');
                write_value(value, depth, out);
            }
        }
        Node::List(items) if !items.is_empty() => {
            for (n, item) in items.iter().enumerate() {
                if n > 0 {
                    indent(depth, out);
                }
                out.push('-');
                write_item(item, depth, out);
            }
        }
        other => {
            write_scalar(other, depth, out);
            out.push('\n');
        }
    }
}

/// Behind a key and its colon.
fn write_value(value: &Node, depth: usize, out: &mut String) {
    let deeper = match value {
        Node::Map(entries) if !entries.is_empty() => depth + 1,
        Node::List(items) if !items.is_empty() => depth,
        scalar => {
            if scalar != &Node::plain("") {
                out.push(' ');
                write_scalar(scalar, depth, out);
            }
            return out.push('\n');
        }
    };
    out.push('\n');
    indent(deeper, out);
    write_block(value, deeper, out);
}

/// Behind the dash of a list's item.
fn write_item(item: &Node, depth: usize, out: &mut String) {
    let holds_more = match item {
        Node::Map(entries) => !entries.is_empty(),
        Node::List(items) => !items.is_empty(),
        Node::Scalar { .. } => false,
    };
    if holds_more {
        out.push(' ');
        write_block(item, depth + 1, out);
    } else {
        write_value(item, depth, out);
    }
}

fn indent(depth: usize, out: &mut String) {
    out.extend(std::iter::repeat_n("  ", depth));
}

/// On one line.
fn write_key(key: &Node, out: &mut String) {
    match key {
        Node::Scalar { text, quotes: Quotes::Block, .. } => write_quoted(text, out),
        key => write_scalar(key, 0, out),
    }
}

fn write_scalar(node: &Node, depth: usize, out: &mut String) {
    match node {
        Node::Map(_) => out.push_str("{}"),
        Node::List(_) => out.push_str("[]"),
        Node::Scalar { text, quotes, tag } => {
            out.push_str(tag);
            match quotes {
                Quotes::None if !text.contains('\n') => out.push_str(text),
                Quotes::Single if !text.contains(needs_escape) => {
                    _ = write!(out, "'{}'", text.replace('\'', "''"));
                }
                Quotes::Block if can_be_block(text) => write_lines(text, depth, out),
                _ => write_quoted(text, out),
            }
        }
    }
}

fn needs_escape(c: char) -> bool {
    c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{feff}')
}

fn can_be_block(text: &str) -> bool {
    let odd = |c: char| needs_escape(c) && !matches!(c, '\n' | '\t');
    let only_blanks = |line: &str| !line.is_empty() && line.trim_matches([' ', '\t']).is_empty();
    !text.contains(odd) && !text.trim_matches('\n').is_empty() && !text.split('\n').any(only_blanks)
}

fn write_lines(text: &str, depth: usize, out: &mut String) {
    out.push('|');
    if text.starts_with([' ', '\t', '\n']) {
        out.push('2'); // else the first line would tell the depth
    }
    match (text.ends_with('\n'), text.ends_with("\n\n")) {
        (false, _) => out.push('-'),
        (true, true) => out.push('+'),
        (true, false) => {}
    }
    for line in text.strip_suffix('\n').unwrap_or(text).split('\n') {
        out.push('\n');
        if !line.is_empty() {
            indent(depth + 1, out);
            out.push_str(line);
        }
    }
}

fn write_quoted(text: &str, out: &mut String) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            c if needs_escape(c) => _ = write!(out, "\\u{:04x}", u32::from(c)),
            c => out.push(c),
        }
    }
    out.push('"');
}
