//! Layers point one way: `docs/architecture.md` holds the table; the manifest of every layer, and every path in those that are
//! modules of the root crate, are held against it.

use std::collections::{BTreeMap, BTreeSet};

use crate::support::source::{self, SourceFile};

/// The layers that are modules of the root crate; every other one is a crate, or several.
const INSIDE_THE_ROOT: [&str; 2] = ["gateway", "cli"];
/// Longest file that is still one room.
const LINES_MAX: usize = 600;

#[test]
fn every_crate_depends_on_what_the_table_allows() {
    let allowed = table();
    let mut wrong = Vec::new();
    let mut seen = BTreeSet::new();
    for Room { name, layer, uses, .. } in rooms() {
        let allowed = allowed.get(&layer).unwrap_or_else(|| panic!("{name} is of no layer in the table"));
        for (used, its_layer) in uses {
            let words_of_pages = used == "portico-phrases";
            let own = its_layer == layer && !words_of_pages;
            if own || !(allowed.contains(&its_layer) || words_of_pages && layer == "surface") {
                wrong.push(format!("{name}: {layer} may not use {used}"));
            }
        }
        seen.insert(layer);
    }
    assert!(wrong.is_empty(), "arrows drawn the wrong way:\n{}", wrong.join("\n"));
    let unseen: Vec<&String> = allowed.keys().filter(|layer| !INSIDE_THE_ROOT.contains(&layer.as_str())).collect();
    assert!(unseen.iter().all(|layer| seen.contains(*layer)), "layers without a crate: {unseen:?}, found {seen:?}");
}

#[test]
fn every_path_of_the_root_crate_follows_the_table_too() {
    let allowed = table();
    let mut wrong = Vec::new();
    for file in source::house() {
        let Some(layer) = INSIDE_THE_ROOT.into_iter().find(|layer| is_of(&file.path, layer)) else { continue };
        for (line, used) in layers_named(&file) {
            if used != layer && !allowed[layer].contains(used.as_str()) {
                wrong.push(format!("{}:{line}: {layer} may not use {used}", file.path));
            }
        }
    }
    assert!(wrong.is_empty(), "arrows drawn the wrong way:\n{}", wrong.join("\n"));
}

#[test]
fn the_domain_and_the_ports_know_no_protocol() {
    for crate_name in ["domain", "port"] {
        let manifest = source::read(&format!("crates/{crate_name}/Cargo.toml"));
        for foreign in ["http", "hyper", "prost", "connectrpc", "tower", "redis", "sqlx", "rusqlite"] {
            let names = manifest.lines().any(|line| line.split(['.', ' ']).next() == Some(foreign));
            assert!(!names, "{crate_name} names {foreign}");
        }
    }
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
        .filter(|path| !path.ends_with("/lib.rs") && *path != "src/main.rs" && !declared.contains(*path))
        .collect();
    assert!(orphans.is_empty(), "no module declares {orphans:?}");
}

#[test]
fn only_the_engine_names_its_crate() {
    for Room { layer, manifest, .. } in rooms() {
        let named = source::read(&manifest).contains("connectrpc");
        assert!(layer == "edge" || !named, "{manifest} names the engine's crate");
    }
    for file in
        source::house().iter().filter(|file| file.path.starts_with("crates/edge/") || file.path.starts_with("src/"))
    {
        let engine = file.path.starts_with("crates/edge/src/engine");
        assert!(engine || !file.code().contains("connectrpc::"), "{} names the engine's crate", file.path);
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

/// A crate that is a layer, or one page of the surface.
struct Room {
    name: String,
    layer: String,
    manifest: String,
    /// Its crates of ours that are layers, each with its layer.
    uses: Vec<(String, String)>,
}

/// Every crate below `crates/` that belongs to a layer.
fn rooms() -> Vec<Room> {
    let layers = table();
    let folders = source::files("crates").into_iter().chain(source::files("crates/surfaces"));
    let named: BTreeMap<String, (String, String)> = folders
        .filter_map(|folder| {
            let name = folder.rsplit('/').next()?.to_owned();
            let layer = if folder.starts_with("crates/surfaces/") { "surface".to_owned() } else { name.clone() };
            layers.contains_key(&layer).then(|| (format!("portico-{name}"), (folder, layer)))
        })
        .collect();
    let uses = |manifest: &str| {
        let manifest = source::read(manifest);
        let dependencies = manifest.split("[dev-dependencies]").next().unwrap_or_default();
        let names = dependencies.lines().filter_map(|line| line.split(['.', ' ']).next());
        names.filter_map(|name| Some((name.to_owned(), named.get(name)?.1.clone()))).collect()
    };
    named
        .iter()
        .map(|(name, (folder, layer))| {
            let manifest = format!("{folder}/Cargo.toml");
            Room { name: name.clone(), layer: layer.clone(), uses: uses(&manifest), manifest }
        })
        .collect()
}

fn is_of(path: &str, layer: &str) -> bool {
    path == format!("src/{layer}.rs") || path.starts_with(&format!("src/{layer}/"))
}

/// Layers that a file of the root crate names: as a crate, or as `crate::layer` or `portico::layer`, also within braces.
fn layers_named(file: &SourceFile) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let code = file.code();
    for room in rooms() {
        let path = format!("{}::", room.name.replace('-', "_"));
        found.extend(code.match_indices(&path).map(|(at, _)| (source::line_of(&code, at), room.layer.clone())));
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
