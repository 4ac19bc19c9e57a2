//! The reference part of `docs/configuration.md` is written from the table of entities.

use std::fmt::Write as _;

use receptor_cli::config::entity::{ENTITIES, Entity, Param, Section, Support};

const HEADING: &str = "## Reference\n";

fn reference() -> String {
    let mut out = format!("{HEADING}\nEvery entity and parameter that is known by name.\n");
    for section in Section::ALL {
        let _ = writeln!(out, "\n### {}", section.title());
        for entity in ENTITIES
            .iter()
            .filter(|entity| entity.section == section && !entity.hidden)
        {
            write_entity(&mut out, entity);
        }
    }
    out
}

fn write_entity(out: &mut String, entity: &Entity) {
    let mut remarks = vec![match entity.support {
        Support::Supported => "supported",
        Support::Unavailable => "not supported yet: warned about",
        Support::Refused => "not supported yet: refused",
    }];
    if entity.singleton {
        remarks.push("once");
    }
    if entity.exclusive {
        remarks.push("alone");
    }
    let _ = writeln!(
        out,
        "\n#### {}\n\n{}. *{}*",
        entity.name,
        entity.about,
        remarks.join(", ")
    );
    if !entity.params.is_empty() {
        out.push_str("\n| parameter | type | default | |\n|---|---|---|---|\n");
        for param in entity.params {
            let _ = writeln!(
                out,
                "| `{}` | {} | {} | {}{} |",
                param.name,
                param.kind.label(),
                default(param),
                param.about,
                if param.bare { "; the name may be left out" } else { "" }
            );
        }
    }
}

fn default(param: &Param) -> String {
    match param.default {
        Some(default) => format!("`{default}`"),
        None if param.required => "required".into(),
        None => String::new(),
    }
}

/// `RECEPTOR_BLESS=1 cargo test -p receptor-cli` writes it anew.
#[test]
fn the_reference_is_that_of_the_table() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/configuration.md");
    let document = std::fs::read_to_string(path).unwrap();
    let start = document.find(HEADING).unwrap();
    if std::env::var_os("RECEPTOR_BLESS").is_some() {
        std::fs::write(path, document[..start].to_owned() + &reference()).unwrap();
        return;
    }
    assert_eq!(document[start..], reference());
}

/// The table at the top of the document is written by hand.
#[test]
fn the_summary_names_every_entity_under_its_support() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/configuration.md");
    let document = std::fs::read_to_string(path).unwrap();
    for entity in ENTITIES.iter().filter(|entity| !entity.hidden) {
        let row = match entity.support {
            Support::Supported => "| supported |",
            Support::Unavailable => "| not yet, without harm",
            Support::Refused => "| not yet, and the mesh",
        };
        let row = document.lines().find(|line| line.starts_with(row)).unwrap();
        assert!(row.contains(&format!("`{}`", entity.name)), "{}", entity.name);
    }
}
