//! The source tree as text, for tests about the house itself.

use std::{fs, path::Path};

/// A file of the source tree.
pub(crate) struct SourceFile {
    /// Relative to the repository, with slashes.
    pub(crate) path: String,
    /// Its text.
    pub(crate) text: String,
}

impl SourceFile {
    /// The text without comments and without the unit tests at its end.
    pub(crate) fn code(&self) -> String {
        let code = self.text.split("\n#[cfg(test)]\nmod tests").next().unwrap_or_default();
        code.lines()
            .map(|line| if line.trim_start().starts_with("//") { "" } else { line })
            .collect::<Vec<_>>()
            .join("\n")
    }
}

/// Every Rust file of the crates, the root's included.
pub(crate) fn house() -> Vec<SourceFile> {
    let files = ["src", "crates"].into_iter().flat_map(below);
    files.filter(|file| file.path.starts_with("src/") || file.path.contains("/src/")).collect()
}

/// Every Rust file of the repository that people write.
pub(crate) fn all() -> Vec<SourceFile> {
    ["src", "crates", "tests", "examples", "benches"].into_iter().flat_map(below).collect()
}

/// The text of a file.
pub(crate) fn read(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path))
        .unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The files that a file's `mod` lines declare, as `name.rs`.
pub(crate) fn modules_declared(file: &SourceFile) -> Vec<String> {
    let module = file.path.trim_end_matches(".rs");
    // The root of a crate declares what lies beside it.
    let folder = module.strip_suffix("/lib").or_else(|| module.strip_suffix("/main")).unwrap_or(module);
    let names = file.text.lines().filter_map(|line| {
        let line = line.trim_start();
        let line = line.strip_prefix("pub ").unwrap_or(line);
        let line = line.strip_prefix("pub(crate) ").or_else(|| line.strip_prefix("pub(super) ")).unwrap_or(line);
        line.strip_prefix("mod ")?.strip_suffix(';').map(str::to_owned)
    });
    names.map(|name| format!("{folder}/{name}.rs")).collect()
}

/// What stands between these two, each time.
pub(crate) fn enclosed<'t>(text: &'t str, before: &'t str, after: char) -> impl Iterator<Item = &'t str> {
    text.match_indices(before).filter_map(move |(at, found)| text[at + found.len()..].split(after).next())
}

/// The line, from 1, of a place in a text.
pub(crate) fn line_of(text: &str, at: usize) -> usize {
    text[..at].matches('\n').count() + 1
}

/// The identifier at the start of a text.
pub(crate) fn leading_name(text: &str) -> String {
    text.chars().take_while(|letter| letter.is_alphanumeric() || *letter == '_').collect()
}

/// The first identifier of each member of a brace group whose opening brace was just passed.
pub(crate) fn first_names(group: &str) -> Vec<String> {
    let (mut names, mut depth, mut member) = (Vec::new(), 0usize, String::new());
    for letter in group.chars() {
        match letter {
            '}' if depth == 0 => break,
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => names.push(std::mem::take(&mut member)),
            letter if depth == 0 => member.push(letter),
            _ => {}
        }
    }
    names.push(member);
    names.iter().map(|member| leading_name(member.trim())).filter(|name| !name.is_empty()).collect()
}

fn below(folder: &str) -> Vec<SourceFile> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let (mut files, mut queue) = (Vec::new(), vec![root.join(folder)]);
    while let Some(folder) = queue.pop() {
        let Ok(entries) = fs::read_dir(&folder) else { continue };
        for path in entries.map(|entry| entry.expect("a readable entry").path()) {
            let is_rust = path.extension().is_some_and(|extension| extension == "rs");
            if path.is_dir() && path.file_name().is_none_or(|name| name != "target") {
                queue.push(path);
            } else if is_rust {
                let relative = path.strip_prefix(root).expect("a path below the root");
                let text = fs::read_to_string(&path).expect("a readable file");
                files.push(SourceFile { path: relative.to_string_lossy().replace('\\', "/"), text });
            }
        }
    }
    files.sort_by(|one, other| one.path.cmp(&other.path));
    files
}

/// The files in a folder, relative to the repository, in order.
pub(crate) fn files(folder: &str) -> Vec<String> {
    let entries = fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(folder)).unwrap();
    let mut files: Vec<String> =
        entries.map(|entry| format!("{folder}/{}", entry.unwrap().file_name().to_string_lossy())).collect();
    files.sort();
    files
}

/// Holds a generated document against the one that is checked in; with `PORTICO_UPDATE` set, writes it instead.
#[expect(clippy::disallowed_methods, reason = "the variable is for this test alone; the gateway knows nothing of it")]
pub(crate) fn checked_in(path: &str, generated: &str) {
    if std::env::var_os("PORTICO_UPDATE").is_some() {
        return fs::write(Path::new(env!("CARGO_MANIFEST_DIR")).join(path), generated).unwrap();
    }
    assert!(read(path) == generated, "{path} is stale: run `make update`");
}
