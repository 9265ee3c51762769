//! systemd units that start a signer: which program, as whom, with which configurations.
//!
//! What systemd.syntax(7), systemd.service(5) and systemd.unit(5) say of continued lines, quotes, prefixes of a command, specifiers and
//! drop-ins, as far as it decides which file a unit names. A path with something in it that only systemd knows is said to be open, and
//! nothing is guessed.

use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// Longest unit or drop-in, in bytes.
const UNIT_MAX: u64 = 1 << 20;

/// Where systemd looks for units, the first place first.
const PLACES: [&str; 5] = [
    "/etc/systemd/system",
    "/run/systemd/system",
    "/usr/local/lib/systemd/system",
    "/usr/lib/systemd/system",
    "/lib/systemd/system",
];

/// Where systemd looks for a program without a path.
const PROGRAMS: [&str; 4] = ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin"];

/// What may stand in front of a command.
const PREFIXES: [char; 6] = ['-', '@', ':', '+', '!', '|'];

/// A file that a unit is made of.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) path: PathBuf,
    pub(super) text: String,
    /// Another unit is made of it too: a template, or what stands beside one.
    pub(super) is_shared: bool,
}

/// A unit with its drop-ins.
#[derive(Debug)]
pub(super) struct Unit {
    /// The file, or where that of the instance would be.
    pub(super) path: PathBuf,
    /// Its own file or template, then the drop-ins in their order. Never empty.
    pub(super) parts: Vec<Part>,
    name: String,
    instance: Option<String>,
}

/// A configuration that a command names.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Mention {
    /// As it is written, with specifiers put in.
    pub(super) text: String,
    /// What is meant.
    pub(super) path: PathBuf,
    /// It is what ExecStart hands to `-c`.
    pub(super) is_config: bool,
    /// Only systemd knows what it means: a specifier or a variable is left in it.
    pub(super) is_open: bool,
    part: usize,
    span: Range<usize>,
    written: String,
}

/// A logical line: its key, its value, and where each byte of the value is in the text.
struct Line {
    key: String,
    value: String,
    places: Vec<usize>,
}

/// A word without its quotes, and where it is in the text with them.
struct Word {
    text: String,
    span: Range<usize>,
}

/// The units that a pattern means: files, or the one instance that it names of a template that is there.
pub(super) fn matching(pattern: &str, max: usize) -> Result<Vec<PathBuf>, String> {
    let found = glob::glob(pattern).map_err(|error| format!("`{pattern}` is no pattern: {error}"))?;
    let mut found: Vec<PathBuf> = found.filter_map(Result::ok).filter(|path| path.is_file()).take(max + 1).collect();
    if found.len() > max {
        return Err(format!("`{pattern}` matches more than {max} files"));
    }
    let named = Path::new(pattern);
    if found.is_empty() && template_of(named).is_some_and(|template| template.is_file()) {
        found.push(named.into());
    }
    found.sort();
    Ok(found)
}

/// The parts of a name `PREFIX@INSTANCE.service`.
fn instance_of(name: &str) -> Option<(&str, &str)> {
    name.rsplit_once('.')?.0.split_once('@').filter(|(_, instance)| !instance.is_empty())
}

/// The template beside an instance.
fn template_of(path: &Path) -> Option<PathBuf> {
    let name = path.file_name()?.to_str()?;
    let (prefix, _) = instance_of(name)?;
    Some(path.with_file_name(format!("{prefix}@.{}", name.rsplit_once('.')?.1)))
}

/// The directory of units above that of a target, where links to the enabled ones are. Disabling a unit takes its link away.
fn enabled(path: &Path) -> Option<&Path> {
    let directory = path.parent()?;
    let name = directory.file_name()?.to_str()?;
    directory.parent().filter(|_| name.ends_with(".wants") || name.ends_with(".requires"))
}

fn read(path: &Path) -> io::Result<String> {
    if std::fs::metadata(path)?.len() > UNIT_MAX {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    std::fs::read_to_string(path)
}

impl Unit {
    /// Reads a unit and its drop-ins. An instance is read from its template, unless it has a file of its own.
    pub(super) fn read(link: &Path) -> io::Result<Self> {
        let name = link.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let instance = instance_of(&name).map(|(_, instance)| instance.to_owned());
        let path = enabled(link).map_or_else(|| link.to_owned(), |directory| directory.join(&name));
        let template = template_of(&path);
        let is_own = |whole: PathBuf| template.is_none() || whole.file_name() == path.file_name();
        let source = match path.canonicalize().is_ok_and(is_own) {
            true => path.clone(),
            false => link.canonicalize().or_else(|error| template.ok_or(error))?,
        };
        let is_shared = instance.is_some() && source.file_name() != path.file_name();
        let mut parts = vec![Part { text: read(&source)?, path: source, is_shared }];
        for (drop_in, is_shared) in drop_ins(&path, &name) {
            parts.push(Part { text: read(&drop_in)?, path: drop_in, is_shared });
        }
        Ok(Self { path, parts, name, instance })
    }

    /// Whether it is a template, of which only instances run.
    pub(super) fn is_template(&self) -> bool {
        self.instance.is_none() && self.name.contains("@.")
    }

    /// What it is read from, where it has no file of its own: a template, or the unit of a package.
    pub(super) fn elsewhere(&self) -> Option<&Path> {
        self.parts.first().map(|part| part.path.as_path()).filter(|source| *source != self.path)
    }

    /// Every line of every part, as key and value.
    pub(super) fn lines(&self) -> impl Iterator<Item = (String, String)> {
        self.parts.iter().flat_map(|part| lines(&part.text)).map(|line| (line.key, line.value))
    }

    /// The last value of a setting. An empty one takes back what was said before.
    pub(super) fn setting(&self, name: &str) -> Option<String> {
        let last = self.lines().filter(|(key, _)| key == name).map(|(_, value)| value).last();
        last.map(|value| self.expanded(&value)).filter(|value| !value.is_empty())
    }

    /// The program of ExecStart.
    pub(super) fn program(&self) -> Option<PathBuf> {
        let line = self.setting("ExecStart")?;
        let places: Vec<usize> = (0..line.len()).collect();
        let word = words(&Line { key: String::new(), value: line, places }).into_iter().next()?.text;
        let word = word.trim_start_matches(PREFIXES);
        let in_path = PROGRAMS.iter().map(|place| Path::new(place).join(word)).find(|path| path.exists());
        Some(if word.starts_with('/') { PathBuf::from(word) } else { in_path.unwrap_or_else(|| word.into()) })
    }

    /// The configurations that ExecStart names.
    pub(super) fn configs(&self) -> Vec<Mention> {
        self.mentions().into_iter().filter(|mention| mention.is_config).collect()
    }

    /// Everything in a command that may be a configuration. An ExecStart that a later one takes back names none.
    pub(super) fn mentions(&self) -> Vec<Mention> {
        let directory = self.directory();
        let mut found: Vec<Mention> = Vec::new();
        for (part, Part { text, .. }) in self.parts.iter().enumerate() {
            for line in lines(text).into_iter().filter(|line| line.key.starts_with("Exec")) {
                let is_start = line.key == "ExecStart";
                if is_start && line.value.is_empty() {
                    found.iter_mut().for_each(|mention| mention.is_config = false);
                }
                let mut is_value = false;
                for word in words(&line).into_iter().skip(1) {
                    let value = if is_value { Some(word.text.as_str()) } else { value_of(&word.text) };
                    let is_config = is_value || value.is_some_and(|value| !value.is_empty());
                    is_value = !is_value && value == Some("");
                    let written = value.unwrap_or(&word.text).to_owned();
                    if written.is_empty() || !is_config && !written.starts_with('/') {
                        continue;
                    }
                    let expanded = self.expanded(&written);
                    let is_open = expanded.contains('$') || is_unexpanded(&expanded);
                    let path = directory.join(expanded.replace("%%", "%"));
                    let is_config = is_start && is_config;
                    found.push(Mention { text: expanded, path, is_config, is_open, part, span: word.span, written });
                }
            }
        }
        found
    }

    /// One part with other paths in the place of some: what `renamed` says of each. None: nothing in it changes.
    pub(super) fn rewritten(&self, part: usize, renamed: impl Fn(&Mention) -> Option<String>) -> Option<String> {
        let text = &self.parts.get(part)?.text;
        let (mut out, mut at) = (String::with_capacity(text.len()), 0);
        for mention in self.mentions().iter().filter(|mention| mention.part == part) {
            let Some(new) = renamed(mention) else { continue };
            let new = new.replace('%', "%%");
            let raw = text.get(mention.span.clone())?;
            out.push_str(text.get(at..mention.span.start)?);
            match raw.rfind(&mention.written) {
                Some(start) => {
                    out.push_str(raw.get(..start)?);
                    out.push_str(&new);
                    out.push_str(raw.get(start + mention.written.len()..)?);
                }
                // Quotes or escapes in the middle of it.
                None => {
                    let flag =
                        raw.find('=').filter(|_| raw.starts_with('-')).map_or("", |end| raw.get(..=end).unwrap_or(""));
                    out.push_str(&format!("{flag}\"{new}\""));
                }
            }
            at = mention.span.end;
        }
        out.push_str(text.get(at..)?);
        (at > 0).then_some(out)
    }

    /// A text in which the instance is put in, so that it keeps its meaning under another name.
    pub(super) fn settled(&self, text: &str) -> String {
        let Some(instance) = &self.instance else { return text.to_owned() };
        replaced(text, |specifier| match specifier {
            'i' => Some(instance.clone()),
            'I' => Some(unescaped(instance)),
            _ => None,
        })
    }

    /// Where relative paths count from.
    fn directory(&self) -> PathBuf {
        let Some(directory) = self.setting("WorkingDirectory") else { return PathBuf::from("/") };
        let directory = directory.trim_start_matches('-');
        if directory == "~" {
            let user = self.setting("User").unwrap_or_else(|| "root".into());
            return super::users::home_of(&user).unwrap_or_else(|| PathBuf::from("/"));
        }
        PathBuf::from(directory)
    }

    /// With the specifiers put in that follow from the name. Those that stay are left as they are.
    fn expanded(&self, text: &str) -> String {
        let bare = self.name.rsplit_once('.').map_or(self.name.as_str(), |(bare, _)| bare);
        let prefix = bare.split_once('@').map_or(bare, |(prefix, _)| prefix);
        replaced(text, |specifier| match specifier {
            'i' => self.instance.clone(),
            'I' => self.instance.as_deref().map(unescaped),
            'n' => (!self.is_template()).then(|| self.name.clone()),
            'N' => (!self.is_template()).then(|| bare.to_owned()),
            'p' => Some(prefix.to_owned()),
            'P' => Some(unescaped(prefix)),
            _ => None,
        })
    }
}

/// What a word that may be a flag hands over as a configuration: empty where the next word does.
fn value_of(word: &str) -> Option<&str> {
    if let Some(rest) = word.strip_prefix("--config") {
        return if rest.is_empty() { Some("") } else { rest.strip_prefix('=') };
    }
    let short = word.strip_prefix('-').filter(|rest| !rest.starts_with('-'))?;
    let value = short.trim_start_matches('v').strip_prefix('c')?;
    Some(value.strip_prefix('=').unwrap_or(value))
}

/// Puts something in the place of specifiers; None leaves one as it is.
fn replaced(text: &str, with: impl Fn(char) -> Option<String>) -> String {
    let (mut out, mut chars) = (String::with_capacity(text.len()), text.chars().peekable());
    while let Some(c) = chars.next() {
        let specifier = if c == '%' { chars.next_if(char::is_ascii).or(Some('%')) } else { None };
        match specifier.map(|specifier| (specifier, with(specifier))) {
            Some((_, Some(text))) => out.push_str(&text),
            Some((specifier, None)) => out.extend(['%', specifier]),
            None => out.push(c),
        }
    }
    out
}

/// Whether a specifier is left.
fn is_unexpanded(text: &str) -> bool {
    text.replace("%%", "").contains('%')
}

/// The name of an instance as a path has it: `-` is `/`, `\x2d` a byte.
fn unescaped(text: &str) -> String {
    let (mut out, mut rest) = (Vec::new(), text.as_bytes());
    while let Some((first, after)) = rest.split_first() {
        let byte = after.strip_prefix(b"x").and_then(|digits| hex::decode(digits.get(..2)?).ok()?.first().copied());
        (rest, _) = match (first, byte) {
            (b'\\', Some(byte)) => (after.get(3..).unwrap_or_default(), out.push(byte)),
            (b'-', _) => (after, out.push(b'/')),
            (other, _) => (after, out.push(*other)),
        };
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// The drop-ins of a unit in the order in which they count, each with whether other units have it too.
fn drop_ins(path: &Path, name: &str) -> Vec<(PathBuf, bool)> {
    let directory = path.parent().unwrap_or(Path::new("."));
    let mut places = vec![directory];
    if PLACES.iter().any(|place| Path::new(place) == directory) {
        places = PLACES.iter().map(Path::new).collect();
    }
    let extension = name.rsplit_once('.').map_or("", |(_, extension)| extension);
    let mut names = vec![name.to_owned()];
    names.extend(instance_of(name).map(|(prefix, _)| format!("{prefix}@.{extension}")));
    let stem = name.rsplit_once('.').map_or(name, |(stem, _)| stem);
    names.extend(stem.match_indices('-').rev().filter_map(|(at, _)| Some(format!("{}.{extension}", stem.get(..=at)?))));
    let mut found: Vec<(PathBuf, bool)> = Vec::new();
    for (at, owner) in names.iter().enumerate() {
        for place in &places {
            let Ok(entries) = std::fs::read_dir(place.join(format!("{owner}.d"))) else { continue };
            for path in entries.filter_map(Result::ok).map(|entry| entry.path()) {
                let is_new = !found.iter().any(|(known, _)| known.file_name() == path.file_name());
                if is_new && path.extension().is_some_and(|extension| extension == "conf") && path.is_file() {
                    found.push((path, at > 0));
                }
            }
        }
    }
    found.sort_by(|(one, _), (other, _)| one.file_name().cmp(&other.file_name()));
    found
}

/// The logical lines of a text: continued ones are one, and comments between their parts are left out.
fn lines(text: &str) -> Vec<Line> {
    let mut found = Vec::new();
    let (mut joined, mut places, mut at): (String, Vec<usize>, usize) = (String::new(), Vec::new(), 0);
    for raw in text.split_inclusive('\n') {
        let start = at;
        at += raw.len();
        let line = raw.trim_end_matches(['\n', '\r']);
        let is_comment = line.trim_start().starts_with(['#', ';']);
        if is_comment && at < text.len() {
            continue;
        }
        let line = if is_comment { "" } else { line };
        let continued = line.strip_suffix('\\');
        let kept = continued.unwrap_or(line);
        joined.push_str(kept);
        places.extend(start..start + kept.len());
        if continued.is_some() && at < text.len() {
            joined.push(' ');
            places.push(start + kept.len());
            continue;
        }
        let leading = joined.len() - joined.trim_start().len();
        if let Some((key, value)) = joined.split_once('=') {
            let skipped = key.len() + 1 + (value.len() - value.trim_start().len());
            let value = value.trim().to_owned();
            let own = places.get(skipped..skipped + value.len()).unwrap_or_default().to_vec();
            found.push(Line { key: key.get(leading..).unwrap_or_default().trim().into(), value, places: own });
        }
        joined.clear();
        places.clear();
    }
    found
}

/// The words of a value.
fn words(line: &Line) -> Vec<Word> {
    let mut found = Vec::new();
    let mut current: Option<(String, usize)> = None;
    let mut quote = None;
    let place = |at: usize| line.places.get(at).copied().unwrap_or_default();
    let ended = |text: String, start: usize, end: usize| Word { text, span: place(start)..place(end - 1) + 1 };
    let mut chars = line.value.char_indices().peekable();
    while let Some((at, c)) = chars.next() {
        if quote.is_none() && c.is_whitespace() {
            found.extend(current.take().map(|(text, start)| ended(text, start, at)));
            continue;
        }
        let (text, _) = current.get_or_insert_with(|| (String::new(), at));
        match c {
            '\'' | '"' if quote.is_none() => quote = Some(c),
            c if Some(c) == quote => quote = None,
            '\\' => match chars.next() {
                Some((_, 's')) => text.push(' '),
                Some((_, 'x')) => {
                    let digits: String = [chars.next(), chars.next()].into_iter().flatten().map(|(_, c)| c).collect();
                    text.extend(u8::from_str_radix(&digits, 16).ok().map(char::from));
                }
                Some((_, other)) => text.push(other),
                None => {}
            },
            c => text.push(c),
        }
    }
    found.extend(current.map(|(text, start)| ended(text, start, line.value.len())));
    found
}

#[cfg(test)]
mod tests;
