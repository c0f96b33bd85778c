//! Layers point one way: `docs/architecture.md` holds the table, and every path in the source is held against it.

use std::collections::{BTreeMap, BTreeSet};

use crate::support::source::{self, SourceFile};

/// Longest file that is still one room.
const LINES_MAX: usize = 600;

#[test]
fn every_path_follows_the_table_in_the_architecture() {
    let allowed = table();
    let mut wrong = Vec::new();
    for file in source::house() {
        let Some(layer) = layer_of(&file.path) else { continue };
        let uses = allowed.get(layer).unwrap_or_else(|| panic!("{} is of no layer in the table", file.path));
        for (line, used) in layers_named(&file) {
            if used != layer && !uses.contains(used.as_str()) {
                wrong.push(format!("{}:{line}: {layer} may not use {used}", file.path));
            }
        }
    }
    assert!(wrong.is_empty(), "arrows drawn the wrong way:\n{}", wrong.join("\n"));
}

#[test]
fn every_module_says_what_it_is_for_and_is_still_one_room() {
    let mut wrong = Vec::new();
    for file in source::all() {
        if !file.text.starts_with("//!") {
            wrong.push(format!("{} does not open with //!", file.path));
        }
        let lines = file.text.lines().count();
        if lines > LINES_MAX {
            wrong.push(format!("{} has {lines} lines", file.path));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_file_belongs_to_a_module() {
    let files = source::house();
    let declared: BTreeSet<String> = files.iter().flat_map(source::modules_declared).collect();
    let orphans: Vec<&str> = files
        .iter()
        .map(|file| file.path.as_str())
        .filter(|path| !matches!(*path, "src/lib.rs" | "src/main.rs") && !declared.contains(*path))
        .collect();
    assert!(orphans.is_empty(), "no module declares {orphans:?}");
}

#[test]
fn only_the_engine_names_its_crate_and_only_the_gateway_names_backends() {
    for file in source::house() {
        let engine = file.path.starts_with("src/edge/engine");
        assert!(engine || !file.code().contains("connectrpc::"), "{} names the engine's crate", file.path);
        let may_name_backends = file.path.starts_with("src/backend") || file.path.starts_with("src/gateway");
        assert!(may_name_backends || !file.code().contains("crate::backend"), "{} names a backend", file.path);
    }
}

/// Layer to the layers that it may use, from the table under "Layers".
fn table() -> BTreeMap<String, BTreeSet<String>> {
    let text = source::read("docs/architecture.md");
    let section = text.split("\n## ").find(|section| section.starts_with("Layers")).expect("a section named Layers");
    let mut rows = BTreeMap::new();
    for row in section.lines().filter(|line| line.starts_with("| `")) {
        let cells: Vec<&str> = row.trim_matches('|').split('|').collect();
        let names =
            |cell: &str| -> BTreeSet<String> { cell.split('`').skip(1).step_by(2).map(str::to_owned).collect() };
        let layer = names(cells[0]).into_iter().next().expect("a layer in the first cell");
        rows.insert(layer, names(cells[1]));
    }
    assert!(rows.len() > 9, "the table was not found");
    rows
}

fn layer_of(path: &str) -> Option<&str> {
    let inside = path.strip_prefix("src/")?;
    let layer = inside.split('/').next()?.trim_end_matches(".rs");
    // The map and the entry point name everything by design.
    (!matches!(layer, "lib" | "main")).then_some(layer)
}

/// Layers that a file names, by `crate::layer`, also within braces, and by the crates that are layers.
fn layers_named(file: &SourceFile) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let code = file.code();
    for (crate_name, layer) in [("portico_base", "base"), ("portico_wire", "wire")] {
        for (at, _) in code.match_indices(crate_name) {
            found.push((source::line_of(&code, at), layer.to_owned()));
        }
    }
    for prefix in ["crate::", "portico::"] {
        for (at, _) in code.match_indices(prefix) {
            if code[..at].ends_with(|before: char| before.is_alphanumeric() || before == '_') {
                continue;
            }
            let rest = &code[at + prefix.len()..];
            let names = match rest.strip_prefix('{') {
                Some(group) => source::first_names(group),
                None => vec![source::leading_name(rest)],
            };
            found.extend(names.into_iter().map(|name| (source::line_of(&code, at), name)));
        }
    }
    found
}
