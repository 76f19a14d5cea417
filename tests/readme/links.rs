//! Every link of every page leads to a file, and to a section of it. Links to other sites are not followed.

use std::fs;
use std::path::{Path, PathBuf};

#[test]
fn links_to_files_and_sections_lead_somewhere() {
    let pages = pages();
    assert!(pages.len() > 6, "{pages:?}");
    for page in &pages {
        let text = prose(&fs::read_to_string(page).unwrap());
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            if link.starts_with("https://") {
                continue;
            }
            let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
            let target = if file.is_empty() { page.clone() } else { page.parent().unwrap().join(file) };
            assert!(target.exists(), "{}: {link} is no file", page.display());
            let found = anchor.is_empty() || anchors(&target).iter().any(|a| a == anchor);
            assert!(found, "{}: {link} is no section", page.display());
        }
    }
}

/// Every Markdown page of the repository.
fn pages() -> Vec<PathBuf> {
    let mut pages = Vec::new();
    let mut folders = vec![PathBuf::from(".")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap()) {
            let name = entry.file_name().into_string().unwrap();
            if entry.file_type().unwrap().is_dir() {
                let ours = !name.starts_with('.') && !matches!(name.as_str(), "target" | "node_modules");
                folders.extend(ours.then(|| entry.path()));
            } else if entry.path().extension().is_some_and(|extension| extension == "md") {
                pages.push(entry.path());
            }
        }
    }
    pages
}

/// A page without its code, in which brackets are no links.
fn prose(text: &str) -> String {
    let fenced = text.split("\n```").step_by(2).collect::<Vec<_>>().join("\n");
    fenced.split('`').enumerate().map(|(n, piece)| if n % 2 == 0 { piece } else { "code" }).collect()
}

/// The names under which a page's sections can be linked to, as GitHub makes them.
fn anchors(page: &Path) -> Vec<String> {
    let text = fs::read_to_string(page).unwrap();
    let text = text.split("\n```").step_by(2).collect::<Vec<_>>().join("\n");
    let titles = text.lines().filter(|line| line.starts_with('#'));
    titles
        .map(|line| {
            let title = line.trim_start_matches('#').trim().to_lowercase();
            let kept = title.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
            kept.collect::<String>().replace(' ', "-")
        })
        .collect()
}
