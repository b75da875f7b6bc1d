// SPDX-License-Identifier: GPL-2.0-or-later
//! Cycles among the files of a room: which file names something of which other, seen through re-exports.

use std::collections::{BTreeMap, BTreeSet};

/// A module by its path from the crate.
type Module = Vec<String>;

/// The source files of the crate, and what each re-exports: name to the path behind it, from its own module.
pub(crate) struct Sources<'a> {
    files: BTreeMap<Module, (&'a str, String)>,
    exports: BTreeMap<Module, BTreeMap<String, Vec<String>>>,
}

fn module_of(name: &str) -> Option<Module> {
    let path = name.strip_prefix("src/")?.strip_suffix(".rs")?;
    let path = path.strip_suffix("/mod").unwrap_or(path);
    Some(path.split('/').map(str::to_owned).collect())
}

/// The paths of a use tree, each with the name that it brings.
fn flatten(tree: &str, prefix: &[String], found: &mut Vec<(String, Vec<String>)>) {
    let tree = tree.trim();
    if let Some(open) = tree.find('{') {
        let close = tree.rfind('}').unwrap_or(tree.len());
        let mut path = prefix.to_vec();
        path.extend(
            tree[..open].split("::").map(str::trim).filter(|part| !part.is_empty()).map(str::to_owned),
        );
        let (mut depth, mut start) = (0, open + 1);
        for (at, c) in tree[open + 1..close].char_indices().map(|(at, c)| (at + open + 1, c)) {
            match c {
                '{' => depth += 1,
                '}' => depth -= 1,
                ',' if depth == 0 => {
                    flatten(&tree[start..at], &path, found);
                    start = at + 1;
                }
                _ => {}
            }
        }
        flatten(&tree[start..close], &path, found);
        return;
    }
    if tree.is_empty() {
        return;
    }
    let (tree, alias) =
        tree.split_once(" as ").map_or((tree, None), |(tree, alias)| (tree, Some(alias.trim())));
    let mut path = prefix.to_vec();
    path.extend(tree.split("::").map(|part| part.trim().to_owned()));
    if path.last().is_some_and(|last| last == "self") {
        path.pop();
    }
    let Some(last) = path.last().cloned() else { return };
    found.push((alias.map_or(last, str::to_owned), path));
}

/// The `use` items of a text, with whether they are re-exports.
fn uses(text: &str) -> Vec<(bool, String, Vec<String>)> {
    let mut found = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find("use ") {
        let line = &rest[rest[..at].rfind('\n').map_or(0, |n| n + 1)..at];
        let Some(end) = rest[at..].find(';') else { break };
        let visibility = line.trim();
        if visibility.is_empty()
            || visibility.starts_with("pub") && !visibility.contains(' ')
            || visibility.ends_with(')')
        {
            let mut paths = Vec::new();
            flatten(&rest[at + 4..at + end], &[], &mut paths);
            found.extend(paths.into_iter().map(|(name, path)| (!visibility.is_empty(), name, path)));
            rest = &rest[at + end..];
        } else {
            rest = &rest[at + 4..];
        }
    }
    found
}

/// Paths in code that begin with `super::` or `crate::`; [`uses`] sees the trees of `use` items.
fn inline(text: &str) -> Vec<Vec<String>> {
    let mut found = Vec::new();
    for start in ["super::", "crate::"] {
        for (at, _) in text.match_indices(start) {
            if text[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == ':') {
                continue;
            }
            let end = text[at..].find(|c: char| !(c.is_alphanumeric() || c == '_' || c == ':'));
            let (path, rest) = text[at..].split_at(end.unwrap_or(text.len() - at));
            if path.ends_with("::") && rest.starts_with('{') {
                continue;
            }
            found.push(path.split("::").filter(|part| !part.is_empty()).map(str::to_owned).collect());
        }
    }
    found
}

impl<'a> Sources<'a> {
    /// Of files with their names; `shipped` gives a text without comments and tests.
    pub(crate) fn new(files: impl Iterator<Item = (&'a str, String)>) -> Self {
        let files: BTreeMap<_, _> =
            files.filter_map(|(name, text)| Some((module_of(name)?, (name, text)))).collect();
        let exports = files.iter().map(|(module, (_, text))| {
            let public = uses(text).into_iter().filter(|(public, ..)| *public);
            (module.clone(), public.map(|(_, name, path)| (name, path)).collect())
        });
        let exports = exports.collect();
        Self { files, exports }
    }

    /// The file that has what a path in a module means.
    fn resolve(&self, from: &Module, path: &[String], depth: usize) -> Option<Module> {
        let (mut at, mut rest) = match path.first()?.as_str() {
            "crate" => (Module::new(), &path[1..]),
            "self" => (from.clone(), &path[1..]),
            "super" => (from[..from.len().checked_sub(1)?].to_vec(), &path[1..]),
            first if self.files.contains_key(&[from.as_slice(), &[first.to_owned()]].concat()) => {
                (from.clone(), path)
            }
            _ => return None,
        };
        while let Some((first, more)) = rest.split_first() {
            if first == "super" {
                at.pop();
                rest = more;
                continue;
            }
            let child = [at.as_slice(), std::slice::from_ref(first)].concat();
            if self.files.contains_key(&child) {
                (at, rest) = (child, more);
                continue;
            }
            let exported = self.exports.get(&at).and_then(|names| names.get(first));
            if let Some(exported) = exported.filter(|_| depth < 8)
                && let Some(found) = self.resolve(&at, exported, depth + 1)
            {
                return Some(found);
            }
            break;
        }
        Some(at)
    }

    /// Which files of its room a file names.
    fn edges(&self, module: &Module) -> BTreeSet<&Module> {
        let (_, text) = &self.files[module];
        let imports = uses(text).into_iter().filter(|(public, ..)| !public).map(|(_, _, path)| path);
        let targets = imports.chain(inline(text)).filter_map(|path| self.resolve(module, &path, 0));
        let targets = targets.filter(|target| target.first() == module.first() && target != module);
        targets.filter_map(|target| self.files.get_key_value(&target).map(|(key, _)| key)).collect()
    }

    /// Files that name each other in a circle, each set once, by their names.
    pub(crate) fn cycles(&self) -> Vec<Vec<&'a str>> {
        let edges: BTreeMap<&Module, BTreeSet<&Module>> =
            self.files.keys().map(|module| (module, self.edges(module))).collect();
        let reach = |from: &'_ Module| {
            let (mut seen, mut todo) = (BTreeSet::new(), vec![from]);
            while let Some(next) = todo.pop() {
                for &target in edges.get(next).into_iter().flatten() {
                    if seen.insert(target.clone()) {
                        todo.push(edges.get_key_value(target).expect("a file").0);
                    }
                }
            }
            seen
        };
        let reached: BTreeMap<&Module, BTreeSet<Module>> =
            self.files.keys().map(|module| (module, reach(module))).collect();
        let mut found: Vec<Vec<&'a str>> = Vec::new();
        for (module, targets) in &reached {
            let circle: Vec<_> = targets.iter().filter(|target| reached[*target].contains(*module)).collect();
            let mut names: Vec<_> = circle.iter().map(|module| self.files[*module].0).collect();
            names.sort_unstable();
            if !names.is_empty() && !found.contains(&names) {
                found.push(names);
            }
        }
        found
    }
}
